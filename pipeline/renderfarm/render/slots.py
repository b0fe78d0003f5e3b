"""Step-level slots: a pool of images that denoise together, each at its own timestep and with its own number of steps.

A finished image leaves and the next enters at once, so that images with other steps, re-renders and tails do not leave the batch half
empty. Euler's method only (Karras et al. 2022, algorithm 1), for the UNets of Stable Diffusion and the transformers of Stable
Diffusion 3; pixels equal those of the static path within the rounding of a batch. Shapes as in `render.stages`.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from renderfarm.models import LoadedModel
from renderfarm.models.quiet import drop_foreign_warnings
from renderfarm.render.lanes import Lanes
from renderfarm.render.stages import Encoded, PromptCache, draw_noise, guided
from renderfarm.render.vae import decode, quantise
from renderfarm.schema import Attempt

PREDICTIONS = ("epsilon", "v_prediction")
SHAPE = (-1, 1, 1, 1)


@dataclass(slots=True)
class Slot:
    """One image on its way: its place in the unit, latents (1, C, h, w), noise levels and timesteps, and how far it is."""

    place: int
    latents: torch.Tensor
    sigmas: torch.Tensor
    timesteps: torch.Tensor
    guidance: float
    prompt: Encoded
    negative: Encoded
    step: int = 0

    @property
    def finished(self) -> bool:
        return self.step == len(self.timesteps)


def poolable(model: LoadedModel) -> bool:
    """Says whether these weights and this sampler can be stepped here; others take the static path."""
    config = model.pipe.scheduler.config
    if model.family.name == "sd":
        return model.scheduler == "EulerDiscreteScheduler" and config.prediction_type in PREDICTIONS
    plain = not config.get("use_dynamic_shifting") and not config.get("stochastic_sampling")
    return model.family.name == "sd3" and model.scheduler == "FlowMatchEulerDiscreteScheduler" and plain


class SlotPool:
    """At most `size` slots of one size in pixels, all guided or none."""

    def __init__(self, model: LoadedModel, size: int) -> None:
        self.model = model
        self.size = size
        self.flow = model.family.prediction == "flow"
        self.slots: list[Slot] = []

    def slot(self, place: int, attempt: Attempt, prompt: Encoded, negative: Encoded) -> Slot:
        """Returns an image at its first step."""
        image, model = attempt.image, self.model
        scheduler: Any = copy.deepcopy(model.pipe.scheduler)
        scheduler.set_timesteps(image.steps, device=model.device)
        noise = draw_noise(model, [torch.Generator("cpu").manual_seed(attempt.seed)], image.width, image.height)
        latents = noise if self.flow else noise * scheduler.init_noise_sigma
        sigmas = scheduler.sigmas.to(model.device)
        return Slot(place, latents, sigmas, scheduler.timesteps, image.guidance, prompt, negative)

    def tick(self) -> list[Slot]:
        """One step of every slot; returns those that are done, and frees them."""
        slots = self.slots
        latents = torch.cat([slot.latents for slot in slots])
        sigma = torch.stack([slot.sigmas[slot.step] for slot in slots]).view(SHAPE)
        following = torch.stack([slot.sigmas[slot.step + 1] for slot in slots]).view(SHAPE)
        t = torch.stack([slot.timesteps[slot.step] for slot in slots])
        scaled = latents if self.flow else (latents / (sigma**2 + 1).sqrt()).to(latents.dtype)
        moved = latents.float() + self._slope(latents, self._predict(scaled, t), sigma) * (following - sigma)
        for slot, latent in zip(slots, moved.to(latents.dtype).unsqueeze(1), strict=True):
            slot.latents, slot.step = latent, slot.step + 1
        self.slots = [slot for slot in slots if not slot.finished]
        return [slot for slot in slots if slot.finished]

    def _predict(self, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Returns what the denoiser says of each slot, guided (Ho & Salimans 2022)."""
        sides = [[slot.prompt for slot in self.slots]]
        if guided(self.model, self.slots[0].guidance):
            sides.insert(0, [slot.negative for slot in self.slots])
            latents, t = torch.cat([latents, latents]), torch.cat([t, t])
        encoded = [torch.cat(parts) for parts in zip(*(part for side in sides for part in side), strict=True)]
        if self.flow:
            pipe = self.model.pipe
            out = pipe.transformer(hidden_states=latents, timestep=t, encoder_hidden_states=encoded[0], pooled_projections=encoded[1])
        else:
            out = self.model.pipe.unet(latents, t, encoder_hidden_states=encoded[0])
        prediction: torch.Tensor = out.sample
        if len(sides) == 1:
            return prediction
        without, wanted = prediction.chunk(2)
        guidance = torch.tensor([slot.guidance for slot in self.slots], device=prediction.device, dtype=prediction.dtype).view(SHAPE)
        return without + guidance * (wanted - without)

    def _slope(self, latents: torch.Tensor, prediction: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Returns dx/dσ in float32; epsilon and a flow's velocity are it already."""
        prediction, latents = prediction.float(), latents.float()
        if self.flow or self.model.pipe.scheduler.config.prediction_type == "epsilon":
            return prediction
        clean = prediction * (-sigma / (sigma**2 + 1).sqrt()) + latents / (sigma**2 + 1)
        return (latents - clean) / sigma


@torch.inference_mode()
def render_pooled(
    model: LoadedModel, cache: PromptCache, lanes: Lanes, attempts: Sequence[Attempt], size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what `stages.render_batch` returns, for attempts that share a size in pixels and whether they are guided."""
    drop_foreign_warnings()
    pool, images = SlotPool(model, size), [attempt.image for attempt in attempts]
    pictures: dict[int, torch.Tensor] = {}
    finite: dict[int, torch.Tensor] = {}
    with lanes.batch():
        with lanes.ahead():
            prompts = [cache.encode(image.prompt, None, negative=False) for image in images]
            sides = images if guided(model, images[0].guidance) else []
            negatives = [cache.encode(image.negative_prompt, None, negative=True) for image in sides] or prompts
        lanes.used_by_denoiser(tensor for encoded in (*prompts, *negatives) for tensor in encoded)
        with lanes.turn:
            waiting = deque(range(len(attempts)))
            while waiting or pool.slots:
                while waiting and len(pool.slots) < size:
                    at = waiting.popleft()
                    pool.slots.append(pool.slot(at, attempts[at], prompts[at], negatives[at]))
                finished = pool.tick()
                if not finished:
                    continue
                latents = torch.cat([slot.latents for slot in finished])
                with lanes.behind(lanes.denoised(), [latents]):
                    drawn = decode(model, latents, tiles=size == 1)
                    good = latents.isfinite().flatten(1).all(1) & drawn.isfinite().flatten(1).all(1)
                    for slot, picture, ok in zip(finished, quantise(drawn.nan_to_num()), good, strict=True):
                        pictures[slot.place], finite[slot.place] = picture, ok
        with lanes.behind():
            order = range(len(attempts))
            return torch.stack([pictures[at] for at in order]), torch.stack([finite[at] for at in order])
