#!/usr/bin/env python3
"""People who say much while a run goes on, as real processes that get SIGKILL: no statement is lost, none twice, and the run is unharmed.

    scripts/statements.py --statements 1000 --kills 50 --store folder       a store that fences
    scripts/statements.py --statements 1000 --kills 50 --store unfenced     an S3 server that lets every writer of a new object win

Ends with one JSON line: `lost` are statements that were durable and are neither in the log nor in the inbox, `left` those that wait at the
end. Exit 1 if anything that must hold does not.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from renderfarm import keys
from renderfarm.audit.audit import audit
from renderfarm.log import reading
from renderfarm.notes.statement import parse
from renderfarm.output import PARTS
from renderfarm.statements import inbox
from renderfarm.statements.inbox import Letter
from renderfarm.storage import Storage, open_storage
from scripts.faults import servers
from scripts.faults.listener import TTL_S

ROOT = Path(__file__).resolve().parents[1]
DRIVER_SHARE = 0.2
"""How many of the kills hit the driver."""
RESTARTS_MAX = 400
JOB = """\
name: talk
manifest: rows.parquet
output: {output}
keys: keys
defaults: {{width: 256, height: 256, steps: 2, guidance: 1.0}}
checks: {{attempts: 2, duplicates: {{enabled: false}}}}
commit: {{images: 16, interval_s: 5}}
"""


@dataclass
class Speaker:
    """One person's process, started again whenever it was killed; `told`: keys of what it said."""

    command: list[str]
    count: int
    seed: int
    told: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None
    errors: list[str] = field(default_factory=list)

    def start(self) -> None:
        """The rest of what it has to say."""
        if self.reader is not None:
            self.reader.join()
        self.seed += 1000
        command = [*self.command, str(self.count - len(self.told)), str(self.seed)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self.reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None and process.stderr is not None
        self.told += [line.strip() for line in process.stdout if line.endswith(".json\n")]
        self.errors += [line.strip() for line in process.stderr][-1:]

    @property
    def ended(self) -> bool:
        """Whether its process is gone, and everything that it printed was read."""
        if self.process is None or self.process.poll() is None:
            return False
        if self.reader is not None:
            self.reader.join()
        return True


class Ordeal:
    """One output, one driver, many people."""

    def __init__(self, folder: Path, output: str, args: argparse.Namespace) -> None:
        self.args, self.rng, self.output = args, random.Random(args.seed), output
        self.job = folder / "job.yaml"
        self.job.write_text(JOB.format(output=output))
        _write_rows(folder / "rows.parquet", args.images)
        self.key_set = keys.init(folder / "keys")
        self.speakers = []
        for number in range(args.speakers):
            private, public = keys.make_person(folder / "people", f"person {number}")
            (self.key_set.folder / "trust" / public.name).write_bytes(public.read_bytes())
            command = [sys.executable, "-m", "scripts.faults.speaker", output, str(self.key_set.folder), str(private)]
            share = args.statements // args.speakers + (number < args.statements % args.speakers)
            self.speakers.append(Speaker(command, share, args.seed * 100 + number))
        self.codes: Counter[int] = Counter()
        self.words: list[str] = []
        self.kills: Counter[str] = Counter()
        self.driver = self._driver()

    def _driver(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "scripts.faults.listener", str(self.job), str(self.args.pause_ms)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _attend(self, go_on: bool) -> bool:
        """Whether the driver has ended, and is not started again."""
        if self.driver.poll() is None:
            return False
        out, err = self.driver.communicate()
        code = self.driver.returncode
        self.codes[code] += 1
        if code not in (0, 3, 75, -9):
            self.words.append((err or out).strip()[-300:])
        if code in (0, 3) and not go_on:
            return True
        if code == 6:
            time.sleep(TTL_S / 4)
        self.driver = self._driver()
        return False

    def run(self) -> None:
        """Until everybody has said everything and the run is done."""
        storage = self._begun()
        for speaker in self.speakers:
            speaker.start()
        moments = sorted(self.rng.uniform(0.02, 0.95) for _ in range(self.args.kills))
        restarts = 0
        while not all(speaker.ended and len(speaker.told) >= speaker.count for speaker in self.speakers):
            share = sum(len(speaker.told) for speaker in self.speakers) / self.args.statements
            while moments and moments[0] <= share:
                moments.pop(0)
                self._kill()
            for speaker in self.speakers:
                if speaker.ended and len(speaker.told) < speaker.count and restarts < RESTARTS_MAX:
                    restarts += 1
                    speaker.start()
            self._attend(go_on=True)
            time.sleep(0.1)
        while not self._attend(go_on=bool(self._takeable(storage))):
            time.sleep(0.1)

    def _begun(self) -> Storage:
        """The output, once the driver has committed its first images."""
        while True:
            self._attend(go_on=True)
            try:
                storage = open_storage(self.output)
                if sum(1 for _ in storage.list(PARTS)) > 2:
                    return storage
            except Exception:  # not there yet
                pass
            time.sleep(0.2)

    def _takeable(self, storage: Storage) -> list[str]:
        return list(inbox.keys(storage)) if self.driver.poll() is not None else []

    def _kill(self) -> None:
        living = [speaker for speaker in self.speakers if not speaker.ended and speaker.process is not None]
        if self.rng.random() < DRIVER_SHARE and self.driver.poll() is None:
            self.driver.kill()
            self.kills["driver"] += 1
        elif living:
            victim = self.rng.choice(living)
            assert victim.process is not None
            victim.process.kill()
            self.kills["speaker"] += 1

    def judge(self) -> dict[str, object]:
        """What it came to."""
        storage = open_storage(self.output)
        logged = Counter(record.signed for record in reading.records(storage) if record.signed is not None)
        there = {Letter(parse(signed.encode()), signed).key for signed in logged}
        waiting = set(inbox.keys(storage))
        told = [key for speaker in self.speakers for key in speaker.told]
        report = audit(storage, self.key_set.trust())
        attempts = Counter((record.image_id, record.attempt) for record in reading.records(storage) if record.kind == "attempt")
        counts = report.counts
        return {
            "statements": len(told),
            "in_log": len(logged),
            "lost": sum(key not in there and key not in waiting for key in told),
            "twice": sum(count > 1 for count in logged.values()),
            "left": len(waiting),
            "attempts_twice": sum(count > 1 for count in attempts.values()),
            "remaining": counts.remaining if counts is not None else None,
            "audit": report.verdict,
            "findings": [str(finding) for finding in report.findings][:5],
            "driver_codes": {str(code): count for code, count in self.codes.items()},
            "kills": self.kills,
            "parts": report.parts,
            "errors": [*self.words, *(error for speaker in self.speakers for error in speaker.errors)][:5],
        }


def ordeal(folder: Path, output: str, args: argparse.Namespace) -> dict[str, object]:
    """One whole run; `ok`: whether all that must hold does."""
    begun = time.monotonic()
    made = Ordeal(folder, output, args)
    try:
        made.run()
    finally:
        for process in (made.driver, *(speaker.process for speaker in made.speakers)):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
    told = made.judge()
    fenced = made.codes[6] if args.store != "unfenced" else 0
    good = (told["lost"], told["twice"], told["left"], told["attempts_twice"], told["remaining"], fenced) == (0,) * 6
    strange = sum(count for code, count in made.codes.items() if code not in (0, 3, 6, 75, -9))
    told["ok"] = good and told["audit"] == "passed" and not strange and int(str(told["statements"])) >= args.statements
    return {"store": args.store, "seed": args.seed, **told, "wall_s": round(time.monotonic() - begun, 1)}


def parser() -> argparse.ArgumentParser:
    """The script's arguments."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--statements", type=int, default=1000)
    made.add_argument("--speakers", type=int, default=8)
    made.add_argument("--kills", type=int, default=50)
    made.add_argument("--images", type=int, default=400)
    made.add_argument("--pause-ms", type=float, default=60)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--store", choices=("folder", "moto", "unfenced", "ceph"), default="folder")
    return made


def main() -> int:
    """One JSON line."""
    args = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="rf-talk-") as name:
        folder = Path(name)
        try:
            with servers.s3_or_folder(args.store, folder) as base:
                told = ordeal(folder, f"{base}/talk", args)
        except servers.NoServer as error:
            print(f"skipped: {error}", file=sys.stderr)
            return 77
    print(json.dumps(told))
    return 0 if told["ok"] else 1


def _write_rows(path: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([{"id": f"row-{n}", "prompt": "a red mug"} for n in range(count)]), path)


if __name__ == "__main__":
    sys.exit(main())
