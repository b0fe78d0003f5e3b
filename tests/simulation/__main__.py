"""Thousands of seeded lives of the loop on a virtual clock: workers that die, hang and answer late, a storage that fails before or after it
wrote or executes a write long after nobody waits for it, killed drivers, two drivers at once, windows that close. No Ray, no GPU.

What must hold is written in tests/simulation/judge.py. Prints each failing seed and one JSON line; exit 1 if one fails.

    python -m tests.simulation --seeds 10000 --processes 2
    python -m tests.simulation --seed 4711                     replays one seed, and says how each driver ended
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import structlog

from tests.simulation.judge import KINDS, Broken, decoding_once, run_seed

CHUNK = 25


@dataclass
class Told:
    """What a chunk of seeds came to."""

    lives: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    broken: list[str] = field(default_factory=list)
    cpu_s: float = 0.0


def run_chunk(first: int, last: int) -> Told:
    """Seeds from `first` up to, not including, `last`."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    told, cpu = Told(), time.process_time()
    for seed in range(first, last):
        try:
            with decoding_once():
                lives = run_seed(seed)
        except Broken as error:
            told.broken.append(str(error))
        except Exception as error:  # a bug is a failing seed, and the others go on
            told.broken.append(f"seed {seed}: {type(error).__name__}: {error}")
        else:
            told.lives.update(life.end for life in lives)
            told.commits += sum(len(life.commits) for life in lives)
    told.cpu_s = time.process_time() - cpu
    return told


def main() -> int:
    """All seeds, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="how many, counted from --first")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    if args.seed is not None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
        for life in run_seed(args.seed):
            print(life)
        return 0
    begun, told = time.monotonic(), Told()
    edges = range(args.first, args.first + args.seeds, CHUNK)
    with ProcessPoolExecutor(args.processes) as pool:
        ends = [min(edge + CHUNK, args.first + args.seeds) for edge in edges]
        for done, found in enumerate(pool.map(run_chunk, edges, ends), 1):
            told.lives += found.lives
            told.commits += found.commits
            told.cpu_s += found.cpu_s
            told.broken += found.broken
            for line in found.broken:
                print(line, flush=True)
            if done % 40 == 0:
                print(
                    f"{min(done * CHUNK, args.seeds)} seeds, {len(told.broken)} broken, {told.cpu_s:.0f} CPU s", file=sys.stderr, flush=True
                )
    summary = {"seeds": args.seeds, "first": args.first, "ok": args.seeds - len(told.broken), "kinds": KINDS, "lives": told.lives}
    timed = {"commits": told.commits, "cpu_s": round(told.cpu_s, 1), "wall_s": round(time.monotonic() - begun, 1)}
    print(json.dumps({**summary, **timed, "broken": told.broken}))
    return 1 if told.broken else 0


if __name__ == "__main__":
    sys.exit(main())
