"""The watermark: 64 bits in the pixels of a picture, under a key, that survive what people do to pictures.

`embed` marks a batch on the renderer's device (torch); `read` finds the mark again without the original (numpy and
OpenCV). Importing this package costs neither: torch is imported by `embed`, OpenCV by `read`.
"""

from __future__ import annotations

from pipeline.watermark.carrier import supported
from pipeline.watermark.embedder import embed
from pipeline.watermark.pictures import load_picture
from pipeline.watermark.reader import read
from pipeline.watermark.types import METHOD, VERSION, Geometry, MarkKey, Payload, Reading, Unsupported

__all__ = [
    "METHOD",
    "VERSION",
    "Geometry",
    "MarkKey",
    "Payload",
    "Reading",
    "Unsupported",
    "embed",
    "load_picture",
    "read",
    "supported",
]
