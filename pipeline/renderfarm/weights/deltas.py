"""What the tensors of an adapter file do to one layer, whatever trained them, as the one form that every loader of diffusers takes:
`W + up @ down`, exactly.

    LoRA, LoCon      up, down, for convolutions a core between them (Hu et al. 2021; LyCORIS, Yeh et al. 2023)
    LoHa             (a1 b1) * (a2 b2), element by element: a low-rank product of r1 r2 ranks (the rows' Khatri-Rao product)
    LoKr             kron(w1, w2), each of them whole or of low rank
    full             the difference itself; beside it, that of the bias

What would be of no lower rank is written with an identity as its other factor. Refused are methods that are no sum (DoRA of kohya-ss
and LyCORIS, IA3, OFT), see `UNKNOWN`. Tensors: linear layers (out, in), convolutions (out, in, k, k).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    Layer = Mapping[str, torch.Tensor]
    """Role → tensor, of one layer."""

_WEIGHT = r"(?:\.default)?(?:\.weight)?"
_ROLES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (role, re.compile(pattern))
    for role, pattern in (
        ("down", rf"(.+?)(?:\.lora_down|\.lora_A|\.lora\.down|_lora\.down|\.lora_linear_layer\.down){_WEIGHT}"),
        ("up", rf"(.+?)(?:\.lora_up|\.lora_B|\.lora\.up|_lora\.up|\.lora_linear_layer\.up){_WEIGHT}"),
        ("down", r"(.+\.processor\.(?:qkv|proj)_lora[12]?)\.down\.weight"),
        ("up", r"(.+\.processor\.(?:qkv|proj)_lora[12]?)\.up\.weight"),
        ("bias", r"(.+?)(?:\.lora_B|\.lora_up)(?:\.default)?\.bias"),
        ("mid", r"(.+)\.lora_mid\.weight"),
        ("magnitude", rf"(.+)\.lora_magnitude_vector{_WEIGHT}"),
        ("alpha", r"(.+?)(?:\.lora)?\.alpha"),
        ("scalar", r"(.+)\.scalar"),
        ("diff", r"(.+)\.diff"),
        ("diff_b", r"(.+)\.diff_b"),
        ("hada_w1_a", r"(.+)\.hada_w1_a"), ("hada_w1_b", r"(.+)\.hada_w1_b"), ("hada_w2_a", r"(.+)\.hada_w2_a"),
        ("hada_w2_b", r"(.+)\.hada_w2_b"), ("hada_t1", r"(.+)\.hada_t1"), ("hada_t2", r"(.+)\.hada_t2"),
        ("lokr_w1", r"(.+)\.lokr_w1"), ("lokr_w1_a", r"(.+)\.lokr_w1_a"), ("lokr_w1_b", r"(.+)\.lokr_w1_b"),
        ("lokr_w2", r"(.+)\.lokr_w2"), ("lokr_w2_a", r"(.+)\.lokr_w2_a"), ("lokr_w2_b", r"(.+)\.lokr_w2_b"), ("lokr_t2", r"(.+)\.lokr_t2"),
    )
)  # fmt: skip

PLAIN = frozenset({"down", "up", "alpha", "bias", "magnitude"})
"""Roles that diffusers itself knows."""

UNKNOWN: Mapping[str, str] = {
    "dora_scale": "DoRA as kohya-ss and LyCORIS save it",
    "oft_": "OFT",
    "on_input": "IA3",
    "w_norm": "trained norms",
    "b_norm": "trained norms",
    "glora": "GLoRA",
    "a1.weight": "GLoRA",
    "set_weight": "whole weights",
    "reshape_weight": "layers of another shape",
}
"""Part of a tensor's name → what it belongs to, and cannot be said as a sum."""


def role_of(name: str) -> tuple[str, str] | None:
    """The layer that a tensor of an adapter file is for, and what it is of that layer; None for one that is not known."""
    for role, pattern in _ROLES:
        if match := pattern.fullmatch(name):
            return match[1], role
    return None


def unknown_words(names: Iterable[str]) -> str:
    """What tensors that are not known belong to, in words, with an example."""
    first, *_ = names = sorted(names)
    kind = next((words for part, words in UNKNOWN.items() if any(part in name for name in names)), "")
    return f"{len(names)} tensors that would be left out, such as {first}" + (f" ({kind})" if kind else "")


def incomplete(roles: Iterable[str]) -> str:
    """What is wrong with these roles of a layer, in words; empty if nothing is."""
    held = set(roles)
    needed: tuple[tuple[str, ...], ...] = (("down", "up"),) if held & {"down", "up", "mid"} else ()
    if any(role.startswith("hada") for role in held):
        needed += (("hada_w1_a", "hada_w1_b"), ("hada_w2_a", "hada_w2_b"))
    if any(role.startswith("lokr") for role in held):
        needed += tuple((f"lokr_{w}",) if f"lokr_{w}" in held else (f"lokr_{w}_a", f"lokr_{w}_b") for w in ("w1", "w2"))
    if ("hada_t1" in held) != ("hada_t2" in held):
        needed += (("hada_t1", "hada_t2"),)
    methods = {role[:4] for role in held if role[:4] in ("down", "hada", "lokr")} | ({"diff"} if "diff" in held else set())
    if len(methods) > 1:
        return "names two methods"
    missing = [role for group in needed for role in group if role not in held]
    if not needed and not held & {"diff", "diff_b"}:
        return "has no matrices"
    return f"lacks {', '.join(missing)}" if missing else ""


def factors(layer: Layer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """`down`, `up`, and the bias's difference or None: the strength that the file was trained with is in `up`."""
    import torch

    if "down" in layer:
        down, up, rank = _low_rank(layer)
        return down, (up * _strength(layer, rank)).to(up.dtype), layer.get("bias", layer.get("diff_b"))
    if "hada_w1_a" in layer:
        down, up, rank = _loha(layer)
    elif any(role.startswith("lokr") for role in layer):
        down, up, rank = _lokr(layer)
    elif "diff" in layer:
        down, up = _dense(layer["diff"].float())
        rank = 0
    else:
        bias = layer["diff_b"]
        return torch.zeros(1, 0), torch.zeros(len(bias), 1), bias
    return down, up * _strength(layer, rank), layer.get("diff_b")


def _strength(layer: Layer, rank: int) -> float:
    alpha, scalar = layer.get("alpha"), layer.get("scalar")
    return (1.0 if alpha is None or rank == 0 else float(alpha) / rank) * (1.0 if scalar is None else float(scalar))


def _low_rank(layer: Layer) -> tuple[torch.Tensor, torch.Tensor, int]:
    import torch

    down, up = layer["down"], layer["up"]
    rank = int(down.shape[0])
    if "mid" in layer:
        down = torch.einsum("oikl,ic->ockl", layer["mid"], down.flatten(1))
    return down, up, rank


def _loha(layer: Layer) -> tuple[torch.Tensor, torch.Tensor, int]:
    import torch

    a1, b1, a2, b2 = (layer[f"hada_{name}"].float() for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    rank = int(b1.shape[0])
    if "hada_t1" in layer:
        one, two = (torch.einsum("ij...,jr,ip->pr...", layer[f"hada_{t}"].float(), b, a) for t, b, a in (("t1", b1, a1), ("t2", b2, a2)))
        return *_dense(one * two), rank
    if a1.shape[1] * a2.shape[1] >= min(a1.shape[0], b1.shape[1]):
        return *_dense((a1 @ b1) * (a2 @ b2)), rank
    up = torch.einsum("op,oq->opq", a1, a2).flatten(1)
    down = torch.einsum("pi,qi->pqi", b1, b2).flatten(0, 1)
    return down, up, rank


def _lokr(layer: Layer) -> tuple[torch.Tensor, torch.Tensor, int]:
    import torch

    def whole(name: str) -> torch.Tensor:
        if name in layer:
            return layer[name].float()
        a, b = layer[f"{name}_a"].float(), layer[f"{name}_b"].float()
        if name == "lokr_w2" and "lokr_t2" in layer:
            return torch.einsum("ij...,ip,jr->pr...", layer["lokr_t2"].float(), a, b)
        return a @ b

    one, two = whole("lokr_w1"), whole("lokr_w2")
    ranks = [int(layer[name].shape[1]) for name in ("lokr_w1_a", "lokr_w2_a") if name in layer]
    if "lokr_w2_a" in layer and "lokr_t2" in layer:
        ranks[-1] = int(layer["lokr_w2_a"].shape[0])
    rank = ranks[0] if ranks else 0
    low = one.shape[1] * rank < min(one.shape[0] * two.shape[0], one.shape[1] * two.shape[1])
    if low and "lokr_w2_a" in layer and "lokr_t2" not in layer:
        a, b = layer["lokr_w2_a"].float(), layer["lokr_w2_b"].float()
        return torch.kron(torch.eye(one.shape[1]), b), torch.kron(one, a), rank
    return *_dense(torch.kron(one.reshape(*one.shape, *(1,) * (two.dim() - 2)), two)), rank


def _dense(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A whole difference as two factors, one of them an identity."""
    import torch

    if change.dim() == 2 and change.shape[1] < change.shape[0]:
        return torch.eye(change.shape[1]), change
    return change, torch.eye(change.shape[0])
