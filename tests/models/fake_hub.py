"""A hub in this process: an HTTP server that serves the files of one folder as the model ``lab/tiny`` and as
a data set of the same name, in the form that huggingface_hub's client reads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants

HUB_ID, COMMIT = "lab/tiny", "c" * 40


class FakeHub:
    """The state of the hub. ``status`` with ``error_code``: the answer to requests of files; ``cut_after``: a
    file ends after so many bytes, and the connection closes; ``ranges``: the Range headers that came."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.status, self.error_code = 200, ""
        self.cut_after: int | None = None
        self.requests: list[str] = []
        self.ranges: list[str] = []

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            path = urlsplit(self.path).path
            hub.requests.append(f"{self.command} {path}")
            if path.startswith((f"/api/models/{HUB_ID}/tree/", f"/api/datasets/{HUB_ID}/tree/")):
                self._json([{"type": "file", "path": name, **_sizes(hub, name)} for name in hub.files])
            elif path.startswith((f"/api/models/{HUB_ID}", f"/api/datasets/{HUB_ID}")):
                siblings = [
                    {"rfilename": name, "size": len(data), "blobId": "b" * 40}
                    for name, data in hub.files.items()
                ]
                self._json({"id": HUB_ID, "sha": COMMIT, "siblings": siblings})
            elif (
                path.startswith((f"/{HUB_ID}/resolve/", f"/datasets/{HUB_ID}/resolve/"))
                and (name := path.rpartition("/")[2]) in hub.files
            ):
                self._file(name, with_body)
            else:
                self._refuse(404, "RepoNotFound")

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _json(self, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _file(self, name: str, with_body: bool) -> None:
            if hub.status != 200:
                return self._refuse(hub.status, hub.error_code)
            data, start = hub.files[name], 0
            if found := self.headers.get("Range"):
                hub.ranges.append(found)
                start = int(found.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hub.sha256(name)}"')
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if with_body:
                end = len(data) if hub.cut_after is None else min(len(data), start + hub.cut_after)
                with contextlib.suppress(OSError):  # the client may be gone
                    self.wfile.write(data[start:end])
                self.close_connection = True

    return Handler


def _sizes(hub: FakeHub, name: str) -> dict[str, object]:
    data = hub.files[name]
    return {
        "size": len(data),
        "oid": "b" * 40,
        "lfs": {"oid": hub.sha256(name), "size": len(data), "pointerSize": 100},
    }


@contextlib.contextmanager
def serve(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub of this process is the one that is yielded, and its cache the empty folder ``cache``."""
    hub = FakeHub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    use_endpoint(f"http://127.0.0.1:{server.server_address[1]}", cache, monkeypatch)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_endpoint(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns the hub's client to another address, online and without a proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
