#!/usr/bin/env python3
"""How long a brief of a million rows takes to become a manifest, and the memory that it needs: 400 MiB at most, whatever its length.

    .venv/bin/python scripts/bench/briefs.py [rows of CSV] [rows of .xlsx]

Every measurement is a process of its own, so that its peak memory is its own; seconds are of its CPU. Ends with one JSON line.
The ceiling is the bare reader: Python's csv, and expat over the sheet's XML.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

MIB_MAX = 400
HEADER = ("SKU", "Prompt", "Negative Prompt", "Seed", "Aspect Ratio", "CFG Scale", "Campaign", "text")
THINGS = ("mug", "tote bag", "lamp", "chair", "bottle", "running shoe", "watch", "tent")
PLACES = ("on a table", "in a studio", "at the beach", "in the snow", "under a tree", "by a window")
MAPPED = ["--map", "SKU=id"]


def rows(number: int) -> Iterator[tuple[str, ...]]:
    """A product list as a team keeps it."""
    for n in range(number):
        prompt = f"a product photo of {THINGS[n % len(THINGS)]} number {n} {PLACES[n % len(PLACES)]}, soft light, 85 mm"
        yield (f"SKU-{n:07}", prompt, "blurry, low quality", str(n), "16:9", "7.5", f"campaign {n % 50}", "SALE" if n % 10 == 0 else "")


def write_csv(path: Path, number: int) -> None:
    """The list as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(HEADER)
        csv.writer(file).writerows(rows(number))


def write_xlsx(path: Path, number: int) -> None:
    """The list as Excel writes it: every text once in the table of texts, numbers as numbers."""
    names = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    links = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    texts: dict[str, int] = {}

    def cell(value: str, at: int, row: int) -> str:
        place = f"{chr(65 + at)}{row}"
        if row > 1 and HEADER[at] in ("Seed", "CFG Scale"):
            return f'<c r="{place}"><v>{value}</v></c>'
        return f'<c r="{place}" t="s"><v>{texts.setdefault(value, len(texts))}</v></c>' if value else ""

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(
            "xl/workbook.xml", f'<workbook {names} xmlns:r="{links}"><sheets><sheet name="Prompts" r:id="a"/></sheets></workbook>'
        )
        relation = f'<Relationships><Relationship Id="a" Type="{links}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'
        file.writestr("xl/_rels/workbook.xml.rels", relation)
        with file.open("xl/worksheets/sheet1.xml", "w") as part:
            part.write(f"<worksheet {names}><sheetData>".encode())
            for row, values in enumerate((HEADER, *rows(number)), 1):
                part.write(f'<row r="{row}">{"".join(cell(value, at, row) for at, value in enumerate(values))}</row>'.encode())
            part.write(b"</sheetData></worksheet>")
        with file.open("xl/sharedStrings.xml", "w") as part:
            part.write(f"<sst {names}>{''.join(f'<si><t>{text}</t></si>' for text in texts)}</sst>".encode())


def bare(path: str) -> None:
    """The ceiling: cells, and nothing made of them."""
    if path.endswith(".csv"):
        with open(path, newline="", encoding="utf-8") as file:
            assert sum(1 for _ in csv.reader(file))
        return
    with zipfile.ZipFile(path) as archive, archive.open("xl/worksheets/sheet1.xml") as part:
        for _, element in ET.iterparse(part):
            if element.tag.endswith("}row"):
                element.clear()


def build(path: str) -> None:
    """What a person types."""
    from renderfarm.cli import main as renderfarm

    assert renderfarm(["manifest", "build", path, "-o", f"{path}.parquet", *MAPPED]) == 0


def measure(job: str, path: Path, number: int) -> dict[str, float]:
    """CPU seconds, rows a second and peak MiB of one job in a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--job", job, str(path)], check=True, capture_output=True, text=True)
    seconds, peak = (float(word) for word in done.stdout.split()[-2:])
    return {"cpu_s": round(seconds, 1), "rows_s": round(number / seconds), "peak_mib": peak}


def main() -> None:
    """Runs one job when called by itself, else all of them."""
    if sys.argv[1:2] == ["--job"]:
        {"bare": bare, "build": build}[sys.argv[2]](sys.argv[3])
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        times = os.times()
        print(times.user + times.system, int(line.split()[1]) // 1024)
        return
    lengths = {"csv": int(sys.argv[1]) if sys.argv[1:] else 1_000_000, "xlsx": int(sys.argv[2]) if sys.argv[2:] else 100_000}
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, number in lengths.items():
            path = Path(folder, f"brief.{kind}")
            {"csv": write_csv, "xlsx": write_xlsx}[kind](path, number)
            found[kind] = {job: measure(job, path, number) for job in ("bare", "build")}
            for job, figures in found[kind].items():
                print(f"{kind:5} {job:6} {figures}", file=sys.stderr)
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"bench": "briefs", "rows": lengths, "machine": machine, "load": os.getloadavg()[0], **found}))
    if worst := [kind for kind, jobs in found.items() if jobs["build"]["peak_mib"] > MIB_MAX]:
        sys.exit(f"{', '.join(worst)} took more than {MIB_MAX} MiB")


if __name__ == "__main__":
    main()
