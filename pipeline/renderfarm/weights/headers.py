"""Headers of .safetensors files (safetensors README, "Format"): 8 bytes little-endian length, then JSON; read within bounds and believed
only where they agree with themselves and the file.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from renderfarm.errors import WeightsError

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
HEADER_BYTES_MAX = 100_000_000
"""The format's own limit."""

BITS: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Number format → bits of a number."""

_PACKING = re.compile(
    r"(.*\.)?(scale_weight|weight_scale(_2|_inv)?|scale_input|input_scale|scaled_fp8|comfy_quant|"
    r"q(weight|zeros)|absmax|quant_map|quant_state\..*|.*\.(absmax|quant_map|quant_state\..*))"
)
"""Names of tensors by which the others would have to be multiplied or unpacked: ComfyUI's scaled fp8, GPTQ, AWQ, bitsandbytes."""

_NUMBERS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
"""Types whose values are the weights themselves; diffusers converts each to the type that is asked for."""

Header = dict[str, dict[str, Any]]


def pickle_error(path: Path) -> WeightsError:
    """Returns the error for weights that are a pickle."""
    return WeightsError(
        "the weights are a pickle, which can run any code when it is opened",
        str(path),
        "use the .safetensors version, or convert it on a machine you can lose: pipe.save_pretrained(folder, safe_serialization=True)",
    )


def header_of(path: Path, where: str, setting: str) -> Header:
    """The header of a file of weights that a job names: `where`, as errors call it, by its `setting`.

    Raises WeightsError: a pickle, not there, damaged, quantised."""
    if path.suffix in PICKLES:
        raise pickle_error(path)
    if not path.is_file():
        raise WeightsError(f"{where}: there is no such file", str(path), f"check {setting}")
    check_safetensors(path)
    return read_header(path)


def gguf_error(path: Path) -> WeightsError:
    """Returns the error for weights that are packed in blocks."""
    what = "this is a GGUF file, whose numbers are packed in blocks that renderfarm does not unpack"
    return WeightsError(what, str(path), "use the .safetensors version")


def check_safetensors(path: Path, *, packed: bool = False) -> int:
    """Returns how many numbers a .safetensors file holds. `packed`: a library unpacks them.

    Raises WeightsError when header and size do not fit, or the numbers are not the weights and nothing would unpack them.
    """
    named = {name: entry for name, entry in read_header(path).items() if name != "__metadata__"}
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    if wrong := _disagreement(named):
        raise WeightsError(f"the header is not to be believed: {wrong}", str(path), "download it again")
    for name, entry in () if packed else sorted(named.items()):
        if _PACKING.fullmatch(name) or (name.endswith("weight") and entry["dtype"] not in _NUMBERS):
            what = f"the weights are quantised ({name}, {entry['dtype']}), and diffusers would take the packed numbers for weights"
            raise WeightsError(what, str(path), "use the version in bf16, fp16 or plain fp8")
    expected = 8 + length + max((entry["data_offsets"][1] for entry in named.values()), default=0)
    size = path.stat().st_size
    if size != expected:
        raise WeightsError(f"the file has {size} bytes where its header says {expected}", str(path), "download it again")
    return sum(math.prod(entry["shape"]) for entry in named.values())


def _disagreement(named: Header) -> str:
    """What a header says that cannot be, in words; empty if nothing: each tensor as long as its shape, one behind the other."""
    at = 0
    spans = []
    for name, entry in named.items():
        shape, offsets, kind = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            return f"tensor {name!r} has no shape"
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(place) is int and place >= 0 for place in offsets):
            return f"tensor {name!r} has no place"
        if not isinstance(kind, str) or kind not in BITS:
            return f"tensor {name!r} has no number format that is known ({str(kind)[:20]})"
        if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * BITS[kind]:
            return f"tensor {name!r} is of another length than its shape"
        spans.append((offsets[0], offsets[1], name))
    for start, end, name in sorted(spans):
        if start != at:
            return f"tensor {name!r} does not lie where the one before it ends"
        at = end
    return ""


def read_header(path: Path) -> Header:
    """Returns the header of a .safetensors file: tensor name → dtype, shape, data_offsets, as it says them. Raises WeightsError if it
    has none."""
    with path.open("rb") as file:
        start = file.read(9)  # the length, whose low bytes may be any, and the brace that the format wants behind it
        length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else HEADER_BYTES_MAX + 1
        own = length <= HEADER_BYTES_MAX and start[8:] == b"{"
        if not own and start.startswith((b"PK", b"\x80")):
            raise pickle_error(path)
        if start.startswith(b"GGUF"):
            raise gguf_error(path)
        text = start[8:] + file.read(length - 1) if own else b""
    try:
        header = json.loads(text)
        if not isinstance(header, dict):
            raise ValueError("no object")
        return {str(name): {"shape": [], "data_offsets": [0, 0], **entry} for name, entry in header.items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError("this is no .safetensors file, or it is cut off", str(path), "download it again") from error
