"""Which memory mode weights are run in, from what they need and what is free. Pure arithmetic; `load` measures and
acts.

`full` keeps everything on the GPU; `offload` moves one sub-model there at a time (diffusers' enable_model_cpu_offload);
`sequential` one layer at a time (enable_sequential_cpu_offload), which needs little and takes several times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pipeline.errors import WeightsError

Mode = Literal["full", "offload", "sequential"]

ACTIVATIONS_BYTES = 1_500_000_000
"""Room left beside the weights for activations of one image and the CUDA context: SD 2.1 at 512² decodes in about 1.2
GB of float16."""

MODES: tuple[Mode, ...] = ("full", "offload", "sequential")


def needs(components: Sequence[int]) -> dict[Mode, int]:
    """Returns the bytes each mode needs on the GPU, from the bytes of each component in the dtype it is loaded in."""
    total, largest = sum(components), max(components, default=0)
    return {"full": total + ACTIVATIONS_BYTES, "offload": largest + ACTIVATIONS_BYTES, "sequential": ACTIVATIONS_BYTES}


def choose_mode(wanted: Literal["auto", "full", "offload", "sequential"], components: Sequence[int], free: int) -> Mode:
    """Returns the mode to run in: the one that is wanted, or for `auto` the fastest that fits into `free` bytes of the
    GPU.

    Raises WeightsError naming both sizes, and a mode that would fit, when the wanted one does not.
    """
    required = needs(components)
    fitting = [mode for mode in MODES if required[mode] <= free]
    if wanted == "auto":
        return fitting[0] if fitting else "sequential"
    if wanted in fitting or wanted == "sequential":
        return wanted
    advice = f"set model.memory: {fitting[0]}" if fitting else "set model.memory: sequential"
    raise WeightsError(f"memory {wanted!r} needs about {_gb(required[wanted])} on the GPU, {_gb(free)} are free", "model.memory", advice)


def check_host(components: Sequence[int], available: int) -> None:
    """Raises WeightsError naming both sizes when the weights do not fit into the machine's memory, which every mode
    needs."""
    total = sum(components)
    if total > available:
        raise WeightsError(
            f"the weights take {_gb(total)} of memory, {_gb(available)} are available",
            "model.weights",
            "use smaller weights, a 16-bit model.dtype, or a machine with more memory",
        )


def available_bytes() -> int | None:
    """Returns the memory that this machine can still give, from /proc/meminfo; None where there is no such file."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _gb(count: int) -> str:
    """Returns bytes in GB (10⁹), as data sheets of GPUs have it."""
    return f"{count / 1e9:.1f} GB"
