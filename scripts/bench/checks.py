"""How well the checks tell good pictures from bad ones, and what they cost. One thread, CPU seconds of this process.

Drawn pictures (seeded, `--count` of each kind): signs with and without a fault, mockups against unwanted text, near-duplicates by random
edits against other seeds and other colours, pasted copies. `--labels CSV` adds real pictures: columns path, label, prompt, expected_text;
the path's first folder (text, copies) names the check. Prints a table and ends with one JSON line.

    python scripts/bench/checks.py --count 200 --labels ../shared/tuning/labels.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import drawn
import numpy as np

from pipeline.checks import registry
from pipeline.checks.base import Check
from pipeline.checks.copies import CopiesCheck
from pipeline.checks.duplicates import DuplicateIndex
from pipeline.checks.files import read_picture
from pipeline.checks.fingerprint import Fingerprint, fingerprint
from pipeline.checks.settings import ChecksSettings, CopiesSettings, DuplicatesSettings, TextSettings
from pipeline.checks.text import TextCheck
from pipeline.schema import PromptRow, Verdict

Sample = tuple[drawn.Picture, PromptRow, bool]
"""Picture, row, and whether the check should accept it."""
BAD_LABELS = ("wrong", "forged")


def auc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Chance that a good picture scores above a bad one, ties half (Mann-Whitney)."""
    if not good or not bad:
        return math.nan
    one, other = np.asarray(good)[:, None], np.asarray(bad)[None]
    return float(np.mean((one > other) + 0.5 * (one == other)))


def interval(k: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of k of n."""
    if n == 0:
        return 0.0, 1.0
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def measure(name: str, check: Check, samples: Iterable[Sample]) -> dict[str, Any]:
    """Runs one check over samples: AUC, share of bad ones caught, share of good ones refused, CPU ms an image."""
    scores: dict[bool, list[float]] = {True: [], False: []}
    failed = {True: 0, False: 0}
    spent = 0.0
    for picture, row, good in samples:
        start = time.process_time()
        verdict = check.check(picture, row)
        spent += time.process_time() - start
        scores[good].append(1.0 if verdict.score is None else verdict.score)
        failed[good] += verdict.outcome == "rejected"
    return _row(name, scores[True], scores[False], failed[False], failed[True], spent)


def _row(name: str, good: Sequence[float], bad: Sequence[float], caught: int, refused: int, spent: float) -> dict[str, Any]:
    return {
        "set": name,
        "auc": None if not good or not bad else round(auc(good, bad), 4),
        "caught": f"{caught} of {len(bad)}",
        "caught_interval": [round(x, 3) for x in interval(caught, len(bad))],
        "refused": f"{refused} of {len(good)}",
        "refused_interval": [round(x, 3) for x in interval(refused, len(good))],
        "cpu_ms": round(1000 * spent / max(1, len(good) + len(bad)), 1),
    }


def signs(count: int, side: int) -> Iterable[Sample]:
    """As many right as wrong signs of one to four words."""
    for k in range(count):
        rng = np.random.default_rng([1, side, k])
        text = " ".join(rng.choice(drawn.WORDS, int(rng.integers(1, 5)), replace=False))
        row = PromptRow(f"sign {k}", "a sign in a street", text=text)
        shown = drawn.spoiled(rng, text) if k % 2 else text
        yield drawn.sign(rng, shown, side), row, not k % 2


def unwanted(count: int, side: int) -> Iterable[Sample]:
    """Signs where no text is wanted, against mockups and textures without any."""
    for k in range(count):
        rng = np.random.default_rng([2, side, k])
        row = PromptRow(f"plain {k}", "a product on a table", text="")
        if k % 2:
            text = " ".join(rng.choice(drawn.WORDS, int(rng.integers(1, 4)), replace=False))
            yield drawn.sign(rng, text, side), row, False
        elif k % 4:
            yield drawn.texture(rng, side), row, True
        else:
            yield _mockup(rng, side), row, True


def copied(count: int, side: int) -> Iterable[Sample]:
    """Pictures with one pasted patch, against the same kind without, and plain mockups."""
    for k in range(count):
        rng = np.random.default_rng([3, side, k])
        row = PromptRow(f"copy {k}", "a garden")
        picture = drawn.texture(rng, side) if k % 4 < 3 else _mockup(rng, side)
        bad = k % 4 in (0, 2)
        yield drawn.pasted(rng, picture) if bad else picture, row, not bad


def _mockup(rng: np.random.Generator, side: int) -> drawn.Picture:
    return drawn.mockup(rng, drawn.SHAPES[int(rng.integers(5))], int(rng.integers(8)), int(rng.integers(8)), side)


def duplicates(count: int, side: int) -> dict[str, Any]:
    """Random edits of one picture against its original; other seeds of the prompt and the same pose in another colour."""
    spent, prints = 0.0, 0

    def print_of(picture: drawn.Picture) -> Fingerprint:
        nonlocal spent, prints
        start = time.process_time()
        found = fingerprint(picture)
        spent, prints = spent + time.process_time() - start, prints + 1
        return found

    good: list[Verdict] = []
    bad: list[Verdict] = []
    edits = list(drawn.edits().values())
    for k in range(count):
        rng = np.random.default_rng([4, side, k])
        shape, colour, ground = drawn.SHAPES[k % 5], int(rng.integers(8)), int(rng.integers(8))

        def make(seed: int, tint: int, shape: str = shape, ground: int = ground, k: int = k) -> drawn.Picture:
            return drawn.mockup(np.random.default_rng([5, k, seed]), shape, tint, ground, side)

        first = make(0, colour)
        index = DuplicateIndex(DuplicatesSettings())
        index.add("row", "row #0", print_of(first))
        bad += [index.judge_row("row", print_of(edits[int(e)](first, rng))) for e in rng.choice(len(edits), 3, replace=False)]
        others = [make(1, colour), make(2, colour), make(0, (colour + 1 + int(rng.integers(7))) % 8)]
        good += [index.judge_row("row", print_of(picture)) for picture in others]
    scores = [[v.score or 0.0 for v in verdicts] for verdicts in (good, bad)]
    failed = [sum(v.outcome == "rejected" for v in verdicts) for verdicts in (good, bad)]
    return {**_row(f"near-duplicates, drawn {side}", *scores, failed[1], failed[0], 0.0), "cpu_ms": round(1000 * spent / prints, 1)}


def labelled(path: Path, kind: str) -> Iterable[Sample]:
    """The pictures of one kind (`text` or `copies`) of a labels file."""
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["path"].split("/")[0] == kind:
                text = line["expected_text"] or None
                row = PromptRow(line["path"], line["prompt"], text=text)
                yield read_picture(path.parent / line["path"]), row, line["label"] not in BAD_LABELS


def whole(count: int) -> dict[str, Any]:
    """All checks on 512x512 mockups that want no text and show no people, and the fingerprint: CPU ms an image."""
    checks = registry.prepare(registry.build(ChecksSettings()))
    pictures = [_mockup(np.random.default_rng([6, k]), 512) for k in range(count)]
    row = PromptRow("all", "a product on a table", text="")
    registry.run(checks, pictures[0], row)
    start = time.process_time()
    for picture in pictures:
        registry.run(checks, picture, row)
        fingerprint(picture)
    return {"set": "all checks, 512x512, no people", "cpu_ms": round(1000 * (time.process_time() - start) / count, 1)}


def run(count: int, labels: Path | None) -> list[dict[str, Any]]:
    """Every set, one row each."""
    text, copies = TextCheck(TextSettings()), CopiesCheck(CopiesSettings())
    text.prepare()
    copies.prepare()
    jobs: list[Callable[[], dict[str, Any]]] = [
        lambda: measure("text, drawn 512", text, signs(count, 512)),
        lambda: measure("text, drawn 256", text, signs(count, 256)),
        lambda: measure("unwanted text, drawn 512", text, unwanted(count, 512)),
        lambda: measure("unwanted text, drawn 256", text, unwanted(count, 256)),
        lambda: duplicates(count, 512),
        lambda: measure("copies, drawn 512", copies, copied(count, 512)),
        lambda: whole(max(5, count // 10)),
    ]
    if labels is not None:
        jobs.insert(0, lambda: measure("text, labelled", text, labelled(labels, "text")))
        jobs.insert(1, lambda: measure("copies, labelled", copies, labelled(labels, "copies")))
    rows = []
    for job in jobs:
        rows.append(job())
        print(_line(rows[-1]), flush=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    cells = (row["set"], row.get("auc"), row.get("caught"), row.get("refused"), row["cpu_ms"])
    return "{:<32} {:>8} {:>14} {:>14} {:>9}".format(*("" if cell is None else cell for cell in cells))


def main() -> int:
    """Prints the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="drawn pictures of each kind")
    parser.add_argument("--labels", type=Path, help="a CSV of real pictures")
    args = parser.parse_args()
    print("{:<32} {:>8} {:>14} {:>14} {:>9}".format("set", "AUC", "bad caught", "good refused", "CPU ms"))
    rows = run(args.count, args.labels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"bench": "checks", "machine": platform.machine(), "count": args.count, "peak_mib": round(peak), "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
