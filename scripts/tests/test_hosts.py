"""How long a host rendered nothing, from when its units came back and how long each took."""

from __future__ import annotations

import pytest

from scripts.hosts import idle_gaps


def unit(at: float, busy_s: float, node: str = "other") -> tuple[float, dict[str, object]]:
    """A unit that came back at this second."""
    return at, {"event": "unit.rendered", "node": node, "busy_s": busy_s}


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ([unit(4, 4), unit(8, 4), unit(12, 4)], []),
        ([unit(4, 4), unit(6, 5), unit(10, 4)], []),  # two at a time
        ([unit(4, 4), unit(10, 3)], [3]),  # 4 to 7
        ([unit(2, 2)], [8]),  # nothing after 2
        ([unit(4, 4), unit(12, 2)], [6]),  # until the end of the look, not of the gap
        ([unit(10, 10, "victim")], [10]),
        ([], [10]),
    ],
)
def test_gaps_between_units(units: list[tuple[float, dict[str, object]]], expected: list[float]) -> None:
    assert idle_gaps(units, "other", 0, 10) == pytest.approx(expected)


def test_what_was_before_the_look_counts_for_nothing() -> None:
    assert idle_gaps([unit(3, 3), unit(12, 5)], "other", 5, 10) == pytest.approx([2])
