"""A registry of OCI artefacts, as far as a chart is pushed and pulled."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
BLOB = "application/octet-stream"


@dataclass
class OciRegistry:
    """What was pushed, by `blobs/DIGEST` and `manifests/TAG` or `manifests/DIGEST`."""

    address: str
    kept: dict[str, bytes] = field(default_factory=dict)

    def put(self, place: str, content: bytes) -> str:
        """Keep content; returns its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        kind = place.partition("/")[0]
        self.kept[place] = self.kept[f"{kind}/{digest}"] = content
        return digest


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    registry: OciRegistry

    @property
    def place(self) -> str:
        """What is asked for: the last two parts of the path."""
        return "/".join(urlsplit(self.path).path.split("/")[-2:])

    def do_GET(self) -> None:
        """Send what was pushed, or greet."""
        if self.path == "/v2/":
            return self._answer(200)
        content = self.registry.kept.get(self.place)
        return self._answer(404) if content is None else self._answer(200, content)

    def do_HEAD(self) -> None:
        """Say whether it was pushed."""
        self.do_GET()

    def do_POST(self) -> None:
        """Say where a blob is uploaded to."""
        self._answer(202, location=f"{urlsplit(self.path).path}one")

    def do_PUT(self) -> None:
        """Take a blob or a manifest."""
        content = self.rfile.read(int(self.headers["content-length"]))
        digests = parse_qs(urlsplit(self.path).query).get("digest")
        place = f"blobs/{digests[0]}" if digests else self.place
        self._answer(201, digest=self.registry.put(place, content), location=self.path)

    def _answer(
        self, status: int, content: bytes = b"", *, location: str = "", digest: str = ""
    ) -> None:
        self.send_response(status)
        headers = {
            "content-type": MANIFEST if self.place.startswith("manifests/") else BLOB,
            "content-length": str(len(content)),
            "location": location,
            "docker-content-digest": digest,
        }
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def running_registry() -> Iterator[OciRegistry]:
    """Serve a registry in which there is nothing yet."""
    registry = OciRegistry("")
    handler = type("Handler", (_Handler,), {"registry": registry})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    registry.address = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
