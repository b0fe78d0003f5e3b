"""Chunks over processes: every one is answered, in order, whichever takes longest; what a task raises comes out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from renderfarm.audit.fanout import Cores


@pytest.mark.parametrize("slow", [0, 5, 19])
def test_every_chunk_is_answered_in_order_whichever_takes_longest(slow: int) -> None:
    with Cores(2) as cores:
        chunks = [(0.5 if number == slow else 0.0, number) for number in range(20)]
        assert list(cores(_Echo(), chunks)) == [number for _, number in chunks]


class _Echo:
    """Waits so many seconds, then answers the number; pickled as text, since a child imports no test."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("lambda chunk: (__import__('time').sleep(chunk[0]), chunk[1])[1]",)


def test_what_a_task_raises_comes_out_with_its_trace() -> None:
    with Cores(2) as cores, pytest.raises(ZeroDivisionError) as caught:
        list(cores(partial(divmod, 1), [1, 0, 2]))
    assert any("divmod" in note or "Traceback" in note for note in caught.value.__notes__)


def test_a_process_that_dies_is_no_answer() -> None:
    with Cores(2) as cores, pytest.raises(RuntimeError, match="exit -9"):
        list(cores(_Die(), [0]))


class _Die:
    """Ends its process."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"lambda chunk: __import__('os').kill(__import__('os').getpid(), {int(signal.SIGKILL)})",)


def test_one_core_works_here() -> None:
    assert list(Cores(1)(len, ["ab", "c"])) == [2, 1]
    assert os.getpid() == next(iter(Cores(1)(lambda chunk: os.getpid(), [0])))


def test_calls_on_the_same_cores_may_be_nested_and_each_gets_its_own_answers() -> None:
    """As an audit's pictures, which come out of the walk over its log."""
    with Cores(2) as cores:

        def lengths() -> Iterator[int]:
            yield from cores(len, ["x" * number for number in range(1, 40)])

        assert list(cores(str, lengths())) == [str(number) for number in range(1, 40)]
        assert list(zip(cores(len, ["a", "bb", "ccc"]), cores(str, range(3)), strict=True)) == [(1, "0"), (2, "1"), (3, "2")]


def test_what_one_call_raises_or_leaves_undone_is_nothing_to_another() -> None:
    with Cores(2) as cores:
        outer = cores(str, range(20))
        assert next(outer) == "0"
        with pytest.raises(ZeroDivisionError):
            list(cores(partial(divmod, 1), [1, 0, 2]))
        given_up = cores(_Echo(), [(0.0, 1), (60.0, 2)])
        assert next(given_up) == 1
        del given_up
        assert list(outer) == [str(number) for number in range(1, 20)]
