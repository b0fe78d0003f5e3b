"""What the NVIDIA driver says of this process's GPU, where `nvidia-ml-py` is installed and there is one; nothing elsewhere.

Errors that only a reset or a repair ends make a renderer unfit: uncorrectable memory errors while it renders, rows that could not be
remapped, and the Xid events below. That it is throttled or has little free memory is noted, for whoever reads why it was slow or failed.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, NamedTuple

UNFIT_XIDS = {
    48: "double-bit ECC error",
    64: "row remapping failed",
    74: "NVLink error",
    79: "fell off the bus",
    95: "uncontained ECC error",
}
"""Xid events that are the hardware's (NVIDIA, XID Errors, r580); 13, 31, 43 and 45 are a program's own."""
THROTTLED = {0x8: "slowed down by the board", 0x40: "slowed down by heat", 0x80: "slowed down by its power supply"}
"""nvmlClocksEventReasons that no program asks for."""


class Vitals(NamedTuple):
    """The GPU's own id, why it is unfit, and what else it reports; empty texts for nothing."""

    device: str = ""
    trouble: str = ""
    note: str = ""


def look() -> Vitals:
    """This process's GPU, the first that torch sees. Never raises: what cannot be asked is nothing."""
    import torch

    if not torch.cuda.is_available():
        return Vitals()
    device = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    try:
        import pynvml
    except ImportError:
        return Vitals(device)
    return read(pynvml, device)


def read(nvml: Any, device: str) -> Vitals:
    """What `nvml`, the module pynvml, says of a GPU by its id."""
    troubles: list[str] = []
    notes: list[str] = []
    with contextlib.suppress(nvml.NVMLError):
        handle, events, before = _watched(nvml, device)
        count = _errors(nvml, handle) - before
        troubles += [f"{count} uncorrectable memory errors in this run"] if count > 0 else []
        for ask, found in ((_remapped, troubles), (_throttled, notes), (_memory, notes)):
            with contextlib.suppress(nvml.NVMLError):  # what this card does not know
                found += ask(nvml, handle)
        with contextlib.suppress(nvml.NVMLError):  # a time-out: nothing happened
            while True:
                xid = nvml.nvmlEventSetWait_v2(events, 0).eventData
                troubles += [f"Xid {xid}: {UNFIT_XIDS[xid]}"] if xid in UNFIT_XIDS else []
    return Vitals(device, "; ".join(troubles), "; ".join(notes))


@functools.cache
def _watched(nvml: Any, device: str) -> tuple[Any, Any, int]:
    """The GPU's handle, its Xid events from now on, and its memory errors so far, which it has survived."""
    nvml.nvmlInit()
    handle, events = nvml.nvmlDeviceGetHandleByUUID(device), nvml.nvmlEventSetCreate()
    nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
    return handle, events, _errors(nvml, handle)


def _errors(nvml: Any, handle: Any) -> int:
    """Uncorrectable memory errors since its last reset; consumer cards count none."""
    try:
        return int(nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC))
    except nvml.NVMLError:
        return 0


def _remapped(nvml: Any, handle: Any) -> list[str]:
    *_, failed = nvml.nvmlDeviceGetRemappedRows(handle)
    return ["a memory row could not be remapped"] if failed else []


def _throttled(nvml: Any, handle: Any) -> list[str]:
    reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return [words for bit, words in THROTTLED.items() if reasons & bit]


def _memory(nvml: Any, handle: Any) -> list[str]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return [f"{memory.free / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"]
