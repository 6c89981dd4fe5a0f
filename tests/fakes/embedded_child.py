"""Stands in for the embedded models' child process: a tiny HTTP server that follows a script.

Run as a program. Its first argument is how it behaves: ``serve``, ``fail``, ``never-ready``,
``ready-once``, ``stubborn``.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


class Health(BaseHTTPRequestHandler):
    answers_left = 1_000_000

    def do_GET(self) -> None:
        type(self).answers_left -= 1
        self.send_response(200 if type(self).answers_left >= 0 else 503)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class Server(HTTPServer):
    allow_reuse_port = True


def main(behaviour: str) -> None:
    options = json.loads(sys.stdin.buffer.readline())
    sys.stderr.write(f"{behaviour} with {sorted(os.environ)}\n")
    sys.stderr.flush()
    if behaviour == "fail":
        sys.exit(7)
    Health.answers_left = {"never-ready": 0, "ready-once": 1}.get(behaviour, 1_000_000)
    server = Server(("127.0.0.1", options["port"]), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()
    if behaviour == "stubborn":
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
