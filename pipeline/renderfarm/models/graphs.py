"""CUDA graphs of a denoiser: the kernels of one step are recorded once for each bucket, and launched together from then on.

A bucket is what the kernels depend on: shapes, types and everything that is no tensor. Inputs are copied into the memory that the
recording reads, outputs out of the memory that it writes. Recorded by hand and not by `torch.compile(mode="reduce-overhead")`, whose
graphs belong to one thread, where two render here by turns; so it works with and without compiled code. What cannot be recorded runs as it
would have run. Which work is recorded how is an argument, so that all but CUDA itself is tested without a GPU.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

Work = Callable[[], Any]
Record = Callable[[Work], tuple[Callable[[], object], Any]]
"""Takes work that reads and writes fixed memory; returns what repeats it, and what it gave, which each repeat writes anew.

Raises RuntimeError for work that cannot be recorded."""

RECORDINGS_MAX = 8
"""Buckets remembered, the least recently used dropped first: each holds its inputs and outputs, all share one pool for the rest."""

WARM_UP = 3
"""Runs before recording (PyTorch, "CUDA semantics: graph memory management"): libraries choose kernels and take their work space."""


@dataclass(slots=True)
class Recording:
    """One bucket's graph: where its inputs are read, what repeats it, where its outputs appear."""

    inputs: list[torch.Tensor]
    repeat: Callable[[], object]
    outputs: Any


class Graphed:
    """A denoiser's forward that repeats recordings. One call at a time (`render.lanes.Lanes.turn`)."""

    def __init__(self, forward: Callable[..., Any], record: Record, device: torch.device) -> None:
        self.forward, self.record, self.device = forward, record, device
        self.recordings: OrderedDict[object, Recording] = OrderedDict()
        self.refused: set[object] = set()

    def __call__(self, *args: Any, **options: Any) -> Any:
        leaves, form = tree_flatten((args, options))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        bucket = self._bucket(leaves, str(form))
        if bucket is None or bucket in self.refused:
            return self.forward(*args, **options)
        recording = self.recordings.get(bucket) or self._recorded(bucket, leaves, tensors, form)
        if recording is None:
            return self.forward(*args, **options)
        self.recordings.move_to_end(bucket)
        for place, tensor in zip(recording.inputs, tensors, strict=True):
            place.copy_(tensor)
        recording.repeat()
        return tree_map_only(torch.Tensor, torch.clone, recording.outputs)

    def _bucket(self, leaves: list[Any], form: str) -> object:
        """Returns what calls that share a recording have in common; None for a call that can have none."""
        parts: list[object] = [form]
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                if leaf.device != self.device:
                    return None
                parts.append((leaf.shape, leaf.dtype))
            elif leaf is None or isinstance(leaf, bool | int | float | str):
                parts.append((type(leaf), leaf))
            else:
                return None
        return tuple(parts)

    def _recorded(self, bucket: object, leaves: list[Any], tensors: list[torch.Tensor], form: Any) -> Recording | None:
        """Records a bucket; None, and never tried again, when that cannot be done. Raises what an allocator raises."""
        while len(self.recordings) >= RECORDINGS_MAX:
            self.recordings.popitem(last=False)
        inputs = [torch.empty_like(tensor).copy_(tensor) for tensor in tensors]
        places = iter(inputs)
        args, options = tree_unflatten([next(places) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], form)
        try:
            repeat, outputs = self.record(lambda: self.forward(*args, **options))
        except RuntimeError as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                self.recordings.clear()
                raise
            self.refused.add(bucket)
            return None
        recording = self.recordings[bucket] = Recording(inputs, repeat, outputs)
        return recording


class CudaRecorder:
    """Records on a stream of its own, into one pool of memory. Other threads may use the GPU meanwhile."""

    def __init__(self, device: torch.device) -> None:
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._stream: Any = torch.cuda.Stream(device)

    def __call__(self, work: Work) -> tuple[Callable[[], object], Any]:
        """See `Record`. The stream that was current is so again, whatever fails."""
        current, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP):
                    work()
            current.wait_stream(self._stream)
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                outputs = work()
        finally:
            torch.cuda.set_stream(current)
        return graph.replay, outputs


def record_denoiser(denoiser: Any, device: torch.device) -> None:
    """Makes the denoiser repeat recordings of its steps on this CUDA device."""
    denoiser.forward = Graphed(denoiser.forward, CudaRecorder(device), device)
