"""Text encoders apart from the pipeline: on the CPU, or on another GPU, when the memory of the one that denoises is short.

The pipeline is left without them, and so takes embeddings only; a second pipeline object holds them, their tokenizers and nothing else,
and encodes prompts. Embeddings are moved to the denoiser as they are made, so encoding overlaps with denoising as ever (`render.lanes`).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from renderfarm.errors import WeightsError
from renderfarm.models.families import Family
from renderfarm.models.memory import BESIDE, gb, is_encoder

if TYPE_CHECKING:
    import torch


def refuse_apart(where: str, family: Family) -> None:
    """Raises WeightsError where the encoders cannot live elsewhere than in the pipeline."""
    if where not in ("auto", BESIDE) and not family.modes:
        what = f"prompts of this family ({family.name}) are encoded by its pipeline's own call"
        raise WeightsError(what, "model.encoders", f"set model.encoders: {BESIDE}")


def place_of(where: str, components: Mapping[str, int]) -> torch.device:
    """Returns the device that `where` names: `cpu` or `cuda:N`. Raises WeightsError when it is not there, or too full.

    `components`: bytes of each component in the dtype that it is loaded in.
    """
    import torch

    if where == "cpu":
        return torch.device("cpu")
    device = torch.device(where)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.index >= count:
        what = f"there is no {where}: this process sees {count} CUDA device{'' if count == 1 else 's'}"
        raise WeightsError(what, "model.encoders", "set it to cpu, or let the process see another GPU (CUDA_VISIBLE_DEVICES)")
    wanted = sum(size for name, size in components.items() if is_encoder(name))
    free = torch.cuda.mem_get_info(device)[0]
    if wanted > free:
        what = f"the text encoders take {gb(wanted)} of {where}, {gb(free)} are free"
        raise WeightsError(what, "model.encoders", "set it to cpu")
    return device


def set_apart(pipe: Any, where: torch.device) -> Any:
    """Returns a pipeline that holds `pipe`'s text encoders on `where` and can encode prompts only; takes them out of `pipe`.

    float16 becomes float32 on the CPU, which has no arithmetic for it.
    """
    import torch

    apart = copy.copy(pipe)
    modules = [name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)]
    encoders = [name for name in modules if is_encoder(name)]
    apart.register_modules(**{name: None for name in modules if name not in encoders})
    pipe.register_modules(**dict.fromkeys(encoders))
    for name in encoders:
        encoder = getattr(apart, name)
        if where.type == "cpu" and encoder.dtype is torch.float16:
            encoder.float()
        encoder.to(where)
    return apart


def threads_beside_a_gpu(threads: int) -> int:
    """Returns how many threads encode on the CPU while a GPU denoises: half of the cores, the others check and store."""
    return max(threads, len(os.sched_getaffinity(0)) // 2) if hasattr(os, "sched_getaffinity") else threads
