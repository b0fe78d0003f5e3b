"""What `defaults.of` gains and costs: held-out lettered prompts of the starter weights, words read by RapidOCR.

    python -m scripts.bench.best_of --prompts 48 --of 4 --out /tmp/best

One run renders every prompt `of` times. Of the same attempts are judged: the first, which is what one rendering gives; the first that
passes the checks, of three at most, which is what a job without `of` delivers; and the best that passes. A prompt of which none passes is
wrong.
RapidOCR is also what the text check reads with: a word that it takes for right wrongly is right for both. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from renderfarm import Job, Output, manifest
from renderfarm.evaluate.intervals import wilson
from renderfarm.job import JobSettings
from renderfarm.pictures import decode, read_file
from renderfarm.retry import BEST
from renderfarm.schema import PromptRow
from scripts.starter.evaluate import held_out
from scripts.starter.judges import WordJudge
from scripts.starter.sampling import GUIDANCE, STEPS

TRIES = 3
"""`checks.attempts` of a job that says nothing."""


def main() -> None:
    """Render, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=48, help="lettered prompts")
    parser.add_argument("--of", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True, help="a folder for manifest and output; what lies there goes on")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    words = {f"{at:03d}": (spec.word, text) for at, (spec, text) in enumerate(held_out(4 * asked.prompts, 1)) if spec.word is not None}
    manifest.write(asked.out / "rows.parquet", [PromptRow(name, text, text=word) for name, (word, text) in words.items()])
    sides = {"width": 256, "height": 256, "steps": STEPS, "guidance": GUIDANCE, "of": asked.of}
    job = JobSettings.model_validate(
        {
            "name": "best-of", "manifest": str(asked.out / "rows.parquet"), "output": str(asked.out / "out"), "defaults": sides,
            "checks": {"attempts": asked.of}, "farm": {"engine": "local"}, "negative_prompt": "blurry, cropped, gibberish text",
        }
    )  # fmt: skip
    Job(job).render()
    columns = ["row_id", "attempt", "outcome", "verdicts", "object_key"]
    attempts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in Output(asked.out / "out").records(columns).to_table().to_pylist():
        if row["attempt"]:
            attempts[row["row_id"]].append(row)
    judge = WordJudge()
    read: dict[str, list[bool]] = defaultdict(list)
    tries = 0
    for name, (word, _) in words.items():
        tried = sorted(attempts[name], key=lambda row: row["attempt"])
        first = next((row for row in tried[:TRIES] if _passes(row)), None)
        tries += tried.index(first) + 1 if first else TRIES
        best = next((row for row in tried if row["outcome"] == "accepted"), None)
        for kind, row in (("first", tried[0]), ("first_that_passes", first), ("best", best)):
            read[kind].append(row is not None and judge.read(decode(read_file(asked.out / "out" / row["object_key"]))) == word)
        read["delivered"].append(best is not None)
    shares = {
        kind: [round(sum(right) / len(right), 4), *(round(edge, 4) for edge in wilson(sum(right) / len(right), len(right)))]
        for kind, right in read.items()
    }
    print(json.dumps({"prompts": len(words), "of": asked.of, "right": shares, "renderings_first_that_passes": tries / len(words)}))


def _passes(row: dict[str, Any]) -> bool:
    """Whether every check passed, whatever became of it among the others."""
    return not any(verdict["outcome"] == "rejected" and verdict["check"] != BEST for verdict in row["verdicts"])


if __name__ == "__main__":
    main()
