#!/usr/bin/env python3
"""Real kills: drivers, renderers, finishers and raylets get SIGKILL at drawn moments, and nothing may be lost or done twice.

What must hold after every round is written in scripts/faults/ordeal.py. Prints a table and one JSON line; exit 1 if a round fails, 77 if
what the run needs is not here.

    scripts/chaos.py --kills 5                              on a folder, with private local clusters, drivers only
    scripts/chaos.py --kills 5 --engine cluster             on a folder; all victims, one cluster for all rounds
    scripts/chaos.py --kills 100 --engine cluster --server ceph --keep .cache/chaos.jsonl
                                                            against Ceph RGW (root, Debian packages); goes on where it was stopped
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.faults import processes, servers
from scripts.faults.ordeal import VICTIMS, Ordeal, Round

HEAD = "round  victim    moment    at s | committed  redone (max)  committed too  twice  lost | accepted  exhausted  failed  audit    same"


def _line(done: Round) -> str:
    return (
        f"{done.number:>5}  {done.victim:<8}  {done.moment:<8}  {done.killed_after_s:>4} | {done.committed_at_kill:>9}  {done.redone:>6} "
        f"({done.redone_max:>2})  {done.committed_redone:>13}  {done.recorded_twice:>5}  {done.lost:>4} | {done.accepted:>8}  "
        f"{done.exhausted:>9}  {done.failed:>6}  {done.audit:<7}  {done.same_as_undisturbed!s:>5}{'' if done.ok else '  FAILED'}"
    )


class Kept:
    """Finished rounds, kept in a file so that a stopped run goes on."""

    def __init__(self, path: Path | None, seed: int) -> None:
        self.path, self.seed = path, seed
        self.rounds: dict[int, Round] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                if entry.pop("seed") == seed:
                    self.rounds[entry["number"]] = Round(**entry)

    def add(self, done: Round) -> None:
        """Append one round."""
        self.rounds[done.number] = done
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a") as file:
                file.write(json.dumps({"seed": self.seed, **asdict(done)}) + "\n")


def _run(args: argparse.Namespace, folder: Path, kept: Kept) -> None:
    victims = tuple(args.victims.split(",")) if args.victims else VICTIMS[args.engine]
    with servers.s3_or_folder(args.server, folder) as base:
        log = args.keep.with_suffix(".log") if args.keep is not None else folder / "log.txt"
        ordeal = Ordeal(folder, base, args.engine, log)
        print(HEAD, flush=True)
        number = 0
        while len(kept.rounds) < args.kills:
            number += 1
            if number in kept.rounds:
                continue
            done = ordeal.round(number, args.seed, victims)
            if done is None:
                print(f"{number:>5}  over before the kill: not counted", flush=True)
                continue
            kept.add(done)
            print(_line(done), flush=True)


def main() -> int:
    """All rounds, a table, one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", choices=("folder", "moto", "ceph"), default="folder", help="where the outputs lie")
    parser.add_argument("--engine", choices=tuple(VICTIMS), default="local", help="cluster: one Ray cluster for all rounds")
    parser.add_argument("--victims", help="comma-separated: driver, worker, renderer, finisher, raylet; taken in turn")
    parser.add_argument("--keep", type=Path, metavar="FILE.jsonl", help="append finished rounds here, and skip those that are there")
    args = parser.parse_args()
    kept = Kept(args.keep, args.seed)
    with tempfile.TemporaryDirectory(prefix="rf-chaos-", dir="/tmp") as name:
        try:
            _run(args, Path(name), kept)
        except servers.NoServer as error:
            print(f"skipped: {error}", file=sys.stderr)
            return 77
        finally:
            processes.end_all(Path(name))
    rounds = [kept.rounds[number] for number in sorted(kept.rounds)]
    good = sum(done.ok for done in rounds)
    told = {"kills": len(rounds), "ok": good, "seed": args.seed, "server": args.server, "victims": Counter(r.victim for r in rounds)}
    print(json.dumps({**told, "redone_max": max((r.redone for r in rounds), default=0), "rounds": [asdict(done) for done in rounds]}))
    return 0 if good == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
