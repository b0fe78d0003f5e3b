"""The stages of rendering one batch, family by family: encode prompts, draw noise, denoise, decode, quantise.

Only this module calls a diffusers pipeline. Shapes: B images, C latent channels, h and w the latent size. Pictures are
RGB.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from renderfarm.models import LoadedModel
from renderfarm.models.adapters import switch_adapter
from renderfarm.models.quiet import drop_foreign_warnings
from renderfarm.models.reuse import begin_batch
from renderfarm.render import tuning
from renderfarm.render.chunks import encode_in_chunks, reads_weights
from renderfarm.render.inputs import as_picture
from renderfarm.render.lanes import Lanes
from renderfarm.render.request import Pictures, Request, blank, stack_pictures
from renderfarm.render.vae import decode, encode_pictures, quantise

Encoded = tuple[torch.Tensor, ...]
"""One encoded prompt: one tensor (1, ...) for each name in `Family.embeddings`."""

__all__ = ["Pictures", "PromptCache", "Request", "blank", "render_batch", "stack_pictures"]

ENCODED_BYTES_MAX = 256 << 20
"""Prompts remembered, in bytes on the device: hundredths of a card's memory, which no estimate of a batch counts. What comes again comes
soon (a job's negative prompt, a row's images, their next attempts): 60 prompts of FLUX (512 × 4096 bfloat16 = 4 MB), 800 of SDXL."""

TIMED_STEPS = 4
"""Steps of a timed batch: enough that denoising outweighs decoding, as it does at 25."""


@dataclass(slots=True)
class PromptCache:
    """Encoded prompts by text, role and adapter (it may change the text encoder), the least recently used dropped
    first when they hold more than `bytes_max`.

    Each prompt is encoded alone, so that no neighbour sways it.
    """

    model: LoadedModel
    entries: OrderedDict[tuple[str, bool, str | None, int], Encoded] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    bytes_max: int = ENCODED_BYTES_MAX
    held: int = 0
    """Bytes of the tensors in `entries`."""

    def encode(self, prompt: str, adapter: str | None, *, negative: bool, chunks: int = 1) -> Encoded:
        """Returns the embeddings on the device, with `adapter` switched on already. `negative`: the unconditional
        side; `chunks`: see `render.chunks`."""
        key = (prompt, negative, adapter, chunks)
        with self.lock:
            encoded = self.entries.pop(key, None) or self._new(prompt, negative, chunks)
            self.entries[key] = encoded
            while self.held > self.bytes_max:
                self.held -= held_bytes(self.entries.popitem(last=False)[1])
            return encoded

    def _new(self, prompt: str, negative: bool, chunks: int) -> Encoded:
        encoded = encode_one(self.model, prompt, negative=negative, chunks=chunks)
        self.held += held_bytes(encoded)
        return encoded


def held_bytes(encoded: Encoded) -> int:
    """Returns the bytes that these tensors keep alive: a view keeps all of what it looks at, and two views of one keep it once."""
    storages = [tensor.untyped_storage() for tensor in encoded]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def encode_one(model: LoadedModel, prompt: str, *, negative: bool, chunks: int = 1) -> Encoded:
    """Returns the embeddings of one prompt as the family's `encode_prompt` makes them.

    SDXL's base weights were trained with zeros for an empty unconditional prompt (`force_zeros_for_empty_prompt`).
    """
    pipe, family = model.encoders, model.family
    clip_skip = None if negative else model.clip_skip  # diffusers leaves nothing out on the unconditional side
    known = inspect.signature(pipe.encode_prompt).parameters
    wishes = {
        "prompt": prompt,
        "prompt_2": None,
        "prompt_3": None,
        "device": pipe._execution_device if model.encoders_device is None else model.encoders_device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": False,
        "clip_skip": clip_skip,
    }
    if "complex_human_instruction" in known and not negative:
        wishes["complex_human_instruction"] = inspect.signature(type(pipe).__call__).parameters["complex_human_instruction"].default
    if reads_weights(model, prompt):
        from renderfarm.render.weighted import encode_weighted  # its library takes a second to load

        picked = encode_weighted(model, prompt, chunks)
    elif chunks > 1 or (clip_skip is not None and family.name != "sdxl"):  # there diffusers 0.42 fails with transformers 5
        picked = encode_in_chunks(model, prompt, chunks, clip_skip)
    else:
        encoded = pipe.encode_prompt(**{name: value for name, value in wishes.items() if name in known})
        picked = tuple(encoded[i] for i in family.pick)
    if negative and not prompt and getattr(pipe.config, "force_zeros_for_empty_prompt", False):
        picked = tuple(torch.zeros_like(tensor) for tensor in picked)
    return picked if model.encoders_device is None else tuple(_moved(model, tensor) for tensor in picked)


def _moved(model: LoadedModel, tensor: torch.Tensor) -> torch.Tensor:
    """Returns what was encoded elsewhere where the denoiser takes it; masks stay whole numbers."""
    return tensor.to(model.device, model.dtype if tensor.is_floating_point() else None)


def guided(model: LoadedModel, guidance: float) -> bool:
    """Says whether this batch runs the unconditional side too (classifier-free guidance, Ho & Salimans 2022)."""
    denoiser = getattr(model.pipe, model.family.denoiser, None)
    distilled = getattr(getattr(denoiser, "config", None), "time_cond_proj_dim", None) is not None
    return (model.family.negative and guidance > 1 and not distilled) or model.true_cfg > 1


def draw_noise(model: LoadedModel, generators: Sequence[torch.Generator], width: int, height: int) -> torch.Tensor:
    """Returns latents (B, C, h, w) or, packed, (B, h*w/4, 4*C), standard normal.

    Each image's noise comes from its own CPU generator in float32, so that it depends on neither device, dtype nor
    neighbours.
    """
    pipe = model.pipe
    scale = pipe.vae_scale_factor
    channels = getattr(pipe, model.family.denoiser).config.in_channels
    h, w = height // scale, width // scale
    if model.family.packed:
        channels //= 4
    drawn = [torch.randn((1, channels, h, w), generator=generator, dtype=torch.float32) for generator in generators]
    latents = torch.cat(drawn).to(model.device, model.dtype)
    if model.family.packed:
        latents = pipe._pack_latents(latents, len(generators), channels, h, w)
    return latents


def denoise(
    model: LoadedModel,
    request: Request,
    prompts: Sequence[Encoded],
    negatives: Sequence[Encoded],
    generators: list[torch.Generator],
    pictures: Pictures | None = None,
) -> torch.Tensor:
    """Returns denoised latents (B, C, h, w). `negatives` is empty when the batch is not guided.

    With an init image the pipeline draws the noise itself, from the same generators.
    """
    names = model.family.embeddings
    blended = request.task == "inpaint" and blends(model)
    pipe = model.pipe_for("image" if blended else request.task, controlled=request.controlled)
    known = inspect.signature(type(pipe).__call__).parameters
    arguments: dict[str, Any] = {
        "generator": generators,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance,
        "guidance_rescale": model.guidance_rescale or None,
        "true_cfg_scale": model.true_cfg or None,
        "output_type": "latent",
        "return_dict": False,
    }
    arguments |= {name: torch.cat(parts) for name, parts in zip(names, zip(*prompts, strict=True), strict=True)}
    if negatives:
        parts = zip(names, zip(*negatives, strict=True), strict=True)
        arguments |= {f"negative_{name}": torch.cat(tensors) for name, tensors in parts}
    guides_itself = request.controlled and model.family.prediction == "flow"  # its picture takes from the generator before the noise does
    if (pictures is None or pictures.init is None) and not guides_itself:
        arguments["latents"] = draw_noise(model, generators, request.width, request.height)
    elif pictures is not None and pictures.init is not None:
        arguments |= {"image": pictures.init, "mask_image": pictures.mask, "strength": request.strength}
    if pictures is not None and pictures.control is not None and model.resolved.control is not None:
        if guides_itself:  # a tensor is taken as it is there, where a picture is brought to -1..1
            arguments["control_image"] = pictures.control * 2 - 1
        else:
            arguments["image" if pictures.init is None else "control_image"] = pictures.control
        arguments["controlnet_conditioning_scale"] = model.resolved.control.scale
        arguments["control_mode"] = model.resolved.control.mode
    if blended and pictures is not None and pictures.init is not None and pictures.mask is not None:
        known_latents = encode_pictures(model, pictures.init)
        arguments["callback_on_step_end"] = Blend(known_latents, pictures.mask, draw_noise(model, copies(generators), *request.size))
    if known.get("negative_prompt") is not None and known["negative_prompt"].default is not None:
        arguments["negative_prompt"] = None  # PixArt and Sana default to "", which excludes embeddings
    if "use_resolution_binning" in known:
        arguments["use_resolution_binning"] = False  # the size that was asked for, not the nearest of a table
    assert all(name in known for name in ("guidance_rescale", "true_cfg_scale") if arguments[name]), "refused at plan"
    arguments = {name: value for name, value in arguments.items() if name in known and (value is not None or name not in OPTIONAL)}
    begin_batch(getattr(pipe, model.family.denoiser))
    latents: torch.Tensor = pipe(**arguments)[0]
    if pipe is not model.pipe:
        model.pipe.maybe_free_model_hooks()  # a variant shares the sub-models, and knows nothing of what moves them
    if model.family.packed:
        latents = model.pipe._unpack_latents(latents, request.height, request.width, model.pipe.vae_scale_factor)
    return latents


OPTIONAL = ("guidance_rescale", "true_cfg_scale", "control_mode")
"""Arguments whose absence means the pipeline's own default."""

INPAINT_CHANNELS = (4, 9)
"""Of UNets that diffusers inpaints with: plain weights, and weights trained with mask and masked image as extra input."""


def blends(model: LoadedModel) -> bool:
    """Says whether inpainting is done here, by blending latents: where diffusers has no pipeline for it (LCM), or refuses the
    UNet's channels."""
    if model.family.denoiser != "unet":
        return False
    return model.family.name == "lcm" or model.pipe.unet.config.in_channels not in INPAINT_CHANNELS


class Blend:
    """After each step of image-to-image, what the mask keeps is put back at that step's noise level (RePaint's known region,
    Lugmayr et al. 2022, without its resampling). `known`, `noise`: latents (B, C, h, w); `mask`: (B, 1, H, W), white is drawn anew.
    """

    def __init__(self, known: torch.Tensor, mask: torch.Tensor, noise: torch.Tensor) -> None:
        self.known, self.noise = known, noise
        self.mask = torch.nn.functional.interpolate(mask, size=known.shape[-2:]).to(known)

    def __call__(self, pipe: Any, step: int, _timestep: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns the latents to go on with; diffusers calls this after step `step` of those that the strength leaves."""
        timesteps = pipe.scheduler.timesteps
        following = len(timesteps) - pipe.num_timesteps + step + 1
        outside = self.known
        if following < len(timesteps):
            outside = pipe.scheduler.add_noise(outside, self.noise, timesteps[following : following + 1].expand(len(outside)))
        latents = state["latents"]
        return {"latents": latents * self.mask + outside.to(latents) * (1 - self.mask)}


def copies(generators: Sequence[torch.Generator]) -> list[torch.Generator]:
    """Returns generators that go on from where these are, and leave these alone."""
    return [generator.clone_state() for generator in generators]


def plain_call(
    model: LoadedModel,
    request: Request,
    texts: Sequence[tuple[str, str]],
    generators: list[torch.Generator],
    pictures: Pictures | None = None,
) -> torch.Tensor:
    """Returns pictures (B, 3, H, W) in -1..1 of a pipeline whose prompts are not encoded here, through its own call.

    `texts`: prompt and negative prompt of each image. Families whose prompts sway each other in a call are drawn one by one."""
    if len(texts) > 1 and not (model.family.together and pictures is None):
        single = [None if pictures is None else pictures.of(at) for at in range(len(texts))]
        return torch.cat([plain_call(model, request, [text], [one], own) for text, one, own in zip(texts, generators, single, strict=True)])
    family, pipe = model.family, model.pipe_for(request.task)
    accepted = inspect.signature(type(pipe).__call__).parameters
    prompts, without = [prompt for prompt, _ in texts], family.empty_negative
    guided_call = (request.guidance > 1 and family.negative) or model.true_cfg > 1
    negatives = [negative or without or "" for _, negative in texts]
    off = family.unguided is not None and request.guidance <= 1
    wishes: dict[str, Any] = {
        "prompt": prompts,
        "negative_prompt": negatives if guided_call and (without or any(negatives) or model.true_cfg) else None,
        "true_cfg_scale": model.true_cfg or None,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.steps,
        family.guidance: family.unguided if off else request.guidance,
        "generator": generators,
        "output_type": "pt",
        "return_dict": False,
        "max_area": request.width * request.height,
        **dict(family.always),
    }
    if pictures is not None and pictures.init is not None:
        image = [as_picture(one) for one in pictures.init] if family.as_pictures else pictures.init
        wishes |= {"image": image, "mask_image": pictures.mask, "strength": request.strength if family.by_strength else None}
    if model.encoders_device is not None:
        encode = model.encoders.encode_prompt
        wishes["prompt_embeds"], wishes["negative_prompt_embeds"] = (
            _moved(model, encode(prompt=words, device=model.encoders_device)[0]) for words in (wishes.pop("prompt"), [""] * len(prompts))
        )
    drawn = pipe(**{name: value for name, value in wishes.items() if name in accepted and value is not None})[0]
    return torch.as_tensor(drawn) * 2 - 1


def in_order(parts: Sequence[torch.Tensor], places: Sequence[int]) -> torch.Tensor:
    """Returns what several calls drew, one behind the other, in the order that `places` tells."""
    return torch.cat(list(parts))[torch.tensor(places, device=parts[0].device)]


def keep_unmasked(drawn: torch.Tensor, pictures: Pictures) -> torch.Tensor:
    """Returns pictures (B, 3, H, W) in -1..1 with the init image's own pixels where the mask is black; grey blends."""
    if pictures.mask is None or pictures.init is None:
        return drawn
    init, mask = pictures.init.to(drawn) * 2 - 1, pictures.mask.to(drawn)
    return drawn * mask + init * (1 - mask)


@torch.inference_mode()
def render_batch(
    model: LoadedModel,
    cache: PromptCache,
    lanes: Lanes,
    request: Request,
    texts: Sequence[tuple[str, str]],
    seeds: Sequence[int],
    pictures: Pictures | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns uint8 (B, H, W, 3) and bool (B,): whether a picture is finite (one that is not means nothing).

    Both are on the device, in the lane `behind`. `texts`: prompt and negative prompt of each image; `seeds`: of its noise.
    """
    drop_foreign_warnings()
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    with lanes.batch():
        switch_adapter(model.pipe, model.resolved.adapters, request.adapter)
        if not model.family.embeddings:
            with lanes.turn:
                drawn = plain_call(model, request, texts, generators, pictures)
                denoised = lanes.denoised()
            with lanes.behind(denoised, [drawn]):
                finite = drawn.isfinite().flatten(1).all(1)
                drawn = drawn if pictures is None else keep_unmasked(drawn, pictures)
                return quantise(drawn.nan_to_num()), finite
        with lanes.ahead():
            sides = texts if guided(model, request.guidance) else ()
            chunks = request.chunks
            prompts = [cache.encode(prompt, request.adapter, negative=False, chunks=chunks) for prompt, _ in texts]
            negatives = [cache.encode(negative, request.adapter, negative=True, chunks=chunks) for _, negative in sides]
        lanes.used_by_denoiser(tensor for encoded in (*prompts, *negatives) for tensor in encoded)
        with lanes.turn:
            latents = denoise(model, request, prompts, negatives, generators, pictures)
            denoised = lanes.denoised()
        with lanes.behind(denoised, [latents]):
            drawn = decode(model, latents)
            finite = latents.isfinite().flatten(1).all(1) & drawn.isfinite().flatten(1).all(1)
            drawn = drawn if pictures is None else keep_unmasked(drawn, pictures)
            return quantise(drawn.nan_to_num()), finite


def time_batch(
    model: LoadedModel, cache: PromptCache, lanes: Lanes, width: int, height: int, count: int, clock: Callable[[], float] | None = None
) -> float:
    """Returns the seconds that `count` images of this size take at `TIMED_STEPS` steps, after one run that does not count: it may compile.

    On a CPU, of this thread's own time, which neighbours on the machine do not lengthen.
    """
    request, pictures = blank(model, Request(width, height, TIMED_STEPS, 5.0), count)
    texts, seeds = [("a photo of a mug", "")] * count, list(range(count))
    own = time.thread_time if model.device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    clock, took = clock or own, list[float]()
    for _ in range(3):
        started = clock()
        drawn, _ = render_batch(model, cache, lanes, request, texts, seeds, pictures)
        with lanes.behind():
            lanes.to_host(drawn)
        took.append(clock() - started)
        if len(took) > 1 and took[-1] > tuning.SLOW_S:
            break
    return min(took[1:])
