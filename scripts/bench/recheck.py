"""How fast recorded scores are judged again: a synthetic log of N attempts, three verdicts each, in memory on a folder of its own.

    python scripts/bench/recheck.py --attempts 200000

The ceiling is reading the same columns of the same parts into Python rows and looking at none. One JSON line at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm.job.checks import ChecksSettings
from renderfarm.log import reading
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.review.recheck import COLUMNS, Recheck
from renderfarm.schema import Record, Verdict
from renderfarm.storage import LocalStorage, Storage

PART_ROWS = 20_000


def attempts(count: int) -> Iterator[Record]:
    """Attempts of half as many images, each with scores drawn by one seed."""
    rng = random.Random(5)
    blank = Record("attempt", job="bench", row_id="row", index=0, prompt='a sign that says "OPEN" in front of a brick wall', width=512)
    for number in range(count):
        score = round(rng.random(), 4)
        outcome = "accepted" if score >= 0.9 else "rejected"
        text = Verdict("text", outcome, "the sign reads OPFN, expected OPEN", score, 0.9)  # type: ignore[arg-type]
        verdicts = (Verdict("broken", "accepted", "", 1.0, 0.5), text, Verdict("copies", "accepted", "", 0.98, 0.3))
        image_id = f"{number // 2:032x}"
        yield dataclasses.replace(blank, image_id=image_id, attempt=1 + number % 2, outcome=outcome, verdicts=verdicts)  # type: ignore[arg-type]


def write(storage: Storage, count: int) -> None:
    """The log, in parts of PART_ROWS."""
    writer = LogWriter.open(storage, "bench", Signer.of("bench", Ed25519PrivateKey.from_private_bytes(bytes(range(32)))))
    writer.append([Record("plan", job="bench", plan_digest="bench", planned=count)])
    pending: list[Record] = []
    for record in attempts(count):
        pending.append(record)
        if len(pending) == PART_ROWS:
            writer.append(pending)
            pending = []
    if pending:
        writer.append(pending)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=200_000)
    count = parser.parse_args().attempts
    with tempfile.TemporaryDirectory(prefix="renderfarm-bench-") as folder:
        storage = LocalStorage(Path(folder), create=True)
        write(storage, count)
        begin = time.process_time()
        rows = 0
        for _, table in reading.tables(storage, COLUMNS):
            assert isinstance(table, pa.Table)
            rows += len(table.select(COLUMNS).to_pylist())
        read_s = time.process_time() - begin
        again = Recheck(storage, 3, ChecksSettings.model_validate({"text": {"min_score": 0.8}}))
        begin = time.process_time()
        changed = sum(1 for _ in again.changes())
        judged_s = time.process_time() - begin
    assert rows == count + 1 and changed == again.outlook.changed
    content = {
        "attempts": count,
        "changed": changed,
        "cpu_s": round(judged_s, 2),
        "attempts_per_cpu_s": round(count / judged_s),
        "share_of_ceiling": round(read_s / judged_s, 2),
        "rss_max_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(content))


if __name__ == "__main__":
    main()
