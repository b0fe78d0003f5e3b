"""Signatures by a command that a key set names, so that a private key can stay in a token or a KMS.

The command gets what is to be signed on stdin and answers with the signature on stdout. No shell, no arguments of ours.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from renderfarm.errors import Paused

COMMAND_TIMEOUT_S = 30.0
SIGNATURE_BYTES_MAX = 1024


class SignerAway(Paused):
    """The command gave no signature: nothing is lost, run again when the token answers."""


def signature_by(command: Sequence[str], data: bytes) -> bytes:
    """What the command answers. Raises: SignerAway when it fails, takes too long, or answers with no signature."""
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SignerAway(f"{command[0]} gave no signature within {COMMAND_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise SignerAway(f"{command[0]} gave no signature: {error.strerror}") from error
    if done.returncode or not 0 < len(done.stdout) <= SIGNATURE_BYTES_MAX:
        said = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise SignerAway(f"{command[0]} gave no signature (exit code {done.returncode}) {said}".rstrip())
    return done.stdout
