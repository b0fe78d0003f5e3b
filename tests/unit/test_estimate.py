"""Hours, renderer hours and price, from a job's own rate or from what this machine's renderers measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from renderfarm.job import JobSettings
from renderfarm.plan import BatchKey
from renderfarm.render.rates import Speed
from renderfarm.run.estimate import Estimate, estimate


def job(**changes: Any) -> JobSettings:
    return JobSettings.model_validate({"name": "t", "manifest": "m", "output": "o", "cost": {"per_hour": 2.5}, **changes})


def key(steps: int, size: int = 512) -> BatchKey:
    return BatchKey(size, size, steps, 5.0, None, False, False, None)


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")


@pytest.mark.parametrize(
    ("changes", "visible", "cost"),
    [
        ({"model": {"device": "cpu"}}, "0,1,2,3", "5.00 EUR"),
        ({}, "", "5.00 EUR"),
        ({}, "0,1,2,3", "20.00 EUR"),
        ({"farm": {"renderers": 4, "engine": "ray"}}, "", "20.00 EUR"),
    ],
)
def test_the_workers_of_a_machine_without_a_gpu_are_priced_as_one(
    changes: dict[str, Any], visible: str, cost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a budget of money counts them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert estimate(job(**{"farm": {"renderers": 4}, **changes}), "d", {key(25): 7200}, 3600, 0.5, tmp_path).cost == cost


def test_the_jobs_own_rate_counts_all_renderers(tmp_path: Path) -> None:
    made = estimate(job(farm={"renderers": 4}), "d", {key(25): 7200}, 3600, 0.5, tmp_path)
    assert (made.hours, made.renderer_hours, made.cost) == (2.0, 8.0, "20.00 EUR")
    assert "last measured 0.5 images/s" in str(made.rate_from)


def test_else_this_machines_renderers_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    speed = Speed("d", "a card", clock=lambda: 20.0)
    speed.note(512, 512, 20, 10, 0.0)
    made = estimate(job(farm={"renderers": 2}), "d", {key(20): 1800, key(40): 1800}, 3600, None, tmp_path / "renderfarm")
    assert (made.hours, made.renderer_hours, made.cost) == (1.5, 3.0, "7.50 EUR"), "2 s an image at 20 steps, 4 s at 40, two renderers"
    assert "a card" in str(made.rate_from)
    several = job(farm={"renderers": 2}, defaults={"of": 3})
    assert estimate(several, "d", {key(20): 1800, key(40): 1800}, 3600, None, tmp_path / "renderfarm").hours == 4.5


def test_nothing_is_guessed(tmp_path: Path) -> None:
    assert estimate(job(), "d", {key(20): 10}, 10, None, tmp_path) == Estimate()
    assert estimate(job(cost={}), "d", {key(20): 10}, 10, 1.0, tmp_path).cost is None
