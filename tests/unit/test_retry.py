"""Retry: it always ends, and only a rejection rejects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from renderfarm.retry import judge, next_attempt, rank
from renderfarm.schema import Verdict


def test_flags_and_checks_that_did_not_run_do_not_reject() -> None:
    verdicts = [Verdict("text", "accepted"), Verdict("hands", "not_run", "no model"), Verdict("copies", "flagged", "perhaps a copy")]
    assert judge(verdicts) == ("accepted", "")


def test_the_reason_names_every_rejecting_check_in_its_own_words() -> None:
    verdicts = [Verdict("mark", "accepted"), Verdict("text", "rejected", "the sign reads OPFN"), Verdict("broken", "rejected", "black")]
    assert judge(verdicts) == ("rejected", "text: the sign reads OPFN; broken: black")


@given(st.integers(1, 20), st.booleans())
def test_rejections_end_at_the_limit(limit: int, retry_failed: bool) -> None:
    number, attempts = 1, 0
    while number is not None:
        attempts += 1
        number = next_attempt(attempts, False, number, limit, retry_failed=retry_failed)
    assert attempts == limit


def test_a_failed_image_opens_only_on_request_and_with_the_next_number() -> None:
    assert next_attempt(1, True, 2, 3) is None
    assert next_attempt(1, True, 2, 3, retry_failed=True) == 3
    assert next_attempt(3, True, 4, 3, retry_failed=True) is None


def test_rank_prefers_fewer_rejections_then_higher_scores() -> None:
    near, far = Verdict("text", "rejected", "", 0.8, 0.9), Verdict("text", "rejected", "", 0.2, 0.9)
    assert rank([near]) > rank([far]) > rank([near, far])
