"""The jobs that come with renderfarm: each loads, fits its family, and says what it still needs from its user."""

from __future__ import annotations

from pathlib import Path

import pytest

from renderfarm.errors import WeightsError
from renderfarm.job import load_job
from renderfarm.models import resolve
from renderfarm.models.families import FAMILIES, samplers_for

JOBS = Path(__file__).parents[2] / "jobs"

FAMILY = {
    "lcm": "lcm",
    "sd15": "sd",
    "sd15-controlnet": "sd",
    "sd21": "sd",
    "sdxl": "sdxl",
    "sdxl-lcm": "sdxl",
    "sdxl-lightning": "sdxl",
    "sdxl-turbo": "sdxl",
    "sd35": "sd3",
    "sd35-turbo": "sd3",
    "flux-schnell": "flux",
    "flux-dev": "flux",
    "flux2-klein": "flux2",
    "sana": "sana",
}
FEW_STEPS = ("lcm", "sdxl-lcm", "sdxl-lightning", "sdxl-turbo", "sd35-turbo", "flux-schnell", "flux2-klein")


def test_every_preset_is_judged_here() -> None:
    with_weights = {path.stem for path in JOBS.glob("*.yaml") if load_job(path).model.weights != "starter"}
    assert with_weights == set(FAMILY)


@pytest.mark.parametrize("name", FAMILY)
def test_a_preset_fits_its_family(name: str) -> None:
    job = load_job(JOBS / f"{name}.yaml")
    family = next(family for family in FAMILIES if family.name == FAMILY[name])
    assert job.name == name and Path(job.output.to).name == name
    assert job.defaults.width % family.size_multiple == 0 and job.defaults.height % family.size_multiple == 0
    assert job.model.scheduler is None or job.model.scheduler in samplers_for(family)
    assert "# Licence:" in (JOBS / f"{name}.yaml").read_text()
    if name in FEW_STEPS:
        assert job.defaults.steps <= 8
        assert job.defaults.guidance <= 1 or not family.negative, "guidance would double its cost and spoil it"
    else:
        assert 20 <= job.defaults.steps <= 30 and job.defaults.guidance > 1


@pytest.mark.parametrize("name", FAMILY)
def test_a_preset_says_what_it_still_needs(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without network: the message names the pinned commit, or the file to bring."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = load_job(JOBS / f"{name}.yaml").model
    with pytest.raises(WeightsError) as caught:
        resolve(model)
    wanted = "no such file" if name == "sdxl-lightning" else "not in the local cache"
    assert wanted in caught.value.what
    assert name == "sdxl-lightning" or caught.value.where == f"{model.weights}@{model.revision}"
    assert caught.value.remedy


@pytest.mark.parametrize("name", FAMILY)
def test_a_pinned_revision_is_taken_from_the_command_line(name: str) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert load_job(JOBS / f"{name}.yaml", [f"model.revision={commit}"]).model.revision == commit
