"""Attempts in, uint8 pictures out: cuts what it is given into batches that fit, and says in which company each image
was rendered.

`Renderer` holds one loaded model. Two threads may render with it at a time: one decodes, marks and copies its pictures while the other
denoises (`render.lanes`). A farm has one per GPU. Importing this module is light.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from renderfarm.cache import cache_folder
from renderfarm.errors import RenderFailed
from renderfarm.models import ModelSettings, Resolved, Task, load
from renderfarm.models.adapters import weighted
from renderfarm.models.encoders import threads_beside_a_gpu
from renderfarm.render import rates, tuning
from renderfarm.render.batching import DoesNotFit, in_fitting_batches, out_of_memory
from renderfarm.render.recorded import adapters_of, settings_of
from renderfarm.schema import Attempt, RenderInfo

if TYPE_CHECKING:
    import numpy as np
    import torch

    from renderfarm.render.stages import Request

    Mark = Callable[[torch.Tensor], torch.Tensor]
    """uint8 (B, H, W, 3) on the renderer's device → the same, marked; more of them where several are made of one drawing."""

CHUNK_END = ""
"""In `RenderInfo.batch`, the boundary between images that were rendered one batch after another."""


DETERMINISTIC_BATCH = 1
"""In deterministic mode every image is a batch of its own: matrix kernels choose their order of summation by the
batch's size, so that only a fixed size gives fixed bytes, and only 1 needs no padding."""

KNOWN_SIDE, KNOWN_STEPS = 128, 2
"""Of the known picture, by which a renderer shows that it is well: a hundredth of a unit's work."""

STRENGTH: dict[Task, float] = {"text": 1.0, "image": 0.8, "inpaint": 1.0}
"""How far a picture moves from its init image when the row does not say; diffusers' own defaults."""


class Renderer:
    """One loaded model that renders attempts of equal size, steps, guidance and adapter together."""

    def __init__(self, resolved: Resolved, settings: ModelSettings, *, threads: int = 1) -> None:
        """Loads and verifies the weights. `threads`: of torch, on the CPU. Raises WeightsError."""
        import torch

        from renderfarm.render import slots, stages
        from renderfarm.render.lanes import Lanes

        torch.set_num_threads(threads)
        choose_kernels(settings.deterministic, settings.speed.tf32)
        self.settings = settings
        self.model = load(resolved, settings)
        if self.model.device.type == "cuda" and self.model.encoders_device == torch.device("cpu"):
            torch.set_num_threads(threads_beside_a_gpu(threads))
        self._stages, self._slots = stages, slots
        self._prompts = stages.PromptCache(self.model)
        self.lanes = Lanes(self.model.device, alone=self.model.moves)
        self._speed = rates.Speed(resolved.digest, self.model.driver)
        self._fits: dict[tuple[int, int], int] = {}
        self._tunings: dict[str, int] = {}

    def batch_limit(self, width: int, height: int) -> int:
        """Returns how many images of this size, in pixels, are rendered together at most. `auto` may measure first."""
        if self.settings.deterministic:
            return DETERMINISTIC_BATCH
        if self.settings.batch != "auto":
            wanted = self.settings.batch
        else:
            with self.lanes.turn:
                wanted = self._tuned(width, height)
        return min(wanted, self._fits.get((width, height), wanted))

    def _tuned(self, width: int, height: int) -> int:
        """Returns the batch size for this size on this device, remembered or measured now."""
        model = self.model
        key = f"{model.resolved.digest} {width}x{height} {model.dtype} {model.mode} {model.driver}"
        key += f" {self.settings.speed.model_dump_json()} {self.settings.lossy.name}"
        known = self._tunings.get(key) or tuning.recall(cache_folder(), key)
        if known is None:
            most = tuning.CPU_BATCH_MAX if model.device.type == "cpu" else tuning.BATCH_MAX
            time_batch = self._stages.time_batch
            known = tuning.worthwhile_batch(lambda count: time_batch(model, self._prompts, self.lanes, width, height, count), most)
            tuning.remember(cache_folder(), key, known)
        self._tunings[key] = known
        return known

    def known(self, width: int, height: int) -> tuple[np.ndarray, str]:
        """Returns a small picture that is always the same on one machine, uint8 (1, H, W, 3), and what drew it.

        No larger than asked; of just that size where kernels are compiled for it. Raises RenderFailed when it is not finite.
        """
        if self.settings.speed.compile == "off" and not self.settings.speed.graphs:
            multiple = self.model.family.size_multiple
            width, height = (max(multiple, min(side, KNOWN_SIDE) // multiple * multiple) for side in (width, height))
        request, given = self._stages.blank(self.model, self._stages.Request(width, height, KNOWN_STEPS, 5.0), 1)
        text = ("a photo of a mug", "")
        pictures, finite = self._stages.render_batch(self.model, self._prompts, self.lanes, request, [text], [0], given)
        with self.lanes.behind():
            if not bool(finite.all()):
                raise RenderFailed("the known picture: the pixels are not finite numbers", 0)
            return self.lanes.to_host(pictures), self.model.driver

    def render(
        self, attempts: Sequence[Attempt], *, mark: Mark | None = None, inputs: Mapping[str, bytes] | None = None
    ) -> tuple[np.ndarray, RenderInfo]:
        """Returns uint8 (B, H, W, 3) in the order of `attempts`, and how they were made.

        `mark` gets all B pictures at once, on the device, before they leave it, and what it gives is returned.
        `inputs`: SHA-256 hex of each init image and mask → its bytes. Raises RenderFailed(message, index) when a picture
        is not finite, and RenderFailed(message) when not even one image fits into memory.
        """
        started = time.monotonic()
        if self._pools(attempts):
            return self._pooled(attempts, mark, started)
        request = self._request(attempts)
        limit = self.batch_limit(request.width, request.height)
        drawn: list[tuple[torch.Tensor, torch.Tensor]] = []
        company: list[str] = []
        try:
            for batch, batch_drawn in in_fitting_batches(attempts, limit, lambda batch: self._batch(request, batch, inputs or {})):
                if len(batch) < min(limit, len(attempts) - sum(len(pictures) for pictures, _ in drawn)):
                    self._fits[request.width, request.height] = len(batch)
                company += [CHUNK_END] * bool(company) + [name_of(attempt) for attempt in batch]
                drawn.append(batch_drawn)
        except DoesNotFit as error:
            raise self._too_large(request.width, request.height, error) from error
        pixels = self._to_host(attempts, drawn, mark)
        self._speed.note(request.width, request.height, request.steps, len(attempts), started)
        return pixels, self._info(tuple(company), request, attempts)

    def _pools(self, attempts: Sequence[Attempt]) -> bool:
        """Says whether these go through slots: asked for, possible, drawn from words alone, of one size, all guided or none."""
        if not self.settings.slots or any(a.image.init_digest or a.image.adapter or a.image.control_digest for a in attempts):
            return False
        shared = {(a.image.width, a.image.height, a.image.guidance > 1) for a in attempts}
        return len(shared) == 1 and self._slots.poolable(self.model)

    def _pooled(self, attempts: Sequence[Attempt], mark: Mark | None, started: float) -> tuple[np.ndarray, RenderInfo]:
        """`render` through slots. Out of memory: again with half as many. All count as one batch in the record."""
        width, height = attempts[0].image.width, attempts[0].image.height
        self._refuse_size(width, height)
        size = self.batch_limit(width, height)
        while True:
            try:
                drawn = self._slots.render_pooled(self.model, self._prompts, self.lanes, attempts, size)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if size == 1:
                    raise self._too_large(width, height, error) from error
            size = self._fits[width, height] = size // 2
        pixels = self._to_host(attempts, [drawn], mark)
        steps = sum(attempt.image.steps for attempt in attempts) / len(attempts)
        self._speed.note(width, height, round(steps), len(attempts), started)
        request = self._stages.Request(width, height, round(steps), attempts[0].image.guidance)
        return pixels, self._info(tuple(name_of(attempt) for attempt in attempts), request, attempts, slots=True)

    def _too_large(self, width: int, height: int, error: Exception) -> RenderFailed:
        return RenderFailed(f"one image of {width}×{height} does not fit into memory ({error}): try model.memory: sequential")

    def _refuse_size(self, width: int, height: int) -> None:
        multiple = self.model.family.size_multiple
        if width % multiple or height % multiple:
            raise RenderFailed(f"{width}×{height}: width and height must be multiples of {multiple} for these weights")

    def _to_host(self, attempts: Sequence[Attempt], drawn: Sequence[tuple[torch.Tensor, torch.Tensor]], mark: Mark | None) -> np.ndarray:
        """Returns all pictures, marked, as uint8 (B, H, W, 3). Raises RenderFailed naming the first that is not finite."""
        import torch

        with self.lanes.behind():
            pictures = torch.cat([part for part, _ in drawn])
            assert len(pictures) == len(attempts), "an image was lost between batches"
            image, (height, width) = attempts[0].image, pictures.shape[1:3]
            if (width, height) != (image.width, image.height):
                what = f"these weights drew {width}×{height} where {image.width}×{image.height} was asked for"
                raise RenderFailed(f"{what}: choose a size that they can draw")
            finite = torch.cat([part for _, part in drawn])
            if not bool(finite.all()):
                raise not_finite(attempts, finite.tolist().index(False))
            if mark is not None:
                pictures = mark(pictures)
                assert pictures.dtype == torch.uint8, "a mark changes levels, not their type"
            return self.lanes.to_host(pictures)

    def _batch(self, request: Request, batch: Sequence[Attempt], inputs: Mapping[str, bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        """Renders one batch; see `stages.render_batch`. Images whose prompts take as many chunks are drawn together, so that none depends
        on its neighbours."""
        texts = [(attempt.image.prompt, attempt.image.negative_prompt) for attempt in batch]
        counts = [self._chunks(request, text) for text in texts]
        if len(set(counts)) > 1:
            order = sorted(range(len(batch)), key=counts.__getitem__)
            groups = [[at for at in order if counts[at] == count] for count in sorted(set(counts))]
            parts = [self._batch(request, [batch[at] for at in group], inputs) for group in groups]
            places = sorted(range(len(batch)), key=order.__getitem__)
            return self._stages.in_order([one for one, _ in parts], places), self._stages.in_order([two for _, two in parts], places)
        request = replace(request, chunks=counts[0])
        seeds = [attempt.seed for attempt in batch]
        pictures = None
        if request.task != "text" or request.controlled:
            pictures = self._stages.stack_pictures([attempt.image for attempt in batch], inputs)
        return self._stages.render_batch(self.model, self._prompts, self.lanes, request, texts, seeds, pictures)

    def _chunks(self, request: Request, texts: tuple[str, str]) -> int:
        """In how many chunks a prompt and its negative prompt are encoded."""
        from renderfarm.render.chunks import chunk_count

        return chunk_count(self.model, *(texts if self._stages.guided(self.model, request.guidance) else texts[:1]))

    def _request(self, attempts: Sequence[Attempt]) -> Request:
        """Returns what all attempts share. Raises RenderFailed when they differ, or ask for a size that the weights
        cannot draw."""
        shared = {(a.image.width, a.image.height, a.image.steps, a.image.guidance, a.image.adapter) for a in attempts}
        if len(shared) != 1:
            raise RenderFailed(f"a batch shares size, steps, guidance and adapter; these differ: {sorted(map(str, shared))}")
        ((width, height, steps, guidance, adapter),) = shared
        self._refuse_size(width, height)
        try:
            weighted(self.model.resolved.adapters, adapter)
        except KeyError as error:
            raise RenderFailed(f"adapter {error} is not among the job's model.adapters") from error
        task, strength, controlled = self._start(attempts, steps)
        return self._stages.Request(width, height, steps, guidance, adapter, task, strength, controlled)

    def _start(self, attempts: Sequence[Attempt], steps: int) -> tuple[Task, float, bool]:
        """Returns what the batch is drawn from, the strength, and whether a ControlNet guides it. Raises RenderFailed when these weights
        cannot do that."""
        named = [(a.image.init_digest, a.image.mask_digest, a.image.control_digest) for a in attempts]
        starts = {(*(digest is not None for digest in digests), a.image.strength) for digests, a in zip(named, attempts, strict=True)}
        if len(starts) != 1:
            raise RenderFailed("a batch shares the strength and which of init_image, mask_image and control_image there are; these differ")
        ((has_init, has_mask, controlled, wanted),) = starts
        if controlled and self.model.control is None:
            raise RenderFailed("a control_image needs the job's model.controlnet")
        if has_mask and not has_init:
            raise RenderFailed("a mask_image needs an init_image to be inpainted")
        task: Task = "inpaint" if has_mask else "image" if has_init else "text"
        strength = STRENGTH[task] if wanted is None else wanted
        if task == "text" and not self.model.family.text:
            raise RenderFailed(f"{self.model.resolved.pipeline_class} draws only inside masks: it needs an init_image and a mask_image")
        if task == "text":
            return task, strength, bool(controlled)
        if int(steps * strength) < 1:
            raise RenderFailed(f"{steps} steps at strength {strength} leave nothing to draw: raise one of them")
        try:
            with self.lanes.turn:
                starts_from: Task = "image" if task == "image" or self._stages.blends(self.model) else "inpaint"
                self.model.pipe_for(starts_from, controlled=bool(controlled))
        except ValueError as error:
            what = "image-to-image" if task == "image" else "inpainting"
            raise RenderFailed(f"{self.model.resolved.pipeline_class} has no {what} in diffusers") from error
        return task, strength, bool(controlled)

    def _info(self, company: tuple[str, ...], request: Request, attempts: Sequence[Attempt], *, slots: bool = False) -> RenderInfo:
        """Returns what the record keeps about how the pixels were made."""
        reader, guided = self.model.reader, self._stages.guided(self.model, request.guidance)
        read = [text for one in attempts for text in (one.image.prompt, one.image.negative_prompt if guided else "")]
        long = reader is not None and any(map(reader.lost, read))
        import diffusers
        import torch

        from renderfarm.render.chunks import reads_weights

        weighted = any(reads_weights(self.model, text) for text in read)
        model = self.model
        return RenderInfo(
            weights=model.resolved.weights,
            weights_revision=model.resolved.revision,
            weights_digest=model.resolved.digest,
            weights_licence=model.resolved.licence,
            scheduler=model.scheduler,
            dtype=str(model.dtype).removeprefix("torch."),
            device=model.device.type,
            driver=model.driver,
            torch_version=str(torch.__version__),  # a class of torch otherwise, which whoever unpickles it must import
            diffusers_version=diffusers.__version__,
            batch=company,
            settings=settings_of(model, self.settings, request, texts=read, long=long, weighted=weighted, slots=slots),
            adapters=adapters_of(model, request),
        )


def choose_kernels(deterministic: bool, tf32: bool) -> None:
    """Sets what CUDA kernels may trade for speed; the CPU takes no notice. cuBLAS repeats itself only with a fixed
    workspace."""
    import torch

    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = tf32 and not deterministic
    torch.set_float32_matmul_precision("high" if tf32 and not deterministic else "highest")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def name_of(attempt: Attempt) -> str:
    """Returns how `RenderInfo.batch` names an attempt: by its drawing."""
    return f"{attempt.image.drawing_id or attempt.image.image_id}/{attempt.number}"


def not_finite(attempts: Sequence[Attempt], index: int) -> RenderFailed:
    """Returns the error for a picture with NaN or infinity in it; its second argument is the index in `attempts`."""
    return RenderFailed(f"attempt {index} ({name_of(attempts[index])}): the pixels are not finite numbers", index)
