"""Which lettering is read from prompts, against what others published as right.

    python scripts/bench/lettering.py text_prompts.jsonl text_prompts_zh.jsonl text_content.csv text_content_zh.csv
    python scripts/bench/lettering.py --show 50 --seed 1 prompts.csv prompts/

Takes LongText-Bench (JSON lines with `prompt` and a list `text`) and OneIG-Benchmark (CSV with `prompt_en` or `prompt_cn`, `text_content`):
a prompt is right where the letters and digits wanted are the published ones, in their order, whatever lies between. Any other CSV with a
`prompt`, and any text file or folder of them, has no right answers: `--show N` draws N prompts that hold quotation marks or are read as
anything, for a person to judge. One JSON line at the end; `--misses` shows what was read otherwise than published.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from renderfarm.wording import from_prompt
from renderfarm.wording.quotes import quotations, tidied


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt, and the texts that are right; None where nobody published them."""

    file: str
    prompt: str
    texts: tuple[str, ...] | None


def prompts(path: Path) -> Iterator[Asked]:
    """The prompts of a file, or of all text files of a folder."""
    if path.is_dir():
        for inner in sorted(path.glob("*.txt")):
            yield Asked(path.name, inner.read_text(encoding="utf-8"), None)
    elif path.suffix == ".jsonl":
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts = row.get("text")
            yield Asked(path.name, row["prompt"], None if texts is None else (texts,) if isinstance(texts, str) else tuple(texts))
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                prompt = next(row[key] for key in ("prompt", "prompt_en", "prompt_cn") if row.get(key) is not None)
                yield Asked(path.name, prompt, _literal(row["text_content"]) if "text_content" in row else None)
    else:
        for line in path.read_text(encoding="utf-8").splitlines():
            yield Asked(path.name, line, None)


def _literal(cell: str) -> tuple[str, ...]:
    """A Python list in a cell. Its strokes are letters (LaTeX, `\\n` as the prompt has it) but before quotation marks."""
    return tuple(map(str, ast.literal_eval(re.sub(r"\\(?!['\"])", r"\\\\", cell))))


def plain(texts: Sequence[str]) -> str:
    """Letters and digits alone, without case."""
    return re.sub(r"[\W_]+", "", "".join(texts).replace("\\n", " ")).casefold()


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--misses", action="store_true", help="show what was read otherwise than published")
    parser.add_argument("--show", type=int, default=0, help="prompts to show for a person to judge")
    parser.add_argument("--seed", type=int, default=1, help="which are drawn")
    args = parser.parse_args()
    asked = [one for path in args.files for one in prompts(path)]
    begun = time.process_time()
    readings = [from_prompt(one.prompt) for one in asked]
    seconds = time.process_time() - begun
    judged = [
        (one, said, plain(one.texts) == plain([said.text or ""]))
        for one, said in zip(asked, readings, strict=True)
        if one.texts is not None
    ]
    for one, said, right in judged:
        if args.misses and not right:
            print(f"{one.file}: {one.prompt[:300]}\n  published {one.texts}\n  read      {said.text!r} {[str(q) for q in said.doubts]}\n")
    told = [
        (one, said)
        for one, said in zip(asked, readings, strict=True)
        if said.text is not None or said.doubts or quotations(tidied(one.prompt))
    ]
    for one, said in random.Random(args.seed).sample(told, min(args.show, len(told))):
        print(f"{one.file}: {one.prompt[:600]}\n  reads {said.text!r} at {said.where!r} {[str(q) for q in said.doubts]}\n")
    figures = {
        "prompts": len(asked),
        "published": len(judged),
        "right": sum(right for *_, right in judged),
        "asked_for": sum(bool(said.text) for said in readings),
        "no_text": sum(said.text == "" for said in readings),
        "doubted": sum(bool(said.doubts) for said in readings),
        "ms_each": round(1000 * seconds / max(1, len(asked)), 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
