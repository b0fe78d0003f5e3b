"""Signatures by a command: what comes back, and what is said when nothing does."""

from __future__ import annotations

import pickle
import sys

import pytest

from renderfarm.errors import PAUSED
from renderfarm.keys.signing import SIGNATURE_BYTES_MAX, SignerAway, signature_by

ANSWER = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"


def test_the_command_gets_the_bytes_and_its_answer_is_the_signature() -> None:
    assert signature_by([sys.executable, "-c", ANSWER], b"\x00text\n") == b"\ntxet\x00"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('the slot is empty')", r"exit code 1\) the slot is empty$"),
        ("", r"exit code 0\)$"),
        (f"print('x' * {SIGNATURE_BYTES_MAX})", r"exit code 0\)$"),
    ],
)
def test_no_signature_pauses_the_run(program: str, said: str) -> None:
    with pytest.raises(SignerAway, match=rf"^{sys.executable} gave no signature \({said}") as caught:
        signature_by([sys.executable, "-c", program], b"text")
    assert caught.value.exit_code == PAUSED and str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(SignerAway, match="/nowhere/sign gave no signature: No such file"):
        signature_by(["/nowhere/sign"], b"text")
