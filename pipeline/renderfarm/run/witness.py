"""Tells others of the newest checkpoint at the end of a run, so that a history that is rewritten or cut off later can be shown.

Three ways, each optional: witnesses (c2sp.org/tlog-witness) that check that the log only grew and cosign it; a webhook that gets
the signed note as its body; a command that gets it on stdin, to mail it. What witnesses answered is kept under
`provenance/witnessed`, for the audit. Nothing here fails a run: what did not work is said, and tried again at the next end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from renderfarm import notes, web
from renderfarm.errors import NotStored, Undelivered
from renderfarm.job.settings import WitnessSettings
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Checkpoint, cosign
from renderfarm.output import WITNESSED
from renderfarm.run import notify
from renderfarm.storage import Storage

NOTE_TYPE = "text/plain; charset=utf-8"
CONFLICT = 409
"""A witness knows another size of the log than we said, and answers with it."""
REFUSED = {403: "it does not know this log's key", 404: "it does not know this log", 422: "the log does not continue what it cosigned"}


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it: the checkpoint with its cosignatures, and what did not work, in words for the user."""

    checkpoint: Checkpoint
    troubles: tuple[str, ...] = ()


def tell(
    writer: LogWriter,
    storage: Storage,
    settings: WitnessSettings,
    keys: Mapping[str, Ed25519PublicKey],
    sleep: Callable[[float], None] = time.sleep,
) -> Told | None:
    """Tells everyone that the settings name, witnesses also of what they missed before; None where nobody is named.

    keys: of witnesses that are known, whose lines are checked before they are kept. Raises: StorageAway.
    """
    if writer.checkpoint is None or not settings.named:
        return None
    head, troubles = writer.checkpoint, list[str]()
    known = _known(storage, head)
    for url in settings.urls if known < head.size else ():
        try:
            head = _cosigned(url, head, writer, known, keys, sleep)
        except (Undelivered, ValueError) as error:
            troubles.append(f"witness {url}: {error}")
    if head != writer.checkpoint:
        storage.put(WITNESSED, head.to_bytes(), NOTE_TYPE)
    if writer.grown:
        troubles += _send(head, settings, sleep)
    return Told(head, tuple(troubles))


def _send(head: Checkpoint, settings: WitnessSettings, sleep: Callable[[float], None]) -> list[str]:
    """Gives the note to the webhook and to the command. What did not work."""
    troubles = []
    try:
        if settings.webhook_env is not None:
            web.post(notify.secret(settings.webhook_env) or "", head.to_bytes(), NOTE_TYPE, sleep=sleep)
    except Undelivered as error:
        troubles.append(f"checkpoint webhook: {error}")
    try:
        if settings.command:
            notify.run_command(
                settings.command, head.to_bytes(), env={"RENDERFARM_ORIGIN": head.origin, "RENDERFARM_PARTS": str(head.size)}
            )
    except Undelivered as error:
        troubles.append(f"checkpoint command: {error}")
    return troubles


def _known(storage: Storage, head: Checkpoint) -> int:
    """The size that the witnesses probably know: that of the last checkpoint that they cosigned, 0 for none."""
    try:
        last = notes.parse(storage.get(WITNESSED, notes.NOTE_BYTES_MAX))
    except (NotStored, notes.NoteMalformed):
        return 0
    return last.size if last.origin == head.origin and last.size <= head.size else 0


def _cosigned(
    url: str, head: Checkpoint, writer: LogWriter, known: int, keys: Mapping[str, Ed25519PublicKey], sleep: Callable[[float], None]
) -> Checkpoint:
    """The head with this witness's lines. Raises: Undelivered; ValueError for an answer that is not one."""
    assert writer.checkpoint is not None
    for _ in range(2):
        body = cosign.request(known, writer.consistency(known), writer.checkpoint)
        reply = web.post(f"{url.rstrip('/')}/add-checkpoint", body, NOTE_TYPE, answers=frozenset({CONFLICT, *REFUSED}), sleep=sleep)
        if reply.status in REFUSED:
            raise ValueError(REFUSED[reply.status])
        if reply.status != CONFLICT:
            found = cosign.answer(reply.body, head)
            cosign.verify(found, keys)
            return found
        said = reply.body.decode("ascii", "replace").strip()
        if not said.isdigit() or len(said) > 9:
            raise ValueError("it knows another size of the log, and does not say which")
        known = int(said)
        if known > head.size:
            raise ValueError(f"it cosigned this log with {known} parts, and now there are {head.size}: was its end cut off?")
    raise ValueError("it names another size at each try")
