"""A render starts in a folder whose names clash with what we import: no process of ours may import from the folder that one stands in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import TIMEOUT_S, Farm

COMMAND = Path(sys.executable).with_name("renderfarm")


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_nothing_is_imported_from_the_folder_that_one_stands_in(farm: Farm, tmp_path: Path, engine: str) -> None:
    stand = tmp_path / "stand"
    for name in ("renderfarm", "pipeline", "ray", "torch"):
        (stand / name).mkdir(parents=True)
        (stand / name / "__init__.py").write_text(f"raise ImportError('{name} of the current folder')\n")
    (stand / "json.py").write_text("raise ImportError('json of the current folder')\n")
    farm.manifest([{"id": "a", "prompt": "a red mug"}])
    job = farm.job(farm={"engine": engine, "renderers": 1, "finishers": 1})

    done = subprocess.run(
        [COMMAND, "render", job, "--json"],
        cwd=stand,
        env={**os.environ, **farm.env, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )

    assert done.returncode == 0, done.stdout + done.stderr
