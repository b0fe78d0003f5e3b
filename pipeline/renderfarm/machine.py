"""What this process may use of its machine: cores, memory and GPUs, with the limits of its container. Imports no torch.

Limits are those of Linux control groups, version 2 (`cpu.max`, `memory.max`) and 1: a process's own group and those around it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from renderfarm import processes
from renderfarm.logs import get_logger

log = get_logger()

GPU_NODES = ("nvidia*", "nvmap", "nvhost*", "dxg", "kfd")
"""Below /dev: NVIDIA's drivers, Jetson's, WSL2's, and AMD's. Without one of them no torch finds a GPU, and none is started to ask."""


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may use, at least 1; a share of one counts as one."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu", root):
        quota, period = [*_words(group / "cpu.max"), *_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us"), "", ""][:2]
        if quota.isdigit() and period.isdigit():  # else `max`, or -1
            found = min(found, -(-int(quota) // int(period)))
    return max(1, found)


def free_bytes(root: Path = Path("/")) -> int | None:
    """Memory that this process can still get; None where nothing says so. A group's file cache that nobody uses counts as free."""
    sizes = [int(words[1]) * 1024 for words in _table(root / "proc/meminfo") if words[0] == "MemAvailable:"]
    for group in _groups("memory", root):
        limit, used = [*_words(group / "memory.max"), *_words(group / "memory.limit_in_bytes"), ""][0], _words(group / "memory.current")
        cached = [int(words[1]) for words in _table(group / "memory.stat") if words[0] in ("inactive_file", "total_inactive_file")]
        if limit.isdigit():
            taken = int([*used, *_words(group / "memory.usage_in_bytes"), "0"][0])
            sizes.append(max(0, int(limit) - taken + max(cached, default=0)))
    return min(sizes, default=None)


def gpus(root: Path = Path("/")) -> tuple[str, ...]:
    """GPUs that this process may use, each as CUDA_VISIBLE_DEVICES of a child names it.

    Without asking CUDA where NVIDIA's driver lists them; else a child of ours asks torch (WSL2, Jetson, AMD).
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.partition("-1")[0].split(",") if name.strip())  # CUDA ends the list at -1
    listed = root / "proc/driver/nvidia/gpus"
    if listed.is_dir():
        return tuple(str(at) for at in range(len(list(listed.iterdir()))))
    if not any(any((root / "dev").glob(name)) for name in GPU_NODES):
        return ()
    child = processes.start(processes.__name__)
    try:
        child.pipe.send((_count, None))
        return tuple(str(at) for at in range(processes.answer_of(child)))
    except (RuntimeError, ImportError) as error:
        log.warning("gpus.unknown", reason=str(error), remedy="set CUDA_VISIBLE_DEVICES, or model.device: cpu")
        return ()
    finally:
        child.end()


def identity(name: str, root: Path = Path("/")) -> str:
    """One name of a GPU on this machine, its place on the bus, whether it is called by its number or its UUID; else the name itself."""
    listed = root / "proc/driver/nvidia/gpus"
    cards = sorted(listed.iterdir()) if listed.is_dir() else []
    if name.isdigit() and int(name) < len(cards):
        return cards[int(name)].name
    for card in cards:
        if any(words[:2] == ["GPU", "UUID:"] and words[2].startswith(name) for words in _table(card / "information")):
            return card.name
    return name


def _count(nothing: None) -> int:
    import torch

    return torch.cuda.device_count()


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control groups, its own first."""
    for words in _table(root / "proc/self/cgroup"):
        _, names, path = [*" ".join(words).split(":", 2), "", ""][:3]
        if not names or controller in names.split(","):
            base = root / "sys/fs/cgroup" / (controller if names else "")
            group = base / path.lstrip("/")
            yield from (place for place in (group, *group.parents) if place.is_relative_to(base))


def _table(path: Path) -> list[list[str]]:
    """The words of each line; none where it cannot be read."""
    try:
        return [words for line in path.read_text().splitlines() if (words := line.split())]
    except (OSError, ValueError):
        return []


def _words(path: Path) -> list[str]:
    return next(iter(_table(path)), [])
