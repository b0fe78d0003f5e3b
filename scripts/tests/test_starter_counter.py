"""The network that counts for the starter weights, on fresh drawings of the world that it was trained in."""

from __future__ import annotations

from renderfarm.checks import registry
from renderfarm.job.checks import ChecksSettings
from renderfarm.schema import ObjectCount, PromptRow
from scripts.starter.world import Spec, draw


def test_the_starter_counter_counts_fresh_drawings_and_only_for_starter_jobs() -> None:
    (check,) = (c for c in registry.prepare(registry.build(ChecksSettings(), starter=True)) if c.name == "counts")
    outcomes = []
    for seed, (thing, count) in enumerate((("mug", 2), ("lamp", 1), ("T-shirt", 3), ("bottle", 2), ("box", 1), ("phone", 3))):
        picture = draw(Spec(thing, "red", "studio", count), 500 + seed)
        right = PromptRow("r", "", objects=(ObjectCount(thing, count),))
        outcomes.append(check.check(picture, right).outcome)
        other = PromptRow("r", "", objects=(ObjectCount(thing, 1 + count % 3),))
        assert check.check(picture, other).outcome != "accepted"
    assert outcomes.count("accepted") >= 5, outcomes
    (plain,) = (c for c in registry.build(ChecksSettings()) if c.name == "counts")
    assert plain.check(picture, right).reason == "no detector that knows phone is installed"
