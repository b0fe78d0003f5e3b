"""Numbers that are kept in few bits are refused when they do not fit: they never run into their neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm.errors import LogDamaged
from renderfarm.log.state import ImageState, LogState
from renderfarm.records import column_bytes
from renderfarm.records.tables import to_table
from renderfarm.schema import Record

IMAGE = "0" * 31 + "7"
REJECTED_MAX = 2**20 - 1


def said(kind: str, outcome: str, attempt: int) -> Record:
    return Record(kind, job="mugs", image_id=IMAGE, attempt=attempt, outcome=outcome)  # type: ignore[arg-type]


def rejected_so_often(count: int, then: Record) -> LogState:
    """A state in which one image has so many rejected attempts; it grew up in a snapshot, for folding a million rows takes long."""
    once, twice = LogState(), LogState()
    once.fold(to_table([said("attempt", "rejected", 3), then]))
    twice.fold(to_table([said("attempt", "rejected", 3), said("attempt", "rejected", 3), then]))
    arrays, more = once.dump(), twice.dump()["states"]
    return LogState.restore(arrays | {"states": arrays["states"] + (count - 1) * (more - arrays["states"])})


@settings(max_examples=30, deadline=None)
@given(st.integers(1, REJECTED_MAX), st.integers(1, 2**20 - 1), st.booleans())
def test_an_image_of_many_attempts_keeps_its_numbers_apart(rejected: int, attempt: int, failed: bool) -> None:
    state = rejected_so_often(rejected, said("attempt", "failed" if failed else "accepted", attempt))
    last, chosen = max(3, attempt), 0 if failed else attempt
    assert state.image(IMAGE) == ImageState(not failed, failed, False, rejected, last, chosen)


@pytest.mark.parametrize("kind", ["attempt", "review"])
def test_more_rejections_than_are_counted_are_no_log_of_ours(kind: str) -> None:
    """One more would have made an attempt 2^20 of attempt 3, or of an accepted image one that is not."""
    state = rejected_so_often(REJECTED_MAX, said("attempt", "accepted", 5))
    before = state.image(IMAGE)
    assert before == ImageState(True, False, False, REJECTED_MAX, 5, 5)
    with pytest.raises(LogDamaged, match=f"image {IMAGE} has more than 1048575 rejected attempts"):
        state.fold(to_table([said(kind, "rejected", 5)]))
    assert state.image(IMAGE) == before
    state.fold(to_table([said("attempt", "accepted", 6)]))
    assert state.image(IMAGE).chosen == 6


def test_a_column_of_more_bytes_than_arrow_counts_is_refused() -> None:
    """Its 32-bit offsets would turn round: a later row would be a place in memory before the first."""
    with pytest.raises(ValueError, match="the rows cannot be encoded: a column of more than 2147483646 bytes"):
        column_bytes._variable(np.full(3, 1 << 30), np.zeros(0, np.uint8))
