"""Hostile input for a bounded time: what a part, checkpoint, proof, snapshot, picture, credential or key says, coverage-guided.

    python -m tests.fuzz [--seconds 600] [--only part,footer,...] [--seed 1]

Needs atheris (`pip install atheris`), which is no dependency of the project: without it this says so and ends with 0. Each target runs
in a process of its own from seeds that are good files. A target may refuse with the errors that it documents; anything else that comes
out, a dead process, an input that takes longer than 10 s, or a file written outside its folder is a failure, kept under --keep. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from renderfarm.output import CHECKPOINT, part_key

INPUT_BYTES_MAX = 1 << 16
INPUT_SECONDS_MAX = 10
RSS_MIB_MAX = 3072

Target = Callable[[bytes], None]


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Good files of each kind, from one small output."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from renderfarm import notes
    from renderfarm.log import parts, snapshot
    from renderfarm.log import proofs as bundle
    from renderfarm.log.writer import LogWriter
    from renderfarm.notes import Checkpoint, cosign
    from tests import outputs

    made = outputs.build(folder / "out", folder / "keys")
    storage = made.storage
    data = [storage.get(part_key(number)) for number in range(5)]
    head = parts.read_footer(data[4], 4).checkpoint
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    line = cosign.cosign(Checkpoint("o", 1, bytes(32)), "w", Ed25519PrivateKey.from_private_bytes(bytes(32)), 5)
    pictures = [path.read_bytes() for path in sorted((made.folder / "images").rglob("*.*"))]
    writer = LogWriter.open(storage, outputs.JOB, made.signer)
    return {
        "part": data,
        "footer": data,
        "checkpoint": [head.to_bytes(), line.to_bytes()],
        "answer": [line.to_bytes().partition(b"\n\n")[2]],
        "proof": [bundle.prove(storage, outputs.image_id(number)) for number in (1, 2)],
        "consistency": [bundle.prove_consistency(storage, parts.read_footer(data[1], 1).checkpoint.to_bytes())],
        "snapshot": [snapshot.dump(writer.state, writer._leaves, head.origin, made.signer)],
        "picture": [p for p in pictures if len(p) <= INPUT_BYTES_MAX] + [p[:INPUT_BYTES_MAX] for p in pictures],
        "credential": pictures,
        "key": [notes.verifier_key("a/b", public).encode(), notes.verifier_key("w", public, notes.COSIGNATURE).encode()],
        "object_key": [b"images/a/0-1.png", b"../../x", b"/etc/passwd", b"images/\0"],
        "log": [b"".join(data[:1])],
    }


def targets(folder: Path) -> dict[str, Target]:
    """What is called with each input. Only what a target documents may come out of it."""
    from renderfarm import credential, keys, notes
    from renderfarm.audit.audit import audit
    from renderfarm.audit.findings import MEANINGS
    from renderfarm.errors import KeysError, LogDamaged, NotStored, PictureError
    from renderfarm.log import parts, snapshot
    from renderfarm.log import proofs as bundle
    from renderfarm.notes import Checkpoint, cosign
    from renderfarm.pictures import decode
    from renderfarm.storage import LocalStorage
    from tests.outputs import JOB

    key_set = keys.load(folder / "keys")
    trust = key_set.trust()
    room = folder / "room"
    storage = LocalStorage(room, create=True)

    def part(data: bytes) -> None:
        with contextlib.suppress(parts.PartDamaged):
            found = parts.read_part(data, 0)
            parts.check_head(found.footer, trust.log_keys)
            parts.check_rows(found)

    def footer(data: bytes) -> None:
        with contextlib.suppress(parts.PartDamaged):
            parts.check_head(parts.read_footer(data, 0), trust.log_keys)

    def checkpoint(data: bytes) -> None:
        with contextlib.suppress(notes.NoteMalformed, notes.NoteUntrusted):
            found = notes.parse(data)
            assert notes.parse(found.to_bytes()) == found
            notes.verify(found, trust.log_keys)

    def answer(data: bytes) -> None:
        with contextlib.suppress(notes.NoteMalformed):
            cosign.answer(data, Checkpoint("o", 1, bytes(32)))

    def proof(data: bytes) -> None:
        str(bundle.verify_any(data, trust.log_keys))

    def taken_over(data: bytes) -> None:
        with contextlib.suppress(ValueError, LogDamaged):
            snapshot.load(data, notes.origin(JOB), trust.log_keys)

    def picture(data: bytes) -> None:
        with contextlib.suppress(PictureError):
            decode(data)

    def credentials(data: bytes) -> None:
        for kind in ("image/png", "image/jpeg", "image/webp"):
            credential.read(data, kind, trust.anchors_pem)

    def key(data: bytes) -> None:
        text = data.decode("latin-1")
        for kind in (notes.ED25519, notes.COSIGNATURE):
            with contextlib.suppress(KeysError):
                keys.parse_public(text, "here", kind)
        with contextlib.suppress(KeysError):
            keys.parse_private(text, "here")

    def object_key(data: bytes) -> None:
        name = data.decode("utf-8", "surrogateescape")
        with contextlib.suppress(ValueError, NotStored, OSError):
            storage.get(name, 10)
        with contextlib.suppress(ValueError, Exception):
            storage.put(name, b"x")
        outside = [path for path in folder.iterdir() if path.name not in ("keys", "out", "room")]
        assert not outside, f"written outside: {outside}"

    def log(data: bytes) -> None:
        place = room / part_key(0)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        report = audit(storage, trust)
        assert set(report.found) <= set(MEANINGS) and report.text()

    return {
        "part": part, "footer": footer, "checkpoint": checkpoint, "answer": answer, "proof": proof, "consistency": proof,
        "snapshot": taken_over, "picture": picture, "credential": credentials, "key": key, "object_key": object_key, "log": log,
    }  # fmt: skip


def run_target(name: str, folder: Path, corpus: Path, seconds: int, seed: int) -> None:
    """Fuzzes one target in this process until the time is over; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["renderfarm"]):
        pass
    target = targets(folder)[name]
    limits = {"max_total_time": seconds, "max_len": INPUT_BYTES_MAX * 4, "timeout": INPUT_SECONDS_MAX, "rss_limit_mb": RSS_MIB_MAX}
    said = {"seed": seed, "artifact_prefix": f"{folder}/failed-{name}-", "print_final_stats": 1}
    options = [sys.argv[0], str(corpus), *(f"-{option}={value}" for option, value in (limits | said).items())]
    atheris.Setup(options, target)
    atheris.Fuzz()


def fuzz(name: str, folder: Path, good: list[bytes], seconds: int, seed: int, keep: Path) -> dict[str, Any]:
    """One target in a process of its own; how many inputs it took, and what came of it."""
    corpus = folder / f"corpus-{name}"
    corpus.mkdir()
    for number, data in enumerate(good):
        (corpus / f"seed-{number}").write_bytes(data)
    place = folder / f"world-{name}"
    place.mkdir()
    (place / "keys").symlink_to(folder / "keys")
    told = {"target": name, "folder": place, "corpus": corpus, "seconds": seconds, "seed": seed}
    command = [sys.executable, "-m", "tests.fuzz", *(f"--{option}={value}" for option, value in told.items())]
    begin = time.monotonic()
    limit = seconds + 120
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit, check=False)
        code, said = done.returncode, done.stderr + done.stdout
    except subprocess.TimeoutExpired as error:
        code, said = -1, f"did not end within {limit} s; {(error.stderr or b'')[-2000:]!r}"
    executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    covered = re.findall(r"cov: (\d+)", said)
    failures = sorted(path.name for path in place.glob(f"failed-{name}-*"))
    for path in place.glob(f"failed-{name}-*"):
        keep.mkdir(parents=True, exist_ok=True)
        (keep / path.name).write_bytes(path.read_bytes())
    result: dict[str, Any] = {
        "inputs": int(executed[1]) if executed else 0, "covered": int(covered[-1]) if covered else 0,
        "seconds": round(time.monotonic() - begin, 1), "failed": failures if code or failures else [],
    }  # fmt: skip
    if code:
        result["said"] = said[-1500:]
    print(f"{name}: {result['inputs']} inputs, {result['covered']} edges, {'FAILED' if code else 'held'}", file=sys.stderr)
    return result


def by_hand(folder: Path, head: bytes) -> dict[str, str]:
    """Four inputs that no fuzzer makes: each must be refused soon. What was said of each."""
    import zlib

    from renderfarm import keys, notes
    from renderfarm.audit.audit import audit
    from renderfarm.errors import PictureError
    from renderfarm.log import proofs as bundle
    from renderfarm.pictures import decode, encode
    from renderfarm.storage import LocalStorage
    from tests.outputs import picture

    said: dict[str, str] = {}
    trust = keys.load(folder / "keys").trust()
    ((name, public),) = trust.log_keys.items()
    note, key = head.decode(), notes.verifier_key(name, public)
    storage = LocalStorage(folder / "huge", create=True)
    place = folder / "huge" / CHECKPOINT
    place.parent.mkdir(parents=True)
    with place.open("wb") as file:
        file.truncate(1 << 30)
    said["checkpoint of 1 GB"] = "; ".join(finding.what for finding in audit(storage).findings)
    try:
        notes.parse(bytes(1 << 30))
    except notes.NoteMalformed as error:
        said["checkpoint of 1 GB, parsed"] = str(error)
    for count in (1_000_000, 400_000):
        many = {"format": bundle.CONSISTENCY_FORMAT, "old": note, "new": note, "log_key": key, "proof": ["00" * 32] * count}
        said[f"proof of {count:,} hashes"] = bundle.verify_any(json.dumps(many).encode(), None).reason
    good = io.BytesIO(encode(picture(1), "image/png")).getvalue()
    size = (60_000).to_bytes(4, "big") * 2
    header = b"IHDR" + size + good[24:29]
    bomb = good[:12] + header + zlib.crc32(header).to_bytes(4, "big") + good[33:]
    try:
        decode(bomb)
    except PictureError as error:
        said["PNG of 60,000 x 60,000"] = error.what
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--only", default="", help="targets, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="where inputs that failed are kept")
    for hidden in ("--target", "--folder", "--corpus"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if args.target:
        run_target(args.target, Path(args.folder), Path(args.corpus), args.seconds, args.seed)
        return
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("skipped: atheris is not installed (`pip install atheris`)", file=sys.stderr)
        print(json.dumps({"bench": "fuzz", "skipped": "atheris is not installed"}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        good = seeds(folder)
        names = [name for name in good if not args.only or name in args.only.split(",")]
        each = max(5, args.seconds // max(1, len(names)))
        said = by_hand(folder, good["checkpoint"][0])
        found = {name: fuzz(name, folder, good[name], each, args.seed, args.keep) for name in names}
    print(json.dumps({"bench": "fuzz", "seconds_each": each, "by_hand": said, "targets": found}))
    sys.exit(any(result["failed"] or "said" in result for result in found.values()))


if __name__ == "__main__":
    main()
