"""A stand-in for NDIF on loopback: it takes nnsight's requests over HTTP and runs them on weights of its own."""

from __future__ import annotations

import io
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any
from unittest import mock
from weakref import WeakValueDictionary

import torch
import zstandard
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel, Status
from nnsight.tracing import tracer as tracing


class Ndif:
    """What the server does; a test changes it. `answered` counts the requests that were run."""

    def __init__(self, view: Any, repository: str) -> None:
        self.view, self.repository = view, repository
        self.key, self.nnsight, self.state = "a key", version("nnsight"), "RUNNING"
        self.fails_after: int | None = None  # requests
        self.silent_after: int | None = None
        self.answered = 0
        self.results: dict[str, bytes] = {}
        self.address = ""

    def run(self, blob: bytes, compress: bool) -> bytes:
        """The saved values of a request, packed as NDIF packs them."""
        # The service is another process and knows none of our classes: here theirs would be written over ours, with a
        # longer name of a file at each request, and every later test would be the slower for it.
        with mock.patch("cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID", WeakValueDictionary()):
            tracer = RequestModel.deserialize(blob, self.view._remoteable_persistent_objects(), compress)
        tracing.inc()
        try:
            tracer.execute(tracer.info.code)
            found = dict(tracer.info.frame.f_locals)
            saved = {name: value for name, value in found.items() if id(value) in tracing._saves()}
        finally:
            tracing.dec()
        file = io.BytesIO()
        torch.save(saved, file)
        return zstandard.ZstdCompressor().compress(file.getvalue()) if compress else file.getvalue()


@contextmanager
def serving(ndif: Ndif) -> Iterator[Ndif]:
    """The same, answering at its `address` for as long as the block lasts."""
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def reply(self, content: Any, status: int = 200) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/env":
                self.reply({"python_version": "3.12", "packages": {"nnsight": ndif.nnsight}})
            elif self.path == "/status":
                one = {"repo_id": ndif.repository, "application_state": ndif.state, "revision": "main"}
                self.reply({"deployments": {"1": one}})
            elif self.path.startswith("/response/"):
                name = self.path.rpartition("/")[2]
                self.reply(json.loads(ndif.results[name]))
            else:
                self.reply(ndif.results[self.path])

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("ndif-api-key") != ndif.key:
                self.reply({"detail": "Invalid API key"}, 401)
                return
            boundary = re.search("boundary=(.*)", self.headers["Content-Type"])
            assert boundary is not None
            parts = [part.split(b"\r\n\r\n", 1)[1][:-2] for part in body.split(b"--" + boundary[1].encode())[1:-1]]
            request, name = json.loads(parts[0]), str(next(numbers))
            said = ResponseModel(id=name, status=Status.QUEUED, description="in the queue")
            if ndif.fails_after is not None and ndif.answered >= ndif.fails_after:
                said = ResponseModel(id=name, status=Status.ERROR, description="Traceback:\nCUDA out of memory")
            elif ndif.silent_after is None or ndif.answered < ndif.silent_after:
                ndif.answered += 1
                ndif.results[f"/{name}"] = ndif.run(parts[1], request["compress"])
                said = ResponseModel(id=name, status=Status.COMPLETED, data=f"{ndif.address}/{name}")
            ndif.results[name] = said.model_dump_json().encode()
            self.reply(json.loads(ResponseModel(id=name, status=Status.RECEIVED).model_dump_json()))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ndif.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield ndif
        finally:
            server.shutdown()
