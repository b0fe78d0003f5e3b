"""An HTTP proxy before an S3 server that does to requests what a bad day does: throttles, fails, answers too late, cuts connections.

Faults are drawn by a seed, or set by hand with `plan`, a list of names that the next requests take in turn.

    throttle   503 SlowDown, nothing happens           error     500, nothing happens
    after      it happens, then 500                    late      it happens, then the connection is cut: no answer
    cut        the answer's body is cut in the middle  expired   400 ExpiredToken, nothing happens
    refuse     the connection is cut, nothing happens  slow      it happens, the answer comes after `slow_s`
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

KINDS = ("throttle", "error", "after", "late", "cut", "refuse")
CODES = {"throttle": (503, "SlowDown"), "error": (500, "InternalError"), "after": (500, "InternalError"), "expired": (400, "ExpiredToken")}
HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class FaultyProxy:
    """Forwards to `upstream` (http://host:port). `away`: every request is refused. `happened` counts faults."""

    def __init__(self, upstream: str, seed: int = 0, chance: float = 0.0, kinds: tuple[str, ...] = KINDS, slow_s: float = 1.0) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.chance, self.kinds, self.slow_s = chance, kinds, slow_s
        self.away = False
        self.plan: list[str] = []
        self.happened: Counter[str] = Counter()
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._server = _server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def draw(self) -> str:
        """The fate of the next request; empty for none."""
        with self._lock:
            if self.away:
                kind = "refuse"
            elif self.plan:
                kind = self.plan.pop(0)
            else:
                kind = self._rng.choice(self.kinds) if self._rng.random() < self.chance else ""
            self.happened[kind] += 1
            return kind

    @contextlib.contextmanager
    def running(self) -> Iterator[FaultyProxy]:
        """Serve for the time of the block."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Cut connections are what this is for."""


def _server(proxy: FaultyProxy) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = proxy.draw()
            if kind == "refuse":
                self.cut()
            elif kind in ("throttle", "error", "expired"):
                self.fail(kind)
            else:
                self.forward(kind, body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_one

        def forward(self, kind: str, body: bytes) -> None:
            upstream = http.client.HTTPConnection(proxy.upstream, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            data = answer.read()
            upstream.close()
            if kind == "late":
                self.cut()
            elif kind == "after":
                self.fail(kind)
            else:
                if kind == "slow":
                    time.sleep(proxy.slow_s)
                self.answer(answer, data, cut=kind == "cut" and len(data) > 1)

        def answer(self, answer: http.client.HTTPResponse, data: bytes, *, cut: bool) -> None:
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.cut()

        def fail(self, kind: str) -> None:
            status, code = CODES[kind]
            data = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def cut(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

    return _Quiet(("127.0.0.1", 0), Handler)
