"""Sets of labelled pictures from public repositories: what a check is tuned on, chosen by, and judged by; split by source and model family.

`scripts/bench/sets/<check>.csv` has a line for each picture, or each box of one. Columns: repository, commit, path, split, family, label,
box, prompt, expected_text, why. `family` is the generator, or `photograph`; `box` is `x0 y0 x1 y1` in pixels. No source's pictures of one
family may be in two splits: then nothing is measured. The pictures are never committed. `bring` puts them under
`DIR/<owner>+<name>/<commit[:12]>/<path>`, by git alone.

    python scripts/bench/checks.py --sets copies --sets hands --split held --pictures DIR --bring
"""

from __future__ import annotations

import csv
import math
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from renderfarm.checks.base import Check
from renderfarm.checks.files import read_picture
from renderfarm.schema import PromptRow

Split = Literal["tuned", "chosen", "held"]
FOLDER = Path(__file__).parent / "sets"
COLUMNS = ("repository", "commit", "path", "split", "family", "label", "box", "prompt", "expected_text", "why")
GOOD = {"right", "lettered", "texture", "good", "not_a_hand", "no_hand", "safe", "other"}
BAD = {"copied", "wrong", "malformed", "unreadable", "unwanted", "unsafe", "broken", "twin"}
"""A picture is bad where one of its lines has a bad label; then a check that says so is right."""
GITHUB = "https://github.com"


class SetsFault(Exception):
    """A set that cannot be measured on: what, where, remedy."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a set."""

    repository: str
    commit: str
    path: str
    split: Split
    family: str
    label: str
    box: tuple[int, int, int, int] | None
    prompt: str
    expected_text: str | None
    why: str

    @property
    def place(self) -> Path:
        """Where the picture lies under the folder of pictures."""
        return Path(self.repository.replace("/", "+")) / self.commit[:12] / self.path

    @property
    def bad(self) -> bool:
        """Whether a check should find fault with it."""
        return self.label in BAD


def read(check: str, folder: Path = FOLDER) -> list[Line]:
    """The lines of a check's set, its splits checked to be disjoint by source and family.

    Raises:
        SetsFault: a line is not what it should be, or a source's pictures of one family are in two splits.
    """
    path = folder / f"{check}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise SetsFault(f"{path.name}: columns {reader.fieldnames}, expected {', '.join(COLUMNS)}")
            lines = [_line(raw, f"{path.name} line {number}") for number, raw in enumerate(reader, 2)]
    except OSError as error:
        raise SetsFault(f"{check}: no such set ({error.strerror}: {path})") from error
    disjoint(lines)
    return lines


def _line(raw: dict[str, str], where: str) -> Line:
    if raw["split"] not in get_args(Split) or raw["label"] not in GOOD | BAD:
        raise SetsFault(f"{where}: split {raw['split']!r} or label {raw['label']!r} is not known")
    if not raw["family"] or len(raw["commit"]) != 40 or raw["repository"].count("/") != 1 or ".." in Path(raw["path"]).parts:
        raise SetsFault(f"{where}: needs a family, a whole commit, owner/name and a path inside the repository")
    corners = tuple(int(value) for value in raw["box"].split())
    if corners and len(corners) != 4:
        raise SetsFault(f"{where}: a box is four numbers, x0 y0 x1 y1")
    split: Any = raw["split"]
    text = raw["expected_text"] or None
    rest = (split, raw["family"], raw["label"], corners or None, raw["prompt"], text, raw["why"])
    return Line(raw["repository"], raw["commit"], raw["path"], *rest)  # type: ignore[arg-type]


def disjoint(lines: Iterable[Line]) -> None:
    """Raises `SetsFault` where one source's pictures of one family are in two splits, or one picture is, whatever its family."""
    splits: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for line in lines:
        splits[line.repository, line.family].add(line.split)
        splits[line.repository, f"picture {line.path}"].add(line.split)
    for (repository, what), found in splits.items():
        if len(found) > 1:
            raise SetsFault(
                f"{repository}, {what}: in the splits {' and '.join(sorted(found))}; a source's pictures of one family belong in one"
            )


def bring(lines: Sequence[Line], pictures: Path, clones: Path | None = None) -> int:
    """Puts missing pictures in their places and returns how many, from `clones`, a folder of git directories `<owner>+<name>`, else from
    GitHub.

    Raises:
        SetsFault: git does not give a picture.
    """
    missing = {line.place: line for line in lines if not (pictures / line.place).exists()}
    for place, line in sorted(missing.items()):
        home = _clone(line, pictures / ".git-directories", clones)
        data = _git(home, "show", f"{line.commit}:{line.path}")
        target = pictures / place
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.write_bytes(data)
        partial.replace(target)
    return len(missing)


def _clone(line: Line, ours: Path, clones: Path | None) -> Path:
    name = line.repository.replace("/", "+")
    if clones is not None:
        there = [place for place in (clones / name, clones / name / "repo", clones / f"{name}.git") if (place / "HEAD").exists()]
        there += [place for place in (clones / name,) if (place / ".git").exists()]
        if there:
            return there[0]
    home = ours / f"{name}.git"
    if not home.exists():
        home.mkdir(parents=True)
        _git(home, "init", "--quiet", "--bare")
        _git(home, "remote", "add", "origin", f"{GITHUB}/{line.repository}")
        _git(home, "config", "remote.origin.promisor", "true")
        _git(home, "config", "remote.origin.partialclonefilter", "blob:none")
    if subprocess.run(["git", "-C", str(home), "cat-file", "-e", line.commit], capture_output=True, check=False).returncode:
        _git(home, "fetch", "--quiet", "--depth", "1", "--filter=blob:none", "origin", line.commit)
    return home


def _git(home: Path, *words: str) -> bytes:
    done = subprocess.run(["git", "-C", str(home), *words], capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise SetsFault(f"git {words[0]} in {home.name}: {reason}; check the network, or name cloned repositories with --clones")
    return done.stdout


def interval(k: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of k of n."""
    if n == 0:
        return 0.0, 1.0
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def share(k: int, n: int) -> str:
    """`k of n, share [low, high]` for tables."""
    low, high = interval(k, n)
    return f"{k} of {n}" + (f" {k / n:.3f} [{low:.3f}, {high:.3f}]" if n else "")


def measure(check: Check, lines: Sequence[Line], split: Split, pictures: Path) -> dict[str, Any]:
    """One check over a split's pictures, a verdict for each and each text wanted of it: recall (of bad ones, rejected or flagged), and
    good ones refused or flagged.

    Raises:
        SetsFault: a picture is not there.
    """
    kept: defaultdict[tuple[Path, str | None], list[Line]] = defaultdict(list)
    for line in lines:
        if line.split == split:
            kept[line.place, line.expected_text].append(line)
    counts: defaultdict[tuple[bool, str], int] = defaultdict(int)
    spent = 0.0
    for (place, _), of_it in kept.items():
        if not (pictures / place).exists():
            raise SetsFault(f"{place} is not under {pictures}; add --bring")
        first = of_it[0]
        picture = read_picture(pictures / place)
        start = time.process_time()
        verdict = check.check(picture, PromptRow(str(place), first.prompt, text=first.expected_text))
        spent += time.process_time() - start
        counts[any(line.bad for line in of_it), verdict.outcome] += 1
    good, bad = (sum(n for (is_bad, _), n in counts.items() if is_bad is side) for side in (False, True))
    return {
        "set": f"{check.name}, {split}",
        "n": good + bad,
        "recall": share(counts[True, "rejected"] + counts[True, "flagged"], bad),
        "refused": share(counts[False, "rejected"], good),
        "flagged": share(counts[False, "flagged"], good),
        "not_run": share(counts[False, "not_run"] + counts[True, "not_run"], good + bad),
        "families": len({line.family for of_it in kept.values() for line in of_it}),
        "cpu_ms": round(1000 * spent / max(1, good + bad), 1),
    }
