"""An output of an earlier version is carried on: what is accepted stays, what is left is rendered, and the whole log is audited."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from renderfarm.job import load_job
from renderfarm.models import resolve
from tests import older
from tests.integration.conftest import Farm


def pictures(output: Path) -> dict[str, str]:
    """Each delivered or kept picture, with the SHA-256 of its bytes."""
    files = (path for name in ("images", "review") for path in (output / name).rglob("*") if path.is_file())
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.timeout(600)
def test_an_output_of_record_version_3_is_finished(farm: Farm) -> None:
    old = older.copy(3, farm.folder)
    if resolve(load_job(old.job).model).digest != old.expected["weights_digest"]:
        pytest.skip("the starter weights are others than those that rendered it: every image of the job is a new one")
    before, parts = pictures(old.output), old.expected["audit"]["parts"]

    done = farm.json("render", old.job, "--skip-invalid", expect=3)

    left = old.expected["audit"]["counts"]["remaining"]
    limit = load_job(old.job).checks.attempts
    assert left <= done["attempts"] <= left * limit, "only what was left is rendered"
    assert (done["planned"], done["failed"], done["remaining"]) == (len(old.expected["images"]), 1, 0)
    after = pictures(old.output)
    assert before.items() <= after.items()
    new = after.keys() - before.keys()
    assert len(new) == done["attempts"] and all("/late/" in name for name in new)
    audit = farm.json("audit", old.output, "--trust", old.trust, "--since", old.kept)
    recorded = old.expected["audit"]["objects"] + done["attempts"]
    assert (audit["verdict"], audit["objects"], audit["orphans"]) == ("passed", recorded, 0)
    assert audit["parts"] > parts
    again = farm.json("render", old.job, "--skip-invalid", expect=3)
    assert again["attempts"] == 0
