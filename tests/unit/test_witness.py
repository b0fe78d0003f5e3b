"""Witnesses: a real HTTP server that checks and cosigns as C2SP says, what it refuses, and what the audit makes of its lines."""

from __future__ import annotations

import base64
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from renderfarm import notes
from renderfarm.audit.audit import audit
from renderfarm.audit.findings import AuditReport
from renderfarm.job.settings import WitnessSettings
from renderfarm.keys import Trust
from renderfarm.log import parts
from renderfarm.log.tree import verify_consistency
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Checkpoint, cosign
from renderfarm.output import CHECKPOINT, WITNESSED, part_key
from renderfarm.run.witness import tell
from renderfarm.storage import LocalStorage
from tests.unit.test_writer import KEY, SIGNER, attempt, plan

NAME = "witness.example/w1"
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes([9] * 32))
KEYS = {NAME: WITNESS.public_key()}


class Witness:
    """c2sp.org/tlog-witness, `add-checkpoint`, over one log."""

    def __init__(self) -> None:
        self.seen: Checkpoint | None = None
        self.key = WITNESS
        self.asked: list[int] = []
        witness = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/w/add-checkpoint"
                status, body = witness.add(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/w"

    def add(self, body: bytes) -> tuple[int, bytes]:
        head, _, note = body.partition(b"\n\n")
        first, *lines = head.decode().split("\n")
        old, new = int(first.removeprefix("old ")), notes.parse(note)
        self.asked.append(old)
        notes.verify(new, {SIGNER.name: KEY.public_key()})
        known = self.seen.size if self.seen else 0
        if old != known:
            return 409, f"{known}\n".encode()
        proof = [base64.b64decode(line) for line in lines]
        if self.seen is not None and not verify_consistency(old, new.size, self.seen.root, new.root, proof):
            return 422, b""
        self.seen = new
        cosigned = cosign.cosign(Checkpoint(new.origin, new.size, new.root), NAME, self.key, 1_790_000_000)
        return 200, cosigned.to_bytes().partition(b"\n\n")[2]


@pytest.fixture
def witness() -> Iterator[Witness]:
    made = Witness()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def trust(keys: dict[str, Ed25519PublicKey] | None = None) -> Trust:
    return Trust({SIGNER.name: KEY.public_key()}, b"", (), keys or {})


def blamed(report: AuditReport) -> list[tuple[str, str]]:
    """Findings, without the job file that this log never had."""
    return [(finding.name, finding.where) for finding in report.findings if finding.name != "job-missing"]


def grow(storage: LocalStorage, count: int) -> LogWriter:
    writer = LogWriter.open(storage, "mugs", SIGNER, snapshot_parts=2)
    for number in range(writer.size, writer.size + count):
        writer.append([attempt(number)] if number else [plan(50)])
    return writer


def test_a_witness_cosigns_each_run_and_the_audit_believes_it(witness: Witness, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "out", create=True)
    asked = WitnessSettings(urls=(witness.url,))
    for count in (1, 4, 2):
        told = tell(grow(storage, count), storage, asked, KEYS)
        assert told is not None and not told.troubles and len(told.checkpoint.signatures) == 2
    assert witness.asked == [0, 1, 5], "the proofs started where the witness was, also from a snapshot"
    assert tell(LogWriter.open(storage, "mugs", SIGNER), storage, asked, KEYS) is not None and witness.asked == [0, 1, 5], "nothing new"
    report = audit(storage, trust(KEYS))
    assert report.witnessed == {NAME: (7, 1_790_000_000)} and not blamed(report)
    assert "witness.example/w1 saw 7 parts on 2026-09-21" in report.text()
    assert not blamed(audit(storage, trust(), since=storage.get(WITNESSED))), "a cosigned note is a checkpoint to compare with"
    storage.delete(WITNESSED)
    assert blamed(audit(storage, trust(KEYS))) == [("cosignature-missing", WITNESSED)]
    told = tell(grow(storage, 1), storage, asked, KEYS)
    assert told is not None and not told.troubles and witness.asked[-2:] == [0, 7], "it says which size it knows, and is asked again"


def test_a_witness_that_saw_more_or_something_else_is_heard(witness: Witness, tmp_path: Path) -> None:
    asked = WitnessSettings(urls=(witness.url,))
    storage, other = LocalStorage(tmp_path / "out", create=True), LocalStorage(tmp_path / "other", create=True)
    tell(grow(storage, 3), storage, asked, KEYS)
    other_writer = LogWriter.open(other, "mugs", SIGNER)
    for number in range(4):
        other_writer.append([attempt(30 + number)] if number else [plan(60)])
    told = tell(other_writer, other, asked, KEYS)
    assert told is not None and "does not continue what it cosigned" in told.troubles[0]
    for number in (1, 2):
        (tmp_path / "out" / part_key(number)).unlink()
    for key in (WITNESSED, CHECKPOINT):
        storage.delete(key)
    told = tell(LogWriter.open(storage, "mugs", SIGNER), storage, asked, KEYS)
    assert told is not None and "was its end cut off?" in told.troubles[0]


def test_a_cut_tail_shows_by_what_a_witness_saw(witness: Witness, tmp_path: Path) -> None:
    """The newest parts and the cached checkpoint gone together: only a checkpoint from elsewhere can tell."""
    storage = LocalStorage(tmp_path / "out", create=True)
    writer = grow(storage, 4)
    tell(writer, storage, WitnessSettings(urls=(witness.url,)), KEYS)
    (tmp_path / "out" / part_key(3)).unlink()
    storage.put(CHECKPOINT, parts.read_footer(storage.get(part_key(2)), 2).checkpoint.to_bytes())
    assert blamed(audit(storage, trust(KEYS))) == [("part-missing", part_key(3))]


@pytest.mark.parametrize("how", ["another key", "another time", "cut", "another head"])
def test_a_line_that_no_witness_signed_is_named(tmp_path: Path, how: str) -> None:
    storage = LocalStorage(tmp_path / "out", create=True)
    head = grow(storage, 3).checkpoint
    assert head is not None
    good = cosign.cosign(head, NAME, WITNESS, 1_790_000_000)
    storage.put(WITNESSED, good.to_bytes())
    assert not blamed(audit(storage, trust(KEYS)))
    *rest, line = good.signatures
    value = {
        "another key": line.value[:8] + Ed25519PrivateKey.generate().sign(b"x"),
        "another time": bytes(8) + line.value[8:],
        "cut": line.value[:70],
        "another head": cosign.cosign(Checkpoint(head.origin, 2, head.root), NAME, WITNESS, 1_790_000_000).signatures[-1].value,
    }[how]
    forged = Checkpoint(head.origin, head.size, head.root, (*rest, notes.Signature(NAME, line.key_id, value)))
    storage.put(WITNESSED, forged.to_bytes())
    assert blamed(audit(storage, trust(KEYS))) == [("cosignature-bad", WITNESSED)]
    assert not blamed(audit(storage, trust())), "whoever trusts no witness is told nothing about one"


def test_webhook_and_command_get_the_note_and_failures_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path / "out", create=True)
    got = tmp_path / "got"
    program = "import os, sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read() + os.environ['RENDERFARM_PARTS'].encode())"
    writer = grow(storage, 2)
    monkeypatch.setenv("HOOK", "http://127.0.0.1:1/s3cret")
    asked = WitnessSettings(webhook_env="HOOK", command=(sys.executable, "-c", program, str(got)), urls=("http://127.0.0.1:1/w",))
    paused_s: list[float] = []
    told = tell(writer, storage, asked, {}, paused_s.append)
    assert told is not None and len(told.troubles) == 2 and len(paused_s) == 4 and "s3cret" not in "".join(told.troubles)
    assert writer.checkpoint is not None and got.read_bytes() == writer.checkpoint.to_bytes() + b"2"
    got.unlink()
    tell(LogWriter.open(storage, "mugs", SIGNER), storage, asked, {})
    assert not got.exists(), "nothing was committed since, so nobody is mailed again"
    assert tell(writer, storage, WitnessSettings(), {}) is None


@pytest.mark.parametrize("url", ["ftp://w", "https://user:pw@w", "w.example", "https://w example"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="urls"):
        WitnessSettings(urls=(url,))
