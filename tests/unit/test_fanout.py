"""Chunks over processes: every one is answered, in order, whichever takes longest; what a task raises comes out."""

from __future__ import annotations

import os
import signal
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
