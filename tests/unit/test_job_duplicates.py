"""Near-duplicates of a job: sheets of one drawing look alike by intent, and are no copies of each other."""

from __future__ import annotations

import dataclasses

import numpy as np

from renderfarm.job import JobSettings
from renderfarm.pictures import fingerprint
from renderfarm.plan import Intent, plan_row
from renderfarm.run.duplicates import JobDuplicates
from renderfarm.schema import PromptRow
from renderfarm.workers.finish import Checked
from tests.outputs import picture


def _job() -> JobSettings:
    settings = {"name": "mugs", "manifest": "rows.parquet", "output": {"to": "out"}, "model": {"weights": "starter"}}
    return JobSettings.model_validate(settings)


def test_sheets_of_one_drawing_pass_and_a_copy_of_it_does_not() -> None:
    job = _job()
    duplicates, looks = JobDuplicates(job), Checked((), fingerprint(np.ascontiguousarray(picture(1))))
    first, second, other = plan_row(PromptRow("mug", "a mug", images=3), "d" * 64, Intent(job, "0" * 64), "0f" * 16)
    shared = [dataclasses.replace(image, drawing_id="ab" * 16) for image in (first, second)]
    assert [duplicates.judge(image, looks)[0].outcome for image in shared] == ["accepted", "accepted"]
    assert duplicates.judge(other, looks)[0].outcome == "rejected", "the same picture, of a drawing of its own"
    duplicates.forget(first.image_id)
    assert duplicates.judge(other, looks)[0].outcome == "accepted", "the one that stood for the drawing was lost"
