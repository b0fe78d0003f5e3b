"""The two kinds of worker, as plain classes: one holds a model, the other checks and stores. An engine puts each into a process.

They answer known troubles as values (`Trouble`), so that nothing depends on how an engine carries exceptions. Each builds its own clients.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from renderfarm import watermark
from renderfarm.errors import MarkUnsupported, Paused, RenderFailed, RenderfarmError, StorageRefused, UserError
from renderfarm.job import JobSettings
from renderfarm.keys import KeySet
from renderfarm.models import Resolved
from renderfarm.pictures import Pixels
from renderfarm.plan import drawn_once
from renderfarm.render.batching import DoesNotFit, out_of_memory
from renderfarm.schema import Attempt, RenderInfo
from renderfarm.storage import open_storage
from renderfarm.watermark import MarkKey
from renderfarm.workers import vitals
from renderfarm.workers.finish import Checked, Decision, Finished, Finisher, now_us, payload_of
from renderfarm.workers.inputs import read_inputs

if TYPE_CHECKING:
    import torch


KNOWN_LEVELS = 256
"""Levels of the known picture by which two are compared."""


@dataclass(frozen=True, slots=True)
class Order:
    """What workers are made from."""

    job: JobSettings
    plan_digest: str
    weights: Resolved
    keys: KeySet


@dataclass(frozen=True, slots=True)
class Trouble:
    """What kept a worker from its task.

    `away`: the storage; `refused`: what a person must mend, as `error` says; `failed`: this unit, which no other worker could do either;
    `fault`: perhaps the worker.
    """

    kind: Literal["away", "refused", "failed", "fault"]
    reason: str
    error: UserError | None = None


def refused(error: Paused | UserError) -> Trouble:
    """What ends the run: passing, or for a person to mend."""
    return Trouble("refused", str(error), error) if isinstance(error, UserError) else Trouble("away", str(error))


@dataclass(frozen=True, slots=True)
class RenderReply:
    """What the renderer tells beside the pixels."""

    info: RenderInfo
    marked: tuple[bool, ...]
    started_us: int
    busy_s: float
    cpu_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Known:
    """What a renderer made of the known picture.

    `digest`: SHA-256 of its pixels; `levels`: some of them, one byte each; `span`: between its darkest and its brightest level; `kind`: GPU
    and driver, or the CPU's kind; `device`: the GPU's own id, empty without one; `trouble`: why there is no picture, or what makes the GPU
    itself unfit; `note`: what else it reports.
    """

    digest: str = ""
    levels: bytes = b""
    span: int = 255
    kind: str = ""
    device: str = ""
    trouble: str = ""
    note: str = ""


class RendererWorker:
    """Holds one loaded model. Marks the pixels on its device before they leave it."""

    def __init__(self, weights: Resolved, job: JobSettings, mark_secret: bytes) -> None:
        """A `UserError`, as of weights that are not what was resolved, is kept for `ready`: an engine may carry its text only."""
        from renderfarm.render import Renderer

        self.key = MarkKey.from_bytes(mark_secret)
        self.defaults = job.defaults
        self.refusal: UserError | None = None
        try:
            self.renderer = Renderer(weights, job.model, threads=1)
        except UserError as error:
            self.refusal = error

    def ready(self) -> int | UserError:
        """Answers once the model is loaded: how many pictures of the job's default size it renders together."""
        if self.refusal is not None:
            return self.refusal
        return self.renderer.batch_limit(self.defaults.width, self.defaults.height)

    def known(self) -> Known:
        """The known picture, drawn now: as it always is, on a renderer that is well. Also what the GPU says of itself."""
        device, trouble, note = vitals.look()
        try:
            pixels, kind = self.renderer.known(self.defaults.width, self.defaults.height)
        except Exception as error:  # whatever it is: a renderer that cannot draw this draws nothing
            return Known(
                device=device, trouble=trouble or f"cannot draw the known picture: {type(error).__name__}: {error}"[:500], note=note
            )
        flat = pixels.reshape(-1)
        levels = flat[:: max(1, len(flat) // KNOWN_LEVELS)][:KNOWN_LEVELS].tobytes()
        span = int(flat.max()) - int(flat.min())
        return Known(hashlib.sha256(pixels.tobytes()).hexdigest(), levels, span, kind, device, trouble, note)

    def render(self, attempts: Sequence[Attempt]) -> tuple[Pixels | None, RenderReply | Trouble]:
        """uint8 (B, H, W, 3) marked, and what belongs to it; or None and the trouble. Two calls may run at a time, each in its thread.

        Attempts that share a drawing are drawn once, and each gets its own mark.
        """
        started_us, begun, cpu = now_us(), time.monotonic(), time.thread_time()
        once, places = drawn_once(attempts)
        marking = Marking(attempts, self.key, places)
        try:
            pixels, info = self.renderer.render(once, mark=marking, inputs=read_inputs(attempt.image for attempt in once))
        except (Paused, StorageRefused) as error:
            return None, refused(error)
        except (RenderfarmError, RuntimeError, ValueError, MemoryError) as error:  # out of memory and CUDA faults are RuntimeErrors
            if device_lost(error):
                os._exit(1)  # the engine sees the death, the unit comes back, and another worker takes this one's place
            kind: Literal["failed", "fault"] = "failed" if isinstance(error, RenderfarmError) and not may_be_its_own(error) else "fault"
            return None, Trouble(kind, f"{type(error).__name__}: {error}"[:500])
        cpu_s = {"render": time.thread_time() - cpu - marking.cpu_s, "mark.embed": marking.cpu_s}
        return pixels, RenderReply(info, marking.marked, started_us, time.monotonic() - begun, cpu_s)


class Marking:
    """Marks one unit's pictures, called once; `marked` says which carry the mark, `cpu_s` what that took of the thread's CPU time.

    `places`: for each attempt, which of the pictures was drawn for it.
    """

    def __init__(self, attempts: Sequence[Attempt], key: MarkKey, places: Sequence[int]) -> None:
        self.payloads = [payload_of(attempt) for attempt in attempts]
        self.places = list(places)
        self.key = key
        self.marked: tuple[bool, ...] = ()
        self.cpu_s = 0.0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """All attempts' pictures in one operation; one that cannot carry the mark is left as it is, and said to be unmarked."""
        cpu = time.thread_time()
        if len(images) < len(self.places):
            images = images[self.places]
        try:
            marked = watermark.embed(images, self.payloads, self.key)
            self.marked = (True,) * len(self.payloads)
        except MarkUnsupported:
            marked, flags = images.clone(), []
            for at, payload in enumerate(self.payloads):
                try:
                    marked[at : at + 1] = watermark.embed(images[at : at + 1], [payload], self.key)
                    flags.append(True)
                except MarkUnsupported:
                    flags.append(False)
            self.marked = tuple(flags)
        self.cpu_s = time.thread_time() - cpu
        return marked


def may_be_its_own(error: Exception) -> bool:
    """Whether the worker may be at fault for what it says of a unit: pixels that are not finite, an image that does not fit."""
    return isinstance(error, RenderFailed) and (len(error.args) > 1 or isinstance(error.__cause__, DoesNotFit))


def device_lost(error: Exception) -> bool:
    """Whether a CUDA fault broke the process's context: every later call would fail too, and whole jobs be recorded as failed.

    Out of memory is none: smaller units may fit.
    """
    return isinstance(error, RuntimeError) and "CUDA error" in str(error) and not out_of_memory(error)


class FinisherWorker:
    """Checks and stores. Loads every check's models once."""

    def __init__(self, job: JobSettings, plan_digest: str, keys: KeySet) -> None:
        """A `UserError`, as of a bucket that refuses this host, is kept for `ready`. Raises: StorageAway."""
        import cv2

        from renderfarm.checks import registry
        from renderfarm.credential import Issuer

        cv2.setNumThreads(1)
        self.refusal: UserError | None = None
        try:
            storage = open_storage(job.output.to, create=True, patience_s=job.output.patience_s, checksum=job.output.checksum)
            checks = registry.build(job.checks, starter=job.model.weights == "starter")
            self.finisher = Finisher(job, plan_digest, storage, checks, Issuer(keys), keys.mark_key)
        except UserError as error:
            self.refusal = error

    def ready(self) -> int | UserError:
        """Answers once the checks are loaded: as a renderer does, with no wish for a number of pictures."""
        return 1 if self.refusal is None else self.refusal

    def check(self, attempts: Sequence[Attempt], pixels: Pixels, marked: Sequence[bool]) -> tuple[Checked, ...] | Trouble:
        """One `Checked` an attempt. pixels: uint8 (B, H, W, 3)."""
        try:
            return tuple(self.finisher.check(attempt, pixels[at], marked=marked[at]) for at, attempt in enumerate(attempts))
        except Exception as error:  # becomes a counted loss: the unit is tried elsewhere, then rendered again, then recorded as failed
            return Trouble("fault", f"{type(error).__name__}: {error}"[:500])

    def store(
        self, attempts: Sequence[Attempt], pixels: Pixels, reply: RenderReply, checked: Sequence[Checked], decisions: Sequence[Decision]
    ) -> tuple[Finished, ...] | Trouble:
        """One `Finished` an attempt, its picture stored."""
        try:
            return tuple(
                self.finisher.store(
                    attempt, pixels[at], reply.info, checked[at], decisions[at], marked=reply.marked[at], started_us=reply.started_us
                )
                for at, attempt in enumerate(attempts)
            )
        except (Paused, UserError) as error:
            return refused(error)
        except Exception as error:  # as in `check`
            return Trouble("fault", f"{type(error).__name__}: {error}"[:500])
