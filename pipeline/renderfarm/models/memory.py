"""Where weights lie and which memory mode they are run in, from what they need and what is free. Pure arithmetic; `load` measures and
acts.

`full` keeps everything on the GPU; `offload` moves one sub-model there at a time (diffusers' enable_model_cpu_offload);
`sequential` one layer at a time (enable_sequential_cpu_offload), which needs little and takes several times as long. Text encoders may
be apart in any of them: on the CPU, or on another GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from renderfarm.errors import WeightsError

Mode = Literal["full", "offload", "sequential"]

ACTIVATIONS_BYTES = 1_500_000_000
"""Room left beside the weights for activations of one image and the CUDA context: SD 2.1 at 512² decodes in about 1.2
GB of float16."""

MODES: tuple[Mode, ...] = ("full", "offload", "sequential")

BESIDE = "beside"
"""`model.encoders`: text encoders on the GPU that denoises."""

CPU_ENCODERS_MAX = 2_000_000_000
"""Weights of text encoders that `auto` puts on the CPU at most. SDXL's two are 0.8e9: 0.13 TFLOP a prompt, a second of four cores. T5-XXL
is 4.8e9: 4.9 TFLOP at 512 tokens, longer than moving it to the GPU and back."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The memory mode of the pipeline, and where its text encoders are: `beside` it, or `cpu`, `cuda:1`, …"""

    mode: Mode
    encoders: str = BESIDE


RESIDENT = ("controlnet",)
"""Components that stay on the GPU in every mode: no hook of diffusers moves them."""


def is_encoder(component: str) -> bool:
    """Whether a component of a pipeline encodes prompts."""
    return component.startswith("text_encoder")


def needs(components: Sequence[int], resident: int = 0) -> dict[Mode, int]:
    """Returns the bytes each mode needs on the GPU, from the bytes of each component in the dtype it is loaded in.

    `resident`: bytes that stay there in every mode.
    """
    always = ACTIVATIONS_BYTES + resident
    return {"full": sum(components) + always, "offload": max(components, default=0) + always, "sequential": always}


def place(
    memory: Literal["auto", "full", "offload", "sequential"],
    encoders: str,
    components: Mapping[str, int],
    free: int,
    *,
    light_encoders: bool = False,
) -> Placement:
    """Returns where `free` bytes of the GPU allow the components to be, as `model.memory` and `model.encoders` want it.

    `auto` in both: the first that fits of everything on the GPU, the text encoders on the CPU (if they are light enough for it), offload;
    else sequential. Raises WeightsError naming both sizes, and what would fit, when what is wanted does not.
    """
    resident = sum(size for name, size in components.items() if name in RESIDENT)
    everything = [size for name, size in components.items() if name not in RESIDENT]
    without = [size for name, size in components.items() if name not in RESIDENT and not is_encoder(name)]
    rest = without if encoders not in ("auto", BESIDE) else everything
    where = encoders if rest is without else BESIDE
    if (
        memory == "auto"
        and encoders == "auto"
        and light_encoders
        and needs(without, resident)["full"] <= free < needs(everything, resident)["full"]
    ):
        return Placement("full", "cpu")
    advice = "set model.encoders: cpu" if rest is everything and needs(without, resident)["full"] <= free else ""
    return Placement(choose_mode(memory, rest, free, advice, resident), where)


def choose_mode(
    wanted: Literal["auto", "full", "offload", "sequential"],
    components: Sequence[int],
    free: int,
    better_advice: str = "",
    resident: int = 0,
) -> Mode:
    """Returns the mode to run in: the one that is wanted, or for `auto` the fastest that fits into `free` bytes of the
    GPU.

    Raises WeightsError naming both sizes, and a mode that would fit (or `better_advice` before it), when the wanted one does not.
    """
    required = needs(components, resident)
    fitting = [mode for mode in MODES if required[mode] <= free]
    if wanted == "auto":
        return fitting[0] if fitting else "sequential"
    if wanted in fitting or wanted == "sequential":
        return wanted
    advice = f"set model.memory: {fitting[0]}" if fitting else "set model.memory: sequential"
    advice = f"{better_advice}, or {advice}" if better_advice and wanted == "full" else advice
    raise WeightsError(f"memory {wanted!r} needs about {gb(required[wanted])} on the GPU, {gb(free)} are free", "model.memory", advice)


def check_host(components: Sequence[int], available: int) -> None:
    """Raises WeightsError naming both sizes when the weights do not fit into the machine's memory, which every mode
    needs."""
    total = sum(components)
    if total > available:
        raise WeightsError(
            f"the weights take {gb(total)} of memory, {gb(available)} are available",
            "model.weights",
            "use smaller weights, a 16-bit model.dtype, or a machine with more memory",
        )


def gb(count: int) -> str:
    """Returns bytes in GB (10⁹), as data sheets of GPUs have it."""
    return f"{count / 1e9:.1f} GB"
