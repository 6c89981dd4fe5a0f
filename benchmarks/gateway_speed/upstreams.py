"""The upstreams behind every gateway, and nginx as the plain proxy that nothing can beat."""

import http.client
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from answers import json_answer, stream_events
from processes import CannotMeasure, Program, free_port, start, wait_for

FOLDER = Path(__file__).parent
PAUSE_S = 0.005
START_TIMEOUT_S = 20.0
MODES = ("json", "stream", "paced")

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  types {{ application/json json; text/event-stream sse; }}
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  {servers}
}}
"""
# A static file cannot be asked for with POST, so the refusal is answered with the file.
ANSWER = """
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    root {folder};
    location = /status {{ stub_status; }}
    location = /health {{ return 200 "ok"; }}
    location = /v1/models {{
      default_type application/json;
      return 200 '{{"object": "list", "data": [{{"id": "answers-1", "object": "model"}}]}}';
    }}
    location = /v1/chat/completions {{ error_page 405 =200 /{file}; return 405; }}
  }}
"""
PROXY = """
  upstream {mode} {{
    server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /health {{ return 200 "ok"; }}
    location / {{
      proxy_pass http://{mode};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One canned upstream."""

    mode: str
    port: int

    @property
    def base_url(self) -> str:
        """What a gateway is told: up to and including the version."""
        return f"http://127.0.0.1:{self.port}/v1"

    def requests(self) -> int:
        """How many requests it has had; the count includes these questions of nginx's."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/requests" if self.mode == "paced" else "/status")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        if self.mode == "paced":
            return int(text)
        found = re.search(r"requests\s+\d+ \d+ (\d+)", text)
        assert found is not None
        return int(found[1])


def start_upstreams(folder: Path, running: list[Program]) -> dict[str, Upstream]:
    """Start nginx with the JSON body and the stream sent at once, and the paced stream."""
    folder.mkdir()
    (folder / "answer.json").write_bytes(json_answer())
    (folder / "answer.sse").write_bytes(b"".join(stream_events()))
    ports = {mode: free_port() for mode in MODES}
    servers = "".join(
        ANSWER.format(port=ports[mode], folder=folder, file=f"answer.{suffix}")
        for mode, suffix in (("json", "json"), ("stream", "sse"))
    )
    nginx = start_nginx("upstream", servers, folder)
    running.append(nginx)
    command = [sys.executable, str(FOLDER / "paced.py"), str(ports["paced"]), str(PAUSE_S)]
    paced = start("paced", command, folder)
    running.append(paced)
    wait_for(nginx, ports["json"], "/status", START_TIMEOUT_S)
    wait_for(paced, ports["paced"], "/requests", START_TIMEOUT_S)
    return {mode: Upstream(mode, port) for mode, port in ports.items()}


def start_nginx(name: str, servers: str, folder: Path) -> Program:
    """Start nginx with one worker.

    Raises:
        CannotMeasure: nginx is not installed.
    """
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise CannotMeasure("nginx is not installed; on Debian: apt-get install nginx-light")
    folder.mkdir(exist_ok=True)
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, servers=servers))
    return start(name, [binary, "-e", "stderr", "-p", str(folder), "-c", str(conf)], folder)
