"""A worker process for the tests of the local engine, without weights: what a prompt says is done to the process.

die            the process ends over this attempt          hang    it never answers
fail           rendering fails with a reason               away    the storage is away while it is stored
die checking   it ends over the first check                refuse  (job's provider) the worker refuses the job
die, refuse    it ends, and whoever takes its place        hang    (job's provider) it is never ready
               refuses the job
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from renderfarm.errors import JobError, StorageAway, UserError
from renderfarm.pictures import Fingerprint
from renderfarm.schema import Attempt, RenderInfo, Verdict
from renderfarm.workers import process
from renderfarm.workers.finish import Checked, Decision, Finished, failed_record
from renderfarm.workers.worker import Known, Order, RenderReply, Trouble

INFO = RenderInfo("fake", "", "0" * 64, "none", "none", "none", "cpu", "", "0", "0")


class Fake:
    """Both kinds of worker."""

    def __init__(self, order: Order) -> None:
        self.refuses = order.job.provider == "refuse" or _refused().exists()
        while order.job.provider == "hang":
            time.sleep(60)

    def ready(self) -> int | UserError:
        return JobError("not with this worker", "provider", "another") if self.refuses else 4

    def known(self) -> Known:
        return Known("fake", bytes(range(256)), 255, "fake")

    def render(self, attempts: Sequence[Attempt]) -> tuple[Any, RenderReply | Trouble]:
        prompts = [attempt.image.prompt for attempt in attempts]
        if "die, refuse" in prompts:
            _refused().touch()
        if {"die", "die, refuse"} & set(prompts):
            os._exit(9)
        while "hang" in prompts:
            time.sleep(60)
        if "fail" in prompts:
            return None, Trouble("failed", "it fails")
        height, width = attempts[0].image.height, attempts[0].image.width
        pixels = np.full((len(attempts), height, width, 3), os.getpid() % 256, np.uint8)
        info = replace(INFO, device=os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        return pixels, RenderReply(info, (True,) * len(attempts), 1, 0.1, {})

    def check(self, attempts: Sequence[Attempt], pixels: Any, marked: Sequence[bool]) -> tuple[Checked, ...]:
        if attempts[0].image.prompt == "die checking":
            once = Path(os.environ["FAKE_WORKER"]) / attempts[0].image.image_id
            if not once.exists():
                once.touch()
                os._exit(9)
        assert pixels.shape[0] == len(attempts) == len(marked) == 1
        return (Checked((Verdict("seen", "accepted", attempts[0].image.image_id),), Fingerprint("0" * 64, 0, "")),)

    def store(
        self, attempts: Sequence[Attempt], pixels: Any, reply: RenderReply, checked: Sequence[Checked], decisions: Sequence[Decision]
    ) -> tuple[Finished, ...] | Trouble:
        if attempts[0].image.prompt == "away":
            return Trouble("away", "the storage is away")
        assert checked[0].verdicts[0].reason == attempts[0].image.image_id
        return (Finished(failed_record(attempts[0], "job", "plan", decisions[0].reason), {}),)


def _refused() -> Path:
    return Path(os.environ["FAKE_WORKER"]) / "refused"


class FakeFinisher(Fake):
    """Cannot start where the job's provider says so."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        if order.job.provider == "no finisher":
            raise StorageAway("the bucket is away")


if __name__ == "__main__":
    process.main(sys.argv[1], {"render": Fake, "finish": FakeFinisher})
