"""Which work may overlap, and on which CUDA stream it runs. On the CPU there are no streams, and the same code runs without them.

Two threads may render at a time:

    ahead           encodes the next batch's prompts, on a stream of its own
    under `turn`    denoises, one batch at a time, on the device's default stream
    behind          decodes, marks and copies to the host, on a stream of its own, while the next batch denoises

Where one stream takes over from another it waits for an event. Memory that crosses is recorded on the stream that uses it
(`Tensor.record_stream`): else the allocator gives it away too early. Where sub-models move (offload) or adapters switch nothing overlaps,
and a whole batch holds `turn`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch


class Lanes:
    """The streams of one renderer. `alone`: nothing overlaps."""

    def __init__(self, device: torch.device, *, alone: bool) -> None:
        side = device.type == "cuda" and not alone
        self._ahead = _stream(device) if side else None
        self._behind = _stream(device) if side else None
        self._alone = alone
        self.turn = threading.RLock()

    def batch(self) -> AbstractContextManager[object]:
        """Around all work on one batch."""
        return self.turn if self._alone else nullcontext()

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Around text encoding; what follows on the default stream waits for it."""
        if self._ahead is None:
            yield
            return
        with torch.cuda.stream(self._ahead):
            yield
        torch.cuda.current_stream().wait_stream(self._ahead)

    def used_by_denoiser(self, tensors: Iterable[torch.Tensor]) -> None:
        """Says that the default stream, which denoises, uses tensors that were made `ahead`."""
        if self._ahead is not None:
            for tensor in tensors:
                tensor.record_stream(torch.cuda.current_stream())

    def denoised(self) -> torch.cuda.Event | None:
        """Returns what `behind` waits for; called under `turn`, so that no later batch's work is in front of it."""
        return None if self._behind is None else torch.cuda.current_stream().record_event()

    @contextmanager
    def behind(self, after: torch.cuda.Event | None = None, takes: Iterable[torch.Tensor] = ()) -> Iterator[None]:
        """Around decoding, mark and copy: waits for `after`, uses the tensors `takes` of the default stream."""
        if self._behind is None:
            yield
            return
        with torch.cuda.stream(self._behind):
            if after is not None:
                self._behind.wait_event(after)
            for tensor in takes:
                tensor.record_stream(self._behind)
            yield

    def to_host(self, tensor: torch.Tensor) -> np.ndarray:
        """Returns the tensor's values, copied through pinned memory; waits for this copy alone. Called inside `behind`."""
        if self._behind is None:
            return tensor.cpu().numpy()
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned.copy_(tensor, non_blocking=True)
        self._behind.record_event().synchronize()
        return pinned.numpy()


def _stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)
    return stream
