"""The watermark: 64 bits in the pixels of a picture, under a key, that survive what people do to pictures.

`embed` marks a batch on the renderer's device (torch); `read` finds the mark again without the original (numpy and
OpenCV). Importing this package costs neither: torch is imported by `embed`, OpenCV by `read`.

    types, code, pcg64, carrier (what the tile is) -> front -> detect -> search -> reader (numpy)
    carrier, front -> inform, reader -> embedder                                   (torch)
    embedder, reader, trustmark (another method, ONNX Runtime, where its weights are) -> methods

What removes the mark: regeneration by a diffusion model, strong local warps, crops to less than a quarter of the
area, other aspect ratios, rotation beyond 7.8 degrees. The key is symmetric: whoever can read a mark can forge or
erase one, so public detection must be a service, not a key handed out. Forty-four bits of a record id collide within
some ten million attempts: whoever looks one up must expect several records and decide by the PDQ hash.
"""

from __future__ import annotations

from renderfarm.watermark.carrier import supported
from renderfarm.watermark.embedder import embed
from renderfarm.watermark.methods import METHODS, Method, method
from renderfarm.watermark.reader import read
from renderfarm.watermark.types import METHOD, VERSION, VERSIONS, Geometry, MarkKey, Payload, Reading

__all__ = [
    "METHOD",
    "METHODS",
    "VERSION",
    "VERSIONS",
    "Geometry",
    "MarkKey",
    "Method",
    "Payload",
    "Reading",
    "embed",
    "method",
    "read",
    "supported",
]
