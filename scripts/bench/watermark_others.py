"""The other methods that `watermark.py` measures beside ours, where they are installed: in the same words, bits in and bits out.

pip install --no-deps invisible-watermark blind-watermark PyWavelets
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Bits = NDArray[np.int64]
Method = tuple[Callable[[Picture, Bits], Picture], Callable[[Picture, int], Bits], int]


@cache
def competitors() -> dict[str, Method]:
    """(embed, read, bits) of each other method that is installed."""
    out: dict[str, Method] = {}
    try:
        from imwatermark import WatermarkDecoder, WatermarkEncoder
    except ImportError:
        print("invisible-watermark is not installed: left out", file=sys.stderr)
    else:

        def invisible(name: str, bits: int) -> Method:
            if name == "rivaGan":
                WatermarkEncoder.loadModel()
                WatermarkDecoder.loadModel()

            def put(picture: Picture, word: Bits) -> Picture:
                encoder = WatermarkEncoder()
                encoder.set_watermark("bits", [int(b) for b in word])
                return np.asarray(encoder.encode(np.ascontiguousarray(picture[..., ::-1]), name)[..., ::-1], np.uint8)

            def get(picture: Picture, n: int) -> Bits:
                word = WatermarkDecoder("bits", n).decode(np.ascontiguousarray(picture[..., ::-1]), name)
                return np.asarray(word).astype(np.int64)

            return put, get, bits

        out |= {"dwtDct": invisible("dwtDct", 64), "dwtDctSvd": invisible("dwtDctSvd", 64), "rivaGan": invisible("rivaGan", 32)}
    try:
        from blind_watermark import WaterMark, bw_notes
    except ImportError:
        print("blind-watermark is not installed: left out", file=sys.stderr)
    else:
        bw_notes.close()

        def put(picture: Picture, word: Bits) -> Picture:
            tool = WaterMark(password_img=1, password_wm=1)
            tool.read_img(img=np.ascontiguousarray(picture[..., ::-1]))
            tool.read_wm([bool(b) for b in word], mode="bit")
            marked: Picture = np.clip(np.round(tool.embed()[..., ::-1]), 0, 255).astype(np.uint8)
            return marked

        def get(picture: Picture, n: int) -> Bits:
            tool = WaterMark(password_img=1, password_wm=1)
            read: Bits = np.asarray(tool.extract(embed_img=picture[..., ::-1].astype(np.float32), wm_shape=n, mode="bit") > 0.5, np.int64)
            return read

        out["blind-watermark"] = (put, get, 64)
    return out
