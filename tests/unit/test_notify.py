"""Posting and commands: what arrives, what is tried again, what gives up, and that no message names a URL or a token."""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from renderfarm import web
from renderfarm.errors import Undelivered
from renderfarm.run import notify


class Server:
    """A real HTTP server on loopback that answers with the given statuses in turn, then with the last of them.

    It compresses where the client takes that, or `always`; `cut`: it says that more comes, and closes.
    """

    def __init__(self, *statuses: int, wait_s: float = 0.0, always: bool = False, cut: bool = False) -> None:
        self.statuses, self.seen = list(statuses), list[tuple[dict[str, str], bytes]]()
        server, self.stopped = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.seen.append((dict(self.headers), body))
                status = server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0]
                server.stopped.wait(wait_s)
                try:
                    self.send_response(status)
                    if status in (301, 302, 307):
                        self.send_header("Location", "/elsewhere")
                    compressed = always or "gzip" in self.headers.get("Accept-Encoding", "")
                    if compressed:
                        self.send_header("Content-Encoding", "gzip")
                    if cut:
                        self.send_header("Content-Length", "100")
                    self.end_headers()
                    self.wfile.write(gzip.compress(b"thanks") if compressed else b"thanks")
                except OSError:
                    pass  # the client has given up

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/hook/s3cret-path"


@contextmanager
def serving(*statuses: int, wait_s: float = 0.0, always: bool = False, cut: bool = False) -> Iterator[Server]:
    server = Server(*statuses, wait_s=wait_s, always=always, cut=cut)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def no_sleep(seconds: float) -> None:
    assert seconds > 0


def test_a_body_arrives_once_with_its_type_and_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password wrong\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(200) as server:
        assert web.post(server.url, b"{}", token="s3cret-token") == web.Reply(200, b"thanks")
        headers, body = server.seen[0]
    assert len(server.seen) == 1
    assert (headers["Content-Type"], headers["Authorization"], body) == ("application/json", "Bearer s3cret-token", b"{}")


def test_what_may_pass_is_tried_again() -> None:
    with serving(503, 429, 204) as server:
        assert web.post(server.url, b"x", "text/plain", sleep=no_sleep).status == 204
        assert [body for _, body in server.seen] == [b"x"] * 3


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (403, 1), (302, 1), (500, 3)])
def test_a_refusal_names_the_status_and_no_secret(status: int, tries: int) -> None:
    with serving(status) as server:
        with pytest.raises(Undelivered, match=f"HTTP {status}") as caught:
            web.post(server.url, b"x", token="s3cret-token", sleep=no_sleep)
        assert len(server.seen) == tries
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_answer_is_plain_or_refused_and_one_that_is_cut_is_none() -> None:
    with serving(200) as server:
        assert web.post(server.url, b"x").body == b"thanks"
    with serving(200, always=True) as server, pytest.raises(Undelivered, match="not asked for: 'gzip'"):
        web.post(server.url, b"x", sleep=no_sleep)
    with serving(200, cut=True) as server, pytest.raises(Undelivered, match="2 tries"):
        web.post(server.url, b"x", retries=1, sleep=no_sleep)


def test_a_server_that_keeps_silent_is_given_up() -> None:
    with serving(200, wait_s=20) as server, pytest.raises(Undelivered, match="ReadTimeout, 2 tries"):
        web.post(server.url, b"x", timeout_s=0.2, retries=1, sleep=no_sleep)


@pytest.mark.parametrize(
    "url", ["s3cret", "ftp://s3cret/x", "http://", "http://127.0.0.1:9/s3cret", "http://[s3cret", "http://a\ud800.s3cret/"]
)
def test_a_url_that_leads_nowhere_is_undelivered(url: str) -> None:
    with pytest.raises(Undelivered) as caught:
        web.post(url, b"x", retries=0, timeout_s=1)
    assert "s3cret" not in str(caught.value)


def test_a_command_reads_the_body(tmp_path: Path) -> None:
    out = tmp_path / "got"
    code = f"import sys, os; open({str(out)!r}, 'w').write(sys.stdin.read() + os.environ['EVENT'])"
    notify.run_command([sys.executable, "-c", code], b"hello ", env={"EVENT": "done"})
    assert out.read_text() == "hello done"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([sys.executable, "-c", "raise SystemExit(3)"], "ended with 3"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "after 0.5 s"),
        (["/no/such/command"], "could not be started"),
        (["\0"], "could not be started"),
    ],
)
def test_a_command_that_fails_is_undelivered(command: list[str], expected: str) -> None:
    with pytest.raises(Undelivered, match=expected):
        notify.run_command(command, b"", timeout_s=0.5)


def test_a_secret_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERFARM_TEST_HOOK", " https://example.invalid/s3cret\n")
    assert notify.secret("RENDERFARM_TEST_HOOK") == "https://example.invalid/s3cret"
    assert notify.secret(None) is None
    monkeypatch.delenv("RENDERFARM_TEST_HOOK")
    with pytest.raises(Undelivered, match="RENDERFARM_TEST_HOOK is not set"):
        notify.secret("RENDERFARM_TEST_HOOK")
