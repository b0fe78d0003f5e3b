"""A server on loopback that answers as S3 stores do: one bucket in memory, and for writes, heads and deletes what a test wants said."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EMPTY = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: status, the server's code and words, further headers; `body` in place of both."""

    status: int
    code: str = ""
    words: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def bytes(self) -> bytes:
        """As S3 writes it."""
        if self.body is not None:
            return self.body
        return f'<?xml version="1.0"?><Error><Code>{self.code}</Code><Message>{self.words}</Message></Error>'.encode()


@dataclass
class Store:
    """`says`: what the next requests of a method are answered, in turn, the last again and again; `wants`: a header that a write needs."""

    says: dict[str, list[Said]] = field(default_factory=dict)
    wants: tuple[str, ...] = ()
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: list[Mapping[str, str]] = field(default_factory=list)
    versioned: bool = False

    def said(self, method: str) -> Said | None:
        """What is to be answered now in place of the truth."""
        waiting = self.says.get(method, [])
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0] if waiting else None
        return None if found is not None and found.status == 200 and found.body is None else found


@contextlib.contextmanager
def serving(store: Store) -> Iterator[str]:
    """The URL of this store, for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, said: Said, *, headers_only: bool = False) -> None:
            body = b"" if said.status == 204 else said.bytes()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not headers_only:
                self.wfile.write(body)

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            data, key = self.rfile.read(length), self.path.partition("?")[0]
            store.asked.append((self.command, key))
            store.sent.append(dict(self.headers.items()))
            said = store.said(self.command)
            if said is not None:
                self._answer(said, headers_only=self.command == "HEAD")
            elif self.command == "PUT":
                self._put(key, data)
            elif self.command == "DELETE":
                store.objects.pop(key, None)
                self._answer(Said(204))
            elif key.count("/") < 2 or key not in store.objects:
                self._answer(Said(200, body=EMPTY) if key.count("/") < 2 else Said(404, "NoSuchKey"), headers_only=self.command == "HEAD")
            else:
                headers = {"Last-Modified": "Mon, 30 Nov 2026 12:00:00 GMT", "ETag": '"x"'}
                self._answer(Said(200, headers=headers, body=store.objects[key]), headers_only=self.command == "HEAD")

        def _put(self, key: str, data: bytes) -> None:
            missing = [name for name in store.wants if not any(sent.lower() == name for sent in self.headers)]
            if missing:
                self._answer(
                    Said(400, "InvalidRequest", f"{missing[0]} HTTP header is required for Put Object with Object Lock parameters")
                )
            elif self.headers.get("If-None-Match") == "*" and key in store.objects:
                self._answer(Said(412, "PreconditionFailed"))
            else:
                store.objects[key] = data
                self._answer(Said(200, headers={"x-amz-version-id": "1"} if store.versioned else {}, body=b""))

        do_GET = do_PUT = do_HEAD = do_DELETE = _handle

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
