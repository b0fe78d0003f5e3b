"""The audit's own sums, against the driver's fold; presence against sets; both with their rows on disk too."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm.audit.counts import Recount, Twice
from renderfarm.audit.fanout import Cores
from renderfarm.audit.pictures import HERE_MAX, Beliefs, PictureResult, Recorded, check_objects
from renderfarm.audit.presence import Presence
from renderfarm.audit.spill import Buckets
from renderfarm.log.state import CountsDiffer, LogState
from renderfarm.records.tables import to_table
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage, Stored
from tests.unit.test_writer import attempt, image_id, plan

ROW = st.one_of(
    st.builds(plan, st.integers(0, 12)),
    st.builds(attempt, st.integers(0, 9), st.sampled_from(["accepted", "rejected", "failed"]), st.integers(1, 4)),
    st.builds(
        lambda kind, number: Record(kind, job="mugs", image_id=image_id(number)),
        st.sampled_from(["superseded", "reinstated"]),
        st.integers(0, 9),
    ),
)


REVIEW = st.builds(
    lambda number, attempt, outcome: Record("review", image_id=image_id(number), attempt=attempt, outcome=outcome, reviewer="A"),
    st.integers(0, 3), st.integers(1, 3), st.sampled_from(["accepted", "rejected"]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.one_of(ROW, REVIEW), min_size=1, max_size=8), max_size=6), st.integers(1, 3), st.sampled_from([1, 5, 1000]))
def test_the_tally_counts_reviews_as_the_state_does(log: list[list[Record]], limit: int, rows_in_memory: int) -> None:
    state, tally = LogState(), Recount(rows_in_memory)
    for number, records in enumerate(log):
        known = [
            record for record in records if record.kind != "review" or state.image(record.image_id or "").last_attempt >= record.attempt
        ]
        if known:
            state.fold(to_table(known))
            assert tally.add(number, to_table(known)) == []
    found = tally.sum(limit)
    try:
        assert found.counts == state.counts(limit)
    except CountsDiffer:
        assert found.counts is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ROW, min_size=1, max_size=8), max_size=6), st.integers(1, 4), st.sampled_from([1, 5, 1000]))
def test_the_tally_counts_what_the_state_counts(log: list[list[Record]], limit: int, rows_in_memory: int) -> None:
    state, tally = LogState(), Recount(rows_in_memory)
    for number, records in enumerate(log):
        table = to_table(records)
        state.fold(table)
        assert tally.add(number, table) == []
    found = tally.sum(limit)
    assert tally.plan == state.plan and found.rows == sum(map(len, log))
    try:
        assert found.counts == state.counts(limit)
    except CountsDiffer:
        assert found.counts is None
    accepted = Counter(r.image_id for part in log for r in part if r.outcome == "accepted")
    tried = Counter((r.image_id, r.attempt) for part in log for r in part if r.kind == "attempt")
    expected = {image for image, n in accepted.items() if n > 1} | {image for (image, _), n in tried.items() if n > 1}
    assert {twice.image_id for twice in found.twice} == expected


def test_what_is_recorded_twice_is_named_with_its_later_part() -> None:
    tally = Recount()
    for number, records in enumerate(([plan(5), attempt(1)], [attempt(1)], [attempt(2)], [attempt(2, attempt=2)])):
        tally.add(number, to_table(records))
    assert tally.sum(4).twice == (Twice(image_id(1), 1, 1), Twice(image_id(2), None, 3))


@pytest.mark.parametrize(
    "record",
    [
        attempt(1, image_id="A" * 32),
        attempt(1, image_id="0" * 31),
        attempt(1, image_id=None),
        attempt(1, "superseded"),
        attempt(1, attempt=-1),
        Record("accepted", job="mugs", image_id=image_id(1)),  # type: ignore[arg-type]
        dataclasses.replace(plan(1), planned=None),
        plan(-1),
    ],
)
def test_rows_that_no_driver_writes_are_named_and_left_out(record: Record) -> None:
    tally = Recount()
    wrong = tally.add(0, to_table([plan(3), record]))
    assert [row for row, _ in wrong] == [1]
    found = tally.sum(4)
    assert found.counts is not None and found.counts.remaining == 3


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.integers(0, 60), st.integers(1, 9)),
    st.dictionaries(st.integers(0, 60), st.integers(1, 9)),
    st.sampled_from([3, 1000]),
)
def test_presence_is_what_sets_say(recorded: dict[int, int], there: dict[int, int], rows_in_memory: int) -> None:
    presence = Presence(rows_in_memory)
    for part, number in enumerate(recorded):
        record = attempt(number, object_key=f"images/{number}", file_bytes=recorded[number])
        presence.add_part(part, to_table([attempt(99, "failed"), record]))
    presence.add_listing(Stored(f"images/{number}", size, 0.0) for number, size in there.items())
    absent, orphans = presence.compare()
    numbers = list(recorded)
    assert all(item.row == 1 for item in absent)
    gone = {numbers[item.part]: item.size for item in absent}
    assert gone == {number: there.get(number) for number, size in recorded.items() if there.get(number) != size}
    assert orphans == len(set(there) - set(recorded)) and presence.recorded == len(recorded)


def test_buckets_on_disk_keep_rows_together_and_in_order(tmp_path: Path) -> None:
    dtype = np.dtype([("key", "<u4"), ("order", "<u4")])
    with Buckets(dtype, rows_in_memory=10) as buckets:
        for start in range(0, 200, 7):
            rows = np.zeros(7, dtype)
            rows["order"] = np.arange(start, start + 7)
            rows["key"] = rows["order"] % 70
            buckets.add(rows, (rows["key"] % 64).astype(np.uint8))
        seen: dict[int, int] = {}
        for bucket, rows in enumerate(buckets):
            for key, order in rows.tolist():
                assert key % 64 == bucket and seen.get(key, -1) < order
                seen[key] = order
        assert len(seen) == 70
        folder = Path(buckets._folder.name) if buckets._folder else tmp_path
    assert folder != tmp_path and not folder.exists()


def _recorded(number: int) -> Recorded:
    key = f"images/{number}.png"
    return Recorded("p#0", image_id(number), 1, "accepted", key, "0" * 64, 4, "image/png", None, None, None, 0)


def test_worker_processes_answer_in_order(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "out", create=True)
    for number in range(0, HERE_MAX + 20, 2):
        storage.put(f"images/{number}.png", b"1234")
    with Cores(2) as cores:
        answers = list(check_objects(storage, map(_recorded, range(HERE_MAX + 20)), Beliefs(), cores))
    expected = ["object-altered" if number % 2 == 0 else "object-missing" for number in range(HERE_MAX + 20)]
    assert [answer.finding for answer in answers] == expected
    assert [answer.recorded.object_key for answer in answers] == [f"images/{n}.png" for n in range(HERE_MAX + 20)]
    assert all(isinstance(answer, PictureResult) for answer in answers)


@pytest.mark.parametrize("module", ["audit.audit", "identify.identify", "log.proofs", "log.export"])
def test_what_an_auditor_calls_imports_no_writer(module: str) -> None:
    code = f"import sys, renderfarm.{module}; sys.exit('renderfarm.log.writer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
