"""Cutting work into batches that fit into memory. Pure: what renders a batch is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class DoesNotFit(Exception):
    """Not even one item fits into memory. Raised from the allocator's own error."""


_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What c10/core/CPUAllocator.cpp writes; the driver, when a neighbour on the GPU took what was left; and cuBLAS and cuDNN, when there is
no room for their workspace."""


def out_of_memory(error: BaseException) -> bool:
    """Says whether an allocator gave up: PyTorch's for CUDA by its type, the others by what they write."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    return type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in _NO_MEMORY)


def in_fitting_batches(
    items: Sequence[Item], limit: int, render: Callable[[Sequence[Item]], Result]
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Yields (batch, what `render` made of it) over `items` in order, in batches of at most `limit`.

    A batch that does not fit is cut in half and tried again, and later ones are not larger than what fitted. Every item
    is in exactly one yielded batch. Raises DoesNotFit when one item alone does not fit; other errors of `render` pass
    through.
    """
    assert limit >= 1, limit
    start = 0
    while start < len(items):
        batch = items[start : start + limit]
        try:
            result = render(batch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise DoesNotFit(str(error)) from error
            limit = len(batch) // 2
            continue  # outside the except clause the failed batch's tensors are free
        yield batch, result
        start += len(batch)
