#!/usr/bin/env python3
"""How long a manifest of a million rows takes to read, and the memory that it needs: it must not grow with the rows but by 16 bytes each.

    .venv/bin/python scripts/bench/manifest.py [rows] [rows in a row group]

Every measurement is a process of its own, so that its peak memory is its own. Ends with one JSON line.
The ceiling is Arrow's own conversion of the same columns to Python values.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write(path: str, rows: int, group: int) -> None:
    """A manifest of `rows` rows: id, prompt, width, guidance and two tags each; the other columns null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from renderfarm import manifest

    schema = manifest.arrow_schema()
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, group):
            span = range(start, min(start + group, rows))
            said = {
                "id": [f"sku-{n}" for n in span],
                "prompt": [f"a red mug number {n} on a wooden table in the morning light" for n in span],
                "width": [512] * len(span),
                "guidance": [7.1] * len(span),
                "tags": [[("campaign", "spring"), ("sku", str(n))] for n in span],
            }
            columns = [pa.array(said.get(f.name, [None] * len(span)), f.type) for f in schema]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=group)


def arrow(path: str) -> int:
    """The ceiling: Arrow's values of the columns that hold any, as Python objects."""
    import pyarrow.parquet as pq

    columns = ["id", "prompt", "width", "guidance", "tags"]
    file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    return sum(len(b.to_pylist()) for b in file.iter_batches(batch_size=8192, columns=columns, use_threads=False))


def read(path: str) -> int:
    """What a render does before it plans: ids compared, rows judged."""
    from renderfarm import manifest

    return sum(len(shard.rows) for shard in manifest.read(path))


def digest(path: str) -> int:
    """What a plan record needs."""
    from renderfarm import manifest

    return len(manifest.digest(path))


def peak_mib() -> int:
    """The peak memory of this process in MiB; getrusage would count that of the process it was forked from."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def measure(job: str, path: str) -> dict[str, float]:
    """Seconds and peak MiB of one job in a fresh process."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, __file__, "--job", job, path], check=True, capture_output=True, text=True)
    return {"seconds": round(time.monotonic() - started, 1), "peak_mib": int(done.stdout)}


def main() -> None:
    """Runs one job when called by itself, else all of them."""
    if sys.argv[1:2] == ["--job"]:
        {"arrow": arrow, "read": read, "digest": digest}[sys.argv[2]](sys.argv[3])
        print(peak_mib())
        return
    rows, group = (int(sys.argv[1]) if sys.argv[1:] else 1_000_000), (int(sys.argv[2]) if sys.argv[2:] else 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        few, many = str(Path(folder, "few.parquet")), str(Path(folder, "many.parquet"))
        write(few, 10_000, 10_000)
        write(many, rows, group)
        found = {job: measure(job, many) for job in ("arrow", "read", "digest")}
        base = measure("read", few)["peak_mib"]
    grown = found["read"]["peak_mib"] - base
    for job, figures in found.items():
        print(f"{job:7} {figures['seconds']:6} s  {figures['peak_mib']:5} MiB", file=sys.stderr)
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"bench": "manifest", "rows": rows, "row_group": group, "machine": machine, **found, "grown_mib": grown}))
    allowed = 64 + rows * 16 // 2**20
    if grown > allowed:
        sys.exit(f"reading {rows} rows took {grown} MiB more than reading 10,000, and {allowed} is what it may take")


if __name__ == "__main__":
    main()
