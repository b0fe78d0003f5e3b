"""What people train, written as their trainers write it, and merged by hand: the difference of a layer in every method, and every format's
name for the layer.

Nothing here asks renderfarm or diffusers how it is done. The products are written out after the methods' papers and LyCORIS' own
`get_weight`; the authors' names of layers after their published files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
RANK, ALPHA = 4, 2.0


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape) * 0.3


Kernel = tuple[int, ...]
Made = tuple[Tensors, torch.Tensor]
"""The tensors of a layer, and what they come to."""


def lora(rows: int, columns: int, kernel: Kernel, down: str = "lora_down.weight", up: str = "lora_up.weight", alpha: bool = True) -> Made:
    a, b = _draw(RANK, columns, *kernel), _draw(rows, RANK, *(1 for _ in kernel))
    change = (b.flatten(1) @ a.flatten(1)).reshape(rows, columns, *kernel) * (ALPHA / RANK if alpha else 1.0)
    return {down: a, up: b} | ({"alpha": torch.tensor(ALPHA)} if alpha else {}), change


def peft(rows: int, columns: int, kernel: Kernel) -> Made:
    return lora(rows, columns, kernel, "lora_A.weight", "lora_B.weight", alpha=False)


def peft_alpha(rows: int, columns: int, kernel: Kernel) -> Made:
    return lora(rows, columns, kernel, "lora_A.weight", "lora_B.weight")


def locon(rows: int, columns: int, kernel: Kernel) -> Made:
    """With a core in the middle where there is a kernel (Tucker)."""
    if not kernel or kernel == (1, 1):
        return lora(rows, columns, kernel)
    a, mid, b = _draw(RANK, columns, 1, 1), _draw(RANK, RANK, *kernel), _draw(rows, RANK, 1, 1)
    change = torch.einsum("oa,abkl,bi->oikl", b[:, :, 0, 0], mid, a[:, :, 0, 0]) * ALPHA / RANK
    return {"lora_down.weight": a, "lora_mid.weight": mid, "lora_up.weight": b, "alpha": torch.tensor(ALPHA)}, change


def loha(rows: int, columns: int, kernel: tuple[int, ...], rank: int = 2) -> tuple[Tensors, torch.Tensor]:
    a1, a2 = _draw(rows, rank), _draw(rows, rank)
    b1, b2 = (_draw(rank, columns * math.prod(kernel)) for _ in range(2))
    change = ((a1 @ b1) * (a2 @ b2) * ALPHA / rank).reshape(rows, columns, *kernel)
    return {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(ALPHA)}, change


def loha_tucker(rows: int, columns: int, kernel: Kernel) -> Made:
    if not kernel or kernel == (1, 1):
        return loha(rows, columns, kernel, 9)  # so many ranks that the whole difference is smaller
    parts = {f"hada_{w}": _draw(RANK, size) for w, size in (("w1_a", rows), ("w1_b", columns), ("w2_a", rows), ("w2_b", columns))}
    parts |= {"hada_t1": _draw(RANK, RANK, *kernel), "hada_t2": _draw(RANK, RANK, *kernel)}
    one, two = (torch.einsum("ijkl,jr,ip->prkl", parts[f"hada_t{n}"], parts[f"hada_w{n}_b"], parts[f"hada_w{n}_a"]) for n in (1, 2))
    return parts | {"alpha": torch.tensor(ALPHA)}, one * two * ALPHA / RANK


def lokr(rows: int, columns: int, kernel: Kernel) -> Made:
    """A small whole matrix times one of low rank."""
    left, rank = _draw(2, 2), 1
    a, b = _draw(rows // 2, rank), _draw(rank, columns // 2 * math.prod(kernel))
    change = torch.kron(left, a @ b) * ALPHA / rank
    return {"lokr_w1": left, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(ALPHA)}, change.reshape(rows, columns, *kernel)


def lokr_whole(rows: int, columns: int, kernel: Kernel) -> Made:
    """Two whole matrices: alpha means nothing then."""
    left, right = _draw(4, 4), _draw(rows // 4, columns // 4, *kernel)
    change = torch.kron(left.reshape(4, 4, *(1 for _ in kernel)), right)
    return {"lokr_w1": left, "lokr_w2": right, "alpha": torch.tensor(1e10)}, change


def full(rows: int, columns: int, kernel: Kernel) -> Made:
    change = _draw(rows, columns, *kernel)
    return {"diff": change}, change


def xlabs(rows: int, columns: int, kernel: Kernel) -> Made:
    return lora(rows, columns, kernel, "down.weight", "up.weight", alpha=False)


METHODS: dict[str, Callable[[int, int, Kernel], Made]] = {
    "LoRA": lora, "peft": peft, "peft with alpha": peft_alpha, "LoCon": locon, "LoHa": loha, "LoHa Tucker": loha_tucker, "LoKr": lokr,
    "LoKr whole": lokr_whole, "full": full, "XLabs": xlabs,
}  # fmt: skip


def write(
    path: Path, parts: Any, plan: list[tuple[str, list[tuple[str, str]]]], method: str, seed: int
) -> dict[tuple[str, str], torch.Tensor]:
    """Writes a file. `plan`: the file's name of a layer, and the layers (part, name) whose rows it has, one below the other. Returns what
    was written, merged: (part, layer) → difference of its weight."""
    torch.manual_seed(seed)
    tensors: Tensors = {}
    merged: dict[tuple[str, str], torch.Tensor] = {}
    for name, targets in plan:
        weights = [parts[part].get_submodule(layer).weight for part, layer in targets]
        rows, (columns, *kernel) = sum(len(weight) for weight in weights), weights[0].shape[1:]
        own, change = METHODS[method](rows, columns, tuple(kernel))
        last = next(role for role in ("lora_up.weight", "lora_B.weight", "up.weight", "hada_w1_a", "lokr_w1", "diff") if role in own)
        own[last], change = (tensor * 3 / (float(change.std()) * columns**0.5) for tensor in (own[last], change))  # so that it counts
        tensors |= {f"{name}.{role}": tensor.contiguous() for role, tensor in own.items()}
        start = 0
        for (part, layer), weight in zip(targets, weights, strict=True):
            merged[part, layer] = change[start : start + len(weight)]
            start += len(weight)
    save_file(tensors, path, metadata={"format": "pt"})
    return merged


def written_in_header(path: Path, part: str, layers: list[str]) -> None:
    """As the training scripts of diffusers say a strength: adds it to a file whose tensors are peft's."""
    from safetensors.torch import load_file

    own = {f"{part}.r": RANK, f"{part}.lora_alpha": ALPHA, f"{part}.target_modules": layers}
    save_file(load_file(path), path, metadata={"format": "pt", "lora_adapter_metadata": json.dumps(own)})
