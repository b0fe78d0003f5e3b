"""Retry: it always ends, and only a rejection rejects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from renderfarm.retry import fitness, judge, next_attempt, rank
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


def test_of_several_that_pass_the_best_has_no_flag_then_shows_best_what_was_asked_for() -> None:
    def one(text: float, score: float = 0.3, broken: float = 0.9, flagged: bool = False) -> list[Verdict]:
        copies = Verdict("copies", "flagged" if flagged else "accepted", "", 0.7, 0.6)
        fits = Verdict("score", "accepted", "", score)
        return [Verdict("broken", "accepted", "", broken, 0.5), Verdict("text", "accepted", "", text, 0.9), copies, fits]

    worst_first = [
        one(0.92, flagged=True, score=0.5), one(0.92, 0.5), one(1.0, 0.28, 0.99), one(0.998, 0.281, 0.6), one(1.0, 0.281, 0.7),
        one(1.0, 0.3, 0.5),
    ]  # fmt: skip
    assert sorted(worst_first[::-1], key=fitness) == worst_first
    sharper, duller = ([Verdict("broken", "accepted", "", score, 0.5)] for score in (0.9, 0.8))
    assert fitness([*sharper, Verdict("hands", "not_run")]) > fitness(duller)
