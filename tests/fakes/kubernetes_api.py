"""Kubernetes' API as far as helm needs it: it keeps objects, and runs none of them."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import yaml

NAMESPACE = "default"
VERSION = {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
KINDS = {
    "v1": {
        "configmaps": "ConfigMap",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "pods": "Pod",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet"},
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "batch/v1": {"jobs": "Job"},
    "networking.k8s.io/v1": {"ingresses": "Ingress", "networkpolicies": "NetworkPolicy"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
}
"""What helm may ask for: the kinds by API and by name in paths."""
PROTOBUF = b"k8s\0"
MISSING = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}


@dataclass
class KubernetesApi:
    """The objects of a cluster with one namespace.

    Attributes:
        config: A kubeconfig that leads here.
    """

    config: Path
    objects: dict[tuple[str, str], Any] = field(default_factory=dict)

    def data(self, name: str) -> dict[str, str]:
        """Return what a Secret holds."""
        kept = self.objects["secrets", name]["data"]
        return {key: base64.b64decode(value).decode() for key, value in kept.items()}

    def secrets(self) -> dict[str, dict[str, str]]:
        """Return what all Secrets hold, but those in which helm keeps its releases."""
        names = [name for kind, name in self.objects if kind == "secrets"]
        return {name: self.data(name) for name in names if not name.startswith("sh.helm.")}

    def put(self, plural: str, sent: Any) -> Any:
        """Keep an object as a server would; returns it."""
        given = sent.pop("stringData", {})
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in given.items()}
        if encoded:
            sent["data"] = sent.get("data", {}) | encoded
        sent["metadata"] |= {"resourceVersion": "1", "uid": sent["metadata"]["name"]}
        self.objects[plural, sent["metadata"]["name"]] = sent
        return sent

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Return the status and the document that a request is answered with."""
        address = urlsplit(target)
        path = address.path.strip("/")
        if method == "GET" and (found := _discovered(path)) is not None:
            return 200, found
        _, _, place = path.partition(f"/namespaces/{NAMESPACE}/")
        plural, _, name = place.partition("/")
        if method == "GET" and not name:
            return 200, self._listed(plural, parse_qs(address.query).get("labelSelector", [""])[0])
        if method in {"POST", "PUT", "PATCH"}:
            is_binary = body.startswith(PROTOBUF)
            return 200, self.put(plural, _release(body) if is_binary else yaml.safe_load(body))
        if method == "DELETE":
            self.objects.pop((plural, name), None)
            return 200, {"kind": "Status", "status": "Success"}
        found = self.objects.get((plural, name))
        return (404, MISSING) if found is None else (200, found)

    def _listed(self, plural: str, selector: str) -> Any:
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        items = [
            each
            for (kind, _), each in self.objects.items()
            if kind == plural and each["metadata"].get("labels", {}).items() >= wanted.items()
        ]
        return {"kind": "SecretList", "apiVersion": "v1", "items": items, "metadata": {}}


def _release(sent: bytes) -> Any:
    """Read the Secret of a release, which alone is sent in Protobuf.

    Numbers of fields: k8s.io/api/core/v1/generated.proto (Secret) and
    k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto (ObjectMeta).
    """
    secret = _fields(_fields(sent.removeprefix(PROTOBUF))[2][0])
    metadata = _fields(secret[1][0])
    labels = {entry[1][0].decode(): entry[2][0].decode() for entry in map(_fields, metadata[11])}
    data = {
        entry[1][0].decode(): base64.b64encode(entry[2][0]).decode()
        for entry in map(_fields, secret[2])
    }
    name = metadata[1][0].decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": secret[3][0].decode(),
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "data": data,
    }


def _fields(message: bytes) -> dict[int, list[bytes]]:
    """Split a message of Protobuf into its fields of bytes, by number; numbers are left out."""
    found: dict[int, list[bytes]] = {}
    rest = iter(message)

    def number() -> int:
        value = shift = 0
        for byte in rest:
            value |= (byte & 127) << shift
            if byte < 128:  # the last byte of a number has no highest bit
                break
            shift += 7
        return value

    while key := number():
        if key & 7 == 0:
            number()
        else:
            found.setdefault(key >> 3, []).append(bytes(islice(rest, number())))
    return found


def _discovered(path: str) -> Any | None:
    """Answer a question of what there is, or nothing."""
    if path == "version":
        return VERSION
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "apis":
        groups = [
            {"name": api.partition("/")[0], "versions": [version], "preferredVersion": version}
            for api in KINDS
            if "/" in api
            for version in [{"groupVersion": api, "version": api.partition("/")[2]}]
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    kinds = KINDS.get(path.partition("/")[2])
    if kinds is None:
        return None
    resources = [
        {"name": plural, "kind": kind, "namespaced": True, "verbs": ["get", "list", "create"]}
        for plural, kind in kinds.items()
    ]
    return {
        "kind": "APIResourceList",
        "groupVersion": path.partition("/")[2],
        "resources": resources,
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # in one piece, else each answer waits for an acknowledgement
    api: KubernetesApi

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Find what handles a method: for every one the same."""
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        status, document = self.api.answer(self.command, self.path, body)
        sent = orjson.dumps(document)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def running_api(folder: Path) -> Iterator[KubernetesApi]:
    """Serve a cluster in which there is nothing yet; `folder` gets the kubeconfig."""
    api = KubernetesApi(folder / "kubeconfig")
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    context = {"cluster": "only", "user": "only", "namespace": NAMESPACE}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "only", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "only", "user": {}}],
        "contexts": [{"name": "only", "context": context}],
        "current-context": "only",
    }
    api.config.write_bytes(orjson.dumps(config))
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
