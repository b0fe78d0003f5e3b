"""Whether all that a loaded part needs was in the files: the libraries fill what is missing with random numbers, and say so in a log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from renderfarm.errors import WeightsError
from renderfarm.weights.headers import read_header

_FORMERLY = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Layers of attention in old files of VAEs, which diffusers renames when it loads them."""
_OLD = re.compile(r"(.*attentions\.\d+\.)(query|key|value|proj_attn)(\..*)")


def refuse_incomplete(pipe: Any, folder: Path, files: Iterable[str]) -> None:
    """Raises WeightsError naming the first tensor that a part of the pipeline has and its files in `folder` have not.

    For parts of transformers, which renames tensors, their numbers are counted instead; tied ones once."""
    import torch

    by_part: dict[str, list[Path]] = {}
    for name in files:
        if name.endswith(".safetensors"):
            by_part.setdefault(name.split("/")[0], []).append(folder / name)
    for part, paths in by_part.items():
        module = getattr(pipe, part, None)
        if not isinstance(module, torch.nn.Module) or getattr(module, "quantization_method", None) or getattr(module, "hf_quantizer", None):
            continue
        held = {key: entry["shape"] for path in paths for key, entry in read_header(path).items() if key != "__metadata__"}
        if type(module).__module__.startswith("diffusers"):
            known = {match[1] + _FORMERLY[match[2]] + match[3] if (match := _OLD.fullmatch(key)) else key for key in held}
            missing = sorted(set(module.state_dict()) - known)
            problem = f"{len(missing)} tensors, such as {missing[0]}" if missing else ""
        else:
            own, there = sum(tensor.numel() for tensor in module.parameters()), sum(torch.Size(shape).numel() for shape in held.values())
            problem = f"{own - there} numbers of {own}" if own > there else ""
        if problem:
            what = f"{part} lacks {problem}: diffusers would draw with random numbers in their place"
            raise WeightsError(what, str(folder / part), "download the whole folder again")
