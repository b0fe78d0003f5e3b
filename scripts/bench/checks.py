"""How well the checks tell good pictures from bad ones, and what they cost. One thread, CPU seconds of this process.

Drawn pictures (seeded, `--count` of each kind): signs with and without a fault, mockups against unwanted text, near-duplicates by random
edits against other seeds and other colours, pasted copies, hands with four, six, seven or fused fingers against five. `--labels CSV` adds
real pictures: columns path, label, prompt, expected_text; the path's first folder (text, copies, hands) names the check. `--index N` times
the self-join of N hashes, half of them near another. `--plots DIR` draws a ROC curve a set. Prints a table and ends with one JSON line;
where a set has fewer than 100 good pictures, "k of n" is what counts and its 95 % interval is in the JSON. `--only copies`: those alone.
`--sets NAME` measures on real pictures of public repositories instead, by splits that share no source and family (`splits.py`).

    python scripts/bench/checks.py --count 1000 --labels labels.csv --index 1000000 --plots roc
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
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from renderfarm.checks import registry
from renderfarm.checks.base import Check
from renderfarm.checks.copies import CopiesCheck
from renderfarm.checks.duplicates import DuplicateIndex
from renderfarm.checks.files import read_picture
from renderfarm.checks.hands import HandsCheck
from renderfarm.checks.text import TextCheck
from renderfarm.job.checks import ChecksSettings, CopiesSettings, DuplicatesSettings, HandsSettings, TextSettings
from renderfarm.pictures import Fingerprint, HammingIndex, fingerprint, pdq
from renderfarm.schema import PromptRow, Verdict
from scripts.bench import drawn, drawn_hands, splits
from scripts.bench.splits import interval

Sample = tuple[drawn.Picture, PromptRow, bool]
"""Picture, row, and whether the check should accept it."""
BAD_LABELS = ("wrong", "forged", "malformed_weak", "malformed", "severe")
POINTS_MAX = 200


def auc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Chance that a good picture scores above a bad one, ties half (Mann-Whitney)."""
    if not good or not bad:
        return math.nan
    one, other = np.asarray(good)[:, None], np.asarray(bad)[None]
    return float(np.mean((one > other) + 0.5 * (one == other)))


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
        "roc": roc(good, bad),
    }


def roc(good: Sequence[float], bad: Sequence[float]) -> list[tuple[float, float]]:
    """(good refused, bad caught) as shares, at every threshold or at most POINTS_MAX of them."""
    if not good or not bad:
        return []
    borders = np.unique([*good, *bad, 2.0])
    borders = borders[np.unique(np.linspace(0, len(borders) - 1, POINTS_MAX).astype(int))]
    one, other = np.asarray(good), np.asarray(bad)
    return [(round(float((one < b).mean()), 4), round(float((other < b).mean()), 4)) for b in borders]


def plot(row: dict[str, Any], folder: Path) -> None:
    """One SVG of a set's curve."""
    line = " ".join(f"{40 + 320 * x:.1f},{360 - 320 * y:.1f}" for x, y in [(0.0, 0.0), *row["roc"]])
    name = "".join(c if c.isalnum() else "-" for c in row["set"])
    (folder / f"{name}.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400" font-family="sans-serif" font-size="12">'
        '<rect width="400" height="400" fill="white"/><path d="M40 40V360H360" fill="none" stroke="black"/>'
        '<path d="M40 360L360 40" stroke="#bbb" stroke-dasharray="4"/>'
        f'<polyline points="{line}" fill="none" stroke="#c22" stroke-width="2"/>'
        f'<text x="40" y="28">{row["set"]}: AUC {row["auc"]}</text><text x="130" y="385">good pictures refused</text>'
        '<text transform="translate(24 270) rotate(-90)">bad pictures caught</text></svg>\n'
    )


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
    kept, lost = ([v.score or 0.0 for v in verdicts] for verdicts in (good, bad))
    refused, caught = (sum(v.outcome == "rejected" for v in verdicts) for verdicts in (good, bad))
    row = _row(f"near-duplicates, drawn {side}", kept, lost, caught, refused, 0.0)
    return {**row, "cpu_ms": round(1000 * spent / prints, 1)}


def labelled(path: Path, kind: str) -> Iterable[Sample]:
    """The pictures of one kind (`text` or `copies`) of a labels file."""
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["path"].split("/")[0] == kind:
                text = line["expected_text"] or None
                row = PromptRow(line["path"], line["prompt"] or ("a photo of a hand" if kind == "hands" else ""), text=text)
                yield read_picture(path.parent / line["path"]), row, line["label"] not in BAD_LABELS


def hands(count: int, kind: drawn_hands.Kind, side: int = 512) -> Iterable[Sample]:
    """As many hands of a kind as hands with five fingers."""
    row = PromptRow("hand", "a photo of a hand")
    for k in range(count // 2):
        yield drawn_hands.hand(np.random.default_rng([7, side, k]), "five", side), row, True
        yield drawn_hands.hand(np.random.default_rng([8, side, k, len(kind)]), kind, side), row, False


def self_join(count: int, asked: int = 2000) -> dict[str, Any]:
    """The time that `count` hashes take to ask for their twins in eight forms, from a sample of them at the full size."""
    rng = np.random.default_rng(9)
    base = rng.integers(0, 2**64, (count // 2, 4), dtype=np.uint64)
    near = base[rng.integers(0, len(base), count - len(base))].copy()
    for _ in range(20):
        near[np.arange(len(near)), rng.integers(0, 4, len(near))] ^= np.uint64(1) << rng.integers(0, 64, len(near)).astype(np.uint64)
    hashes = rng.permutation(np.concatenate([base, near]))
    start = time.process_time()
    index = HammingIndex()
    index.extend(hashes)
    built = time.process_time() - start
    sample = rng.integers(0, count, min(asked, count))
    start = time.process_time()
    pairs = 0
    for place in sample:
        forms = pdq.forms_of_hash(hashes[place].astype(">u8").tobytes().hex())
        found, _ = index.search(forms, 31)
        assert place in found
        pairs += len(found) - 1
    each = (time.process_time() - start) / len(sample)
    return {
        "set": f"self-join of {count:,} hashes",
        "cpu_ms": round(1000 * each, 2),
        "hours": round((built + each * count) / 3600, 3),
        "pairs_an_image": round(pairs / len(sample), 3),
    }


def naive(count: int) -> dict[str, Any]:
    """What the libraries cost when called as their examples do, on one thread: RapidOCR with its defaults, and SIFT matched with itself."""
    import cv2
    from rapidocr import RapidOCR

    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    engine: Any = RapidOCR(params={**threads, "Global.log_level": "critical"})
    sift: Any = cv2.SIFT
    pictures = [_mockup(np.random.default_rng([6, k]), 512) for k in range(count)]
    engine(pictures[0])
    start = time.process_time()
    for picture in pictures:
        engine(picture[..., ::-1])
        _, descriptors = sift.create().detectAndCompute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None)
        if descriptors is not None:
            cv2.BFMatcher().knnMatch(descriptors, descriptors, k=min(3, len(descriptors)))
        fingerprint(picture)
    return {"set": "libraries called naively, 512x512", "cpu_ms": round(1000 * (time.process_time() - start) / count, 1)}


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


def run(count: int, labels: Path | None, index: int, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every set whose name holds one of `only`, or all: one row each."""
    text, copies, handed = TextCheck(TextSettings()), CopiesCheck(CopiesSettings()), HandsCheck(HandsSettings())
    for check in (text, copies, handed):
        check.prepare()
    kinds = drawn_hands.KINDS[1:]
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        "text, drawn 512": lambda: measure("text, drawn 512", text, signs(count, 512)),
        "text, drawn 256": lambda: measure("text, drawn 256", text, signs(count, 256)),
        "unwanted text, drawn 512": lambda: measure("unwanted text, drawn 512", text, unwanted(count, 512)),
        "unwanted text, drawn 256": lambda: measure("unwanted text, drawn 256", text, unwanted(count, 256)),
        "near-duplicates": lambda: duplicates(count, 512),
        "copies, drawn 512": lambda: measure("copies, drawn 512", copies, copied(count, 512)),
        **{f"hands, {k}": partial(measure, f"hands, drawn, {k} against five", handed, hands(count, k)) for k in kinds},
        "hands, all": lambda: measure("hands, drawn, all against five", handed, (s for k in kinds for s in hands(count // 4, k))),
        "cost, ours": lambda: whole(max(5, count // 10)),
        "cost, naive": lambda: naive(max(5, count // 10)),
    }
    if index:
        jobs["self-join"] = lambda: self_join(index)
    if labels is not None:
        real: dict[str, Check] = {"text": text, "copies": copies, "hands": handed}
        names = {kind: f"{kind}, labelled" for kind in real}
        jobs = {names[kind]: partial(measure, names[kind], check, labelled(labels, kind)) for kind, check in real.items()} | jobs
    rows = []
    for name, job in jobs.items():
        if not only or any(wanted in name for wanted in only):
            rows.append(job())
            print(_line(rows[-1]), flush=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    cells = (row["set"], row.get("auc"), row.get("caught"), row.get("refused"), row["cpu_ms"])
    return "{:<32} {:>8} {:>14} {:>14} {:>9}".format(*("" if cell is None else cell for cell in cells))


def _on_sets(args: argparse.Namespace) -> int:
    """One table row and JSON row a check; 2 where a set is not to be measured on."""
    checks = {check.name: check for check in registry.build(ChecksSettings())}
    rows = []
    try:
        for name in args.sets:
            lines = splits.read(name)
            if args.bring:
                splits.bring([line for line in lines if line.split == args.split], args.pictures, args.clones)
            if name not in checks:
                raise splits.SetsFault(f"{name}: no check of one picture by default (those: {', '.join(sorted(checks))})")
            checks[name].prepare()
            rows.append(splits.measure(checks[name], lines, args.split, args.pictures))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    except splits.SetsFault as fault:
        print(fault, file=sys.stderr)
        return 2
    print(json.dumps({"bench": "checks", "machine": platform.machine(), "rows": rows}))
    return 0


def main() -> int:
    """Prints the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="drawn pictures of each kind")
    parser.add_argument("--labels", type=Path, help="a CSV of real pictures")
    parser.add_argument("--index", type=int, default=0, help="hashes of the self-join; 0: none")
    parser.add_argument("--plots", type=Path, help="a folder for ROC curves")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="only sets whose name holds this; may be repeated")
    parser.add_argument("--sets", metavar="CHECK", action="append", default=[], help="measure on a set of real pictures; may be repeated")
    parser.add_argument("--split", choices=("tuned", "chosen", "held"), default="held", help="which pictures of the sets")
    parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="the folder of the sets' pictures")
    parser.add_argument("--bring", action="store_true", help="bring missing pictures by git first")
    parser.add_argument("--clones", type=Path, help="git directories that you cloned, named owner+name, to bring them from")
    args = parser.parse_args()
    if args.sets:
        return _on_sets(args)
    print("{:<32} {:>8} {:>14} {:>14} {:>9}".format("set", "AUC", "bad caught", "good refused", "CPU ms"))
    rows = run(args.count, args.labels, args.index, args.only)
    if args.plots is not None:
        args.plots.mkdir(parents=True, exist_ok=True)
        for row in rows:
            if row.get("roc"):
                plot(row, args.plots)
    for row in rows:
        row.pop("roc", None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"bench": "checks", "machine": platform.machine(), "count": args.count, "peak_mib": round(peak), "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
