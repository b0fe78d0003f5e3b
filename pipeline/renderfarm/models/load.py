"""From resolved weights to a diffusers pipeline on a device. Safetensors only, local files only, no code from the
weights.

torch and diffusers are imported when `load` is called, so that a driver which only resolves stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from renderfarm import machine
from renderfarm.errors import WeightsError, first_line
from renderfarm.job.model import ModelSettings
from renderfarm.models import speed
from renderfarm.models.adapters import load_adapters
from renderfarm.models.checkpoint import load_checkpoint
from renderfarm.models.complete import refuse_incomplete
from renderfarm.models.control import load_control
from renderfarm.models.embeddings import load_embeddings
from renderfarm.models.encoders import place_of, set_apart
from renderfarm.models.families import SCHEDULERS, Family, family_of
from renderfarm.models.layout import SKIPPED
from renderfarm.models.memory import BESIDE, CPU_ENCODERS_MAX, Mode, Placement, check_host, is_encoder, place
from renderfarm.models.prompts import Reader, reader_of
from renderfarm.models.quiet import quieten
from renderfarm.models.resolve import Resolved, digests, locate
from renderfarm.models.sampling import sampler_changes
from renderfarm.weights.fingerprint import combined

if TYPE_CHECKING:
    import torch


Task = Literal["text", "image", "inpaint"]
"""What a picture is drawn from: words alone, words and a picture, or words, a picture and a mask."""


@dataclass(slots=True)
class LoadedModel:
    """A pipeline that can render. `driver` names what runs it: the CUDA driver and the GPU, or the CPU's capability.

    `encoders`: what encodes prompts, on `encoders_device`; the pipeline itself, or one of their own when they live elsewhere.
    """

    pipe: Any
    resolved: Resolved
    family: Family
    device: torch.device
    dtype: torch.dtype
    driver: str
    scheduler: str
    encoders: Any
    encoders_device: torch.device | None = None
    mode: Mode = "full"
    control: Any = None
    sampler: Mapping[str, object] = field(default_factory=dict)
    """What the job or the file of the weights changed in the sampler's own configuration."""
    variants: dict[tuple[Task, bool], Any] = field(default_factory=dict)
    long_prompts: str = "cut"
    """What becomes of prompts that are longer than the model reads (`model.long_prompts`)."""
    prompt_weights: str = "refuse"
    """Whether weights inside a prompt are read (`model.prompt_weights`)."""
    clip_skip: int | None = None
    guidance_rescale: float = 0.0
    true_cfg: float = 0.0
    """As the settings of the same names; 0: not at all."""
    reader: Reader | None = None
    """What tells whether a prompt is."""
    tiles: dict[tuple[int, int], int] = field(default_factory=dict)
    """Height and width of latents → side of the overlapping tiles that they are decoded in, which changes pixels where they meet."""

    @property
    def moves(self) -> bool:
        """Whether parts move, are switched or change their dtype from batch to batch, so that batches must not overlap."""
        upcast = getattr(getattr(getattr(self.pipe, "vae", None), "config", None), "force_upcast", False)
        return bool(self.resolved.adapters) or self.mode != "full" or bool(upcast)

    def pipe_for(self, task: Task, *, controlled: bool = False) -> Any:
        """Returns the pipeline for a task, made of the same weights, with the ControlNet if it is to be `controlled`.

        Raises ValueError when the family has none for it."""
        import diffusers

        if not controlled and (task == "text" or not self.family.text):  # weights for masks alone have a pipeline for nothing else
            return self.pipe
        if (task, controlled) not in self.variants:
            auto: dict[Task, Any] = {
                "text": diffusers.AutoPipelineForText2Image,
                "image": diffusers.AutoPipelineForImage2Image,
                "inpaint": diffusers.AutoPipelineForInpainting,
            }
            own = dict(self.family.variants).get(task)
            kind = auto[task] if own is None else getattr(diffusers, own)
            variant = kind.from_pipe(self.pipe, **({"controlnet": self.control} if controlled else {}))
            variant.set_progress_bar_config(disable=True)
            self.variants[task, controlled] = variant
        return self.variants[task, controlled]


def load(resolved: Resolved, settings: ModelSettings) -> LoadedModel:
    """Returns the loaded pipeline. Raises WeightsError when the files are not those that were resolved, or cannot be
    loaded."""
    folder = verify(resolved)
    quieten()
    import torch

    from renderfarm.models.graphs import record_denoiser

    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    placement = _placement(resolved, settings, device, dtype)
    speed.refuse_compiled(settings, placement.mode)
    elsewhere = None if placement.encoders == BESIDE else place_of(placement.encoders, _bytes(resolved, dtype))
    pipe = _from_pretrained(folder, resolved, dtype)
    refuse_incomplete(pipe, folder, resolved.files)
    sampler = _set_scheduler(pipe, settings, dict(resolved.sampler))
    pipe.set_progress_bar_config(disable=True)
    load_embeddings(pipe, resolved.embeddings, family_of(resolved.pipeline_class))
    load_adapters(pipe, resolved.adapters, family_of(resolved.pipeline_class))
    _stop_training(pipe)
    family, scheduler = family_of(resolved.pipeline_class), type(pipe.scheduler).__name__
    if family.embeddings:  # else the pipeline decodes itself, and casts as it was written to
        _settle_vae(pipe, dtype)
    speed.apply(pipe, family, settings, cuda=device.type == "cuda")
    encoders = pipe if elsewhere is None else set_apart(pipe, elsewhere)
    _place(pipe, device, placement.mode)
    if settings.speed.compile != "off":
        speed.compile_denoiser(pipe, family, settings.speed.compile)
    if settings.speed.graphs and device.type == "cuda" and placement.mode == "full":
        record_denoiser(getattr(pipe, family.denoiser), device)
    driver = driver_name(torch, device)
    if elsewhere is not None and elsewhere != device:
        driver += f"; text encoders: {driver_name(torch, elsewhere)}"
    control = None if resolved.control is None else load_control(resolved.control, dtype, device)
    reader = reader_of(folder, resolved.pipeline_class, {one.word: one.vectors for one in resolved.embeddings})
    model = LoadedModel(pipe, resolved, family, device, dtype, driver, scheduler, encoders, elsewhere, placement.mode, control, sampler)
    model.long_prompts, model.prompt_weights, model.reader = settings.long_prompts, settings.prompt_weights, reader
    model.clip_skip, model.guidance_rescale, model.true_cfg = settings.clip_skip, settings.guidance_rescale, settings.true_cfg or 0.0
    return model


def _stop_training(pipe: Any) -> None:
    """Switches dropout off in every part, however it was loaded: diffusers leaves it on in a T5 that it reads from a single file."""
    for part in pipe.components.values():
        if hasattr(part, "eval"):
            part.eval()


def _placement(resolved: Resolved, settings: ModelSettings, device: torch.device, dtype: torch.dtype) -> Placement:
    """Returns where the weights go, for what is free on this machine now. Raises WeightsError when they do not fit."""
    import torch

    components = _bytes(resolved, dtype)
    available = machine.free_bytes()
    if available is not None:
        check_host(list(components.values()), available)
    if device.type == "cpu":
        return Placement("full", BESIDE if settings.encoders == "auto" else settings.encoders)
    movable = not resolved.adapters and family_of(resolved.pipeline_class).modes
    light = movable and sum(count for name, count in resolved.parameters if is_encoder(name)) <= CPU_ENCODERS_MAX
    return place(settings.memory, settings.encoders, components, torch.cuda.mem_get_info(device)[0], light_encoders=light)


def _bytes(resolved: Resolved, dtype: torch.dtype) -> dict[str, int]:
    """Returns the bytes of each component in this dtype."""
    return {name: count * dtype.itemsize for name, count in resolved.parameters}


def _settle_vae(pipe: Any, dtype: torch.dtype) -> None:
    """Where the VAE's config says that float16 overflows in it (`force_upcast`, SDXL), makes it float32 in float16 pipelines.

    In others nothing overflows, and image-to-image shall not make it float32 and back while another batch is decoded. The weights are
    rounded to float16 first, as that round trip leaves them, so that a picture does not depend on what was drawn before.
    """
    import torch

    vae = getattr(pipe, "vae", None)
    if vae is None or not getattr(vae.config, "force_upcast", False):
        return
    if dtype is torch.float16:
        vae.to(torch.float32)
    else:
        vae.register_to_config(force_upcast=False)


def _place(pipe: Any, device: torch.device, mode: Mode) -> None:
    """Puts the weights where the memory mode wants them."""
    if mode == "full":
        pipe.to(device)
    elif mode == "offload":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_sequential_cpu_offload(device=device)


def _from_pretrained(folder: Path, resolved: Resolved, dtype: torch.dtype) -> Any:
    """Returns the pipeline on the CPU. Raises WeightsError with the first line of what diffusers says."""
    from diffusers import DiffusionPipeline

    pipeline_class: Any = DiffusionPipeline
    try:
        if resolved.checkpoint:
            file = Path(resolved.checkpoint)
            return load_checkpoint(resolved.pipeline_class, folder, file, resolved.supplied, dtype, _left_out(folder))
        return pipeline_class.from_pretrained(
            str(folder),
            dtype=dtype,
            variant=resolved.variant,
            use_safetensors=True,
            local_files_only=True,
            **_left_out(folder),
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"diffusers cannot load them: {first_line(error)}",
            resolved.checkpoint or str(folder),
            f"is model.config of the same family ({resolved.family})?"
            if resolved.checkpoint
            else "try DiffusionPipeline.from_pretrained on this folder",
        ) from error


def verify(resolved: Resolved) -> Path:
    """Returns the folder of the weights on this machine, every byte hashed. Raises WeightsError when the digest
    differs."""
    folder = Path(resolved.path)
    if not folder.is_dir() and not resolved.checkpoint:  # another machine than the one that resolved
        _, folder = locate(ModelSettings(weights=resolved.weights, revision=resolved.revision or None))
    try:
        digest = combined(digests(folder, resolved.files, Path(resolved.checkpoint) if resolved.checkpoint else None, cache=None))
    except OSError as error:
        raise WeightsError(f"a file cannot be read ({error})", str(folder), "every machine needs the same weights") from error
    if digest != resolved.digest:
        raise WeightsError(
            f"the files have the digest {digest[:12]}…, the job was resolved with {resolved.digest[:12]}…",
            str(folder),
            "restore the files, or start the job again to resolve the new ones",
        )
    return folder


def choose_device(settings: ModelSettings) -> torch.device:
    """Returns the device. Raises WeightsError when CUDA is asked for and there is none."""
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise WeightsError("there is no CUDA device on this machine", "model.device", "use `auto` or `cpu`")
    if settings.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def choose_dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    """Returns the number format: as set, or float32 on the CPU, bfloat16 on CUDA (float16 where bfloat16 is
    emulated)."""
    import torch

    if settings.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[settings.dtype]
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def driver_name(torch: Any, device: torch.device) -> str:
    """Returns what computes, as precisely as reproducing needs it."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"CPU {torch.backends.cpu.get_cpu_capability()}, threads {torch.get_num_threads()}"


def _left_out(folder: Path) -> dict[str, Any]:
    """Returns the arguments that keep the components out which are not loaded, and so are not in the digest either."""
    import json

    index = json.loads((folder / "model_index.json").read_text())
    absent: dict[str, Any] = {name: None for name in SKIPPED if name in index}
    return absent | ({"requires_safety_checker": False} if "safety_checker" in index else {})


def _set_scheduler(pipe: Any, settings: ModelSettings, spoken: dict[str, object]) -> Mapping[str, object]:
    """Replaces the sampler by the one that the settings name, configured from the weights' own; returns what was changed in that.

    `spoken`: what the weights' file says that their configuration does not."""
    import diffusers

    config = pipe.scheduler.config
    changes = sampler_changes(settings, config, spoken)
    if settings.scheduler is None and not changes:
        return {}
    name = SCHEDULERS[settings.scheduler][0] if settings.scheduler else type(pipe.scheduler).__name__
    pipe.scheduler = getattr(diffusers, name).from_config(config, **changes)
    return changes
