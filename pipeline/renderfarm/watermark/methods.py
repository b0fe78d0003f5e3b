"""The methods a picture can be marked by, behind one interface. The tile is the default and needs no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from renderfarm.errors import UserError
from renderfarm.watermark import embedder, reader
from renderfarm.watermark.types import METHOD, MarkKey, Payload, Reading

TRUSTMARK = "trustmark"
METHODS = (METHOD, TRUSTMARK)


class Method(Protocol):
    """`embed` and `read` as the package's functions of these names."""

    @property
    def name(self) -> str: ...

    def embed(self, images: NDArray[np.uint8], payloads: Sequence[Payload], key: MarkKey) -> NDArray[np.uint8]: ...

    def read(self, image: NDArray[np.uint8], keys: Sequence[MarkKey], *, search: Literal["fast", "full"] = "full") -> Reading: ...


@dataclass(frozen=True, slots=True)
class Tile:
    """The package's own method."""

    name: str = METHOD

    def embed(self, images: NDArray[np.uint8], payloads: Sequence[Payload], key: MarkKey) -> NDArray[np.uint8]:
        """`renderfarm.watermark.embed`."""
        return embedder.embed(images, payloads, key)

    def read(self, image: NDArray[np.uint8], keys: Sequence[MarkKey], *, search: Literal["fast", "full"] = "full") -> Reading:
        """`renderfarm.watermark.read`."""
        return reader.read(image, keys, search=search)


def method(name: str = METHOD, weights: Path | None = None) -> Method:
    """The method of this name, with the weights of a folder where it needs some. Raises: UserError, WeightsError."""
    if name == METHOD:
        if weights is not None:
            raise UserError(f"{METHOD} has no weights", str(weights), f"leave them out, or choose {TRUSTMARK}")
        return Tile()
    if name != TRUSTMARK:
        raise UserError(f"there is no watermark method {name!r}", remedy=f"choose one of {', '.join(METHODS)}")
    if weights is None:
        raise UserError(f"{TRUSTMARK} needs its weights", remedy="name the folder that holds encoder_Q.onnx and decoder_Q.onnx")
    from renderfarm.watermark.trustmark import TrustMark

    return TrustMark.load(weights)
