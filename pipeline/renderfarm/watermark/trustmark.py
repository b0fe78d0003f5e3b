"""TrustMark behind the same interface, where its weights lie on disk. Never a default; nothing is fetched.

Bui, Agarwal & Collomosse, "TrustMark: robust watermarking and watermark removal for arbitrary resolution images", ICCV
2025: one network adds a residual for 100 bits to a picture of 256 x 256, another reads them. Its makers export both
as ONNX (`encoder_Q.onnx`, `decoder_Q.onnx`; variants Q, P, B, C). From the pictures' side everything is done as theirs does:
values -1..1, the residual without its mean, clamped, brought to the picture's size; of a picture longer than 2:1 (P: of
any) the square in the middle is marked.

What the 100 bits say is ours: the 64 sealed bits and the first 36 parity bits of `code`, under a mask drawn from the key. On a
picture that was not marked with the key, the masked bits are therefore uniform over 2^100 words, whatever the network
says of it; 2^48 of them are valid; so some valid word lies within e bits with chance at most 2^48 V(e) / 2^100, V(e) the
words within e bits of one. `errors_max` is the largest e at which this, times keys and mirror images, is at most
FALSE_ALARM. TrustMark's own tools do not read these marks, and these do not read theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import shake_256
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from renderfarm.errors import MarkUnsupported, WeightsError
from renderfarm.watermark import carrier, code
from renderfarm.watermark.detect import FALSE_ALARM
from renderfarm.watermark.types import MESSAGE_BITS, Geometry, MarkKey, Payload, Reading, unseal

if TYPE_CHECKING:
    import torch

BITS = 100
SIDE = 256
VARIANTS = ("Q", "P", "B", "C")
RESIDUAL_MAX = 0.2  # of -1..1
ASPECT_MAX = 2.0
WAYS = 2  # as it is, and its mirror image
READ_MIN = 64  # pixels of the short side
_OTHER_FILES = "take the two files of one variant, as its makers export them"

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrustMark:
    """The two networks of one variant. Stateless; calls may come from several threads."""

    name: str
    variant: str
    encoder: Any = field(repr=False)
    decoder: Any = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> TrustMark:
        """The first variant (Q, P, B, C) whose two files lie in the folder; each is run once. Raises: WeightsError."""
        variant = next((v for v in VARIANTS if all((folder / f"{part}_{v}.onnx").is_file() for part in ("encoder", "decoder"))), None)
        if variant is None:
            wanted = "encoder_Q.onnx and decoder_Q.onnx (or of variant P, B or C)"
            raise WeightsError(f"no TrustMark weights: {wanted} are not there", str(folder), "put both there; they are never fetched")
        paths = [folder / f"{part}_{variant}.onnx" for part in ("encoder", "decoder")]
        encoder, decoder = map(_session, paths)
        _expect(encoder, paths[0], [[1, 3, SIDE, SIDE], [1, BITS]])
        _expect(decoder, paths[1], [[1, 3, None, None]])
        grey = np.zeros((1, 3, SIDE, SIDE), np.float32)
        _try(lambda: _encoded(encoder, grey, np.zeros(BITS, np.float32)), grey.size, paths[0])
        _try(lambda: _opinion(decoder, np.full((SIDE, SIDE, 3), 128, np.uint8)), BITS, paths[1])
        return cls(f"trustmark-{variant.lower()}", variant, encoder, decoder)

    @overload
    def embed(self, images: torch.Tensor, payloads: Sequence[Payload], key: MarkKey) -> torch.Tensor: ...
    @overload
    def embed(self, images: Picture, payloads: Sequence[Payload], key: MarkKey) -> Picture: ...
    def embed(self, images: torch.Tensor | Picture, payloads: Sequence[Payload], key: MarkKey) -> torch.Tensor | Picture:
        """As `renderfarm.watermark.embed`, one picture after the other, on the CPU.

        Raises: MarkUnsupported when the short side is below 256 pixels, or when a picture's mark does not read back.
        """
        if not isinstance(images, np.ndarray):
            import torch

            return torch.from_numpy(self.embed(images.cpu().numpy(), payloads, key)).to(images.device)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"embed takes uint8 (B, H, W, 3), not {images.dtype} {images.shape}")
        if len(payloads) != len(images):
            raise ValueError(f"{len(images)} pictures but {len(payloads)} payloads")
        height, width = images.shape[1:3]
        if not carrier.supported(width, height):
            raise MarkUnsupported(f"{width}x{height}: a mark needs a short side of at least {carrier.SHORT_SIDE_MIN} pixels")
        out = images.copy()
        for at, payload in enumerate(payloads):
            self._mark(out[at], payload, key)
            if self.read(out[at], [key]).payload != payload:
                which = f"picture {at} of the batch" if len(payloads) > 1 else "the picture"
                raise MarkUnsupported(f"{which} does not hold a TrustMark that reads back")
        return out

    def read(self, image: Picture, keys: Sequence[MarkKey], *, search: Literal["fast", "full"] = "full") -> Reading:
        """As `renderfarm.watermark.read`. There is no search: the network copes with what it copes with."""
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
            raise ValueError(f"a picture to read is uint8 (H, W), (H, W, 3) or (H, W, 4), not {image.dtype} {image.shape}")
        if image.ndim == 2 or image.shape[2] == 1:
            image = np.repeat(image.reshape(*image.shape[:2], 1), 3, 2)
        if keys and min(image.shape[:2]) >= READ_MIN:
            square = image[self._part(image)][..., :3]
            limit = errors_max(len(keys))
            for flipped in (False, True):
                soft = self._decoded(square[:, ::-1] if flipped else square)
                for key in keys:
                    nearest = _nearest(soft, key)
                    if nearest is not None and nearest[1] <= limit:
                        confidence = 1 - chance(nearest[1], len(keys)) / FALSE_ALARM / 2
                        return Reading(True, nearest[0], key.key_id, confidence, Geometry(1.0, 0.0, flipped, (0.0, 0.0)), FALSE_ALARM)
        return Reading(False, None, None, 0.0, None, FALSE_ALARM)

    def _part(self, image: Picture) -> tuple[slice, slice]:
        """The rows and columns that are marked: all, or the square in the middle."""
        height, width = image.shape[:2]
        if self.variant != "P" and max(height, width) <= ASPECT_MAX * min(height, width):
            return slice(None), slice(None)
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return slice(top, top + side), slice(left, left + side)

    def _mark(self, image: Picture, payload: Payload, key: MarkKey) -> None:
        """Marks one picture in place. image: uint8 (H, W, 3)."""
        import cv2

        part = image[self._part(image)]
        cover = _resized(part, SIDE)
        bits = (code.encode(payload.sealed(key))[:BITS] ^ _mask(key)).astype(np.float32)
        residual = (np.clip(_encoded(self.encoder, cover, bits), -1, 1) - cover)[0]
        residual -= residual.mean((1, 2), keepdims=True)
        strength = 1.25 if self.variant == "P" else 1.0
        change = np.clip(strength * residual, -RESIDUAL_MAX, RESIDUAL_MAX).transpose(1, 2, 0) * 127.5
        change = cv2.resize(np.ascontiguousarray(change, np.float32), (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR)
        part[...] = np.clip(np.rint(part + change), 0, 255).astype(np.uint8)

    def _decoded(self, image: Picture) -> Floats:
        """float32 (100,): the network's opinion of each bit, positive = 1. image: uint8 (h, w, 3)."""
        return _opinion(self.decoder, image).reshape(BITS)


def chance(errors: int, keys: int) -> float:
    """The most that some valid word lies within `errors` bits of an unmarked picture's, over keys and mirror images."""
    return keys * WAYS * sum(comb(BITS, i) for i in range(errors + 1)) * 2.0 ** (MESSAGE_BITS - BITS)


def errors_max(keys: int) -> int:
    """Wrong bits of 100 that are forgiven (module's text): 5 for one or two keys, 4 for up to fifty-five; -1 where none can be."""
    return max((e for e in range(BITS) if chance(e, keys) <= FALSE_ALARM), default=-1)


def _mask(key: MarkKey) -> NDArray[np.uint8]:
    """uint8 (100,) of 0 and 1: what hides the bits from whoever lacks the key."""
    return np.unpackbits(np.frombuffer(shake_256(key.derive("trustmark")).digest(BITS // 8 + 1), np.uint8))[:BITS]


def _nearest(soft: Floats, key: MarkKey) -> tuple[Payload, int] | None:
    """The valid word (HMAC) with the fewest wrong bits, and their number. soft: float32 (100,), positive = 1."""
    mask = _mask(key)
    hard = (soft > 0).astype(np.uint8) ^ mask
    values = np.zeros(code.N, np.float32)  # the parity bits that are not sent are unknown
    values[:BITS] = -soft * (1.0 - 2.0 * mask)
    best: tuple[Payload, int] | None = None
    for candidate in code.candidates(values, order=3):
        payload = unseal(np.packbits(candidate[: code.K]).tobytes(), key)
        errors = int((candidate[:BITS] != hard).sum())
        if payload is not None and (best is None or errors < best[1]):
            best = payload, errors
    return best


def _resized(image: Picture, side: int) -> Floats:
    """float32 (1, 3, side, side), -1..1."""
    from PIL import Image

    small = Image.fromarray(np.ascontiguousarray(image)).resize((side, side), Image.Resampling.BILINEAR)
    return np.ascontiguousarray((np.asarray(small, np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])


def _encoded(encoder: Any, cover: Floats, bits: Floats) -> Floats:
    """The marked picture as the network gives it. cover: float32 (1, 3, 256, 256), -1..1; bits: float32 (100,) of 0 and 1."""
    names = [network_input.name for network_input in encoder.get_inputs()]
    return np.asarray(encoder.run(None, dict(zip(names, (cover, bits[None]), strict=True)))[0], np.float32)


def _opinion(decoder: Any, image: Picture) -> Floats:
    """What the network answers to a picture, uint8 (h, w, 3)."""
    (network_input,) = decoder.get_inputs()
    side = network_input.shape[2] if isinstance(network_input.shape[2], int) else SIDE
    return np.asarray(decoder.run(None, {network_input.name: _resized(image, side)})[0], np.float32)


def _try(run: Callable[[], Floats], size: int, path: Path) -> None:
    """Runs a network once. Raises: WeightsError where it fails, or does not answer with `size` finite numbers."""
    try:
        answer = run()
    except Exception as error:  # the runtime's classes have no common base; whatever it was, the network does not run
        raise WeightsError("no TrustMark network: it does not run", str(path), _OTHER_FILES) from error
    if answer.size != size or not np.isfinite(answer).all():
        what = f"no TrustMark network: it answers with {list(answer.shape)} numbers, not {size} finite ones"
        raise WeightsError(what, str(path), _OTHER_FILES)


def _session(path: Path) -> Any:
    """The network, on one thread of the CPU. Raises: WeightsError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's classes have no common base; whatever it was, the file is not usable
        raise WeightsError("not a network that ONNX Runtime loads", str(path), "export or copy it again") from error


def _expect(session: Any, path: Path, wanted: list[list[int | None]]) -> None:
    """Raises: WeightsError where the network's inputs have other shapes."""
    shapes = [cast(list[Any], network_input.shape) for network_input in session.get_inputs()]
    fits = len(shapes) == len(wanted) and all(
        len(have) == len(want) and all(w is None or not isinstance(h, int) or h == w for h, w in zip(have, want, strict=True))
        for have, want in zip(shapes, wanted, strict=True)
    )
    if not fits:
        raise WeightsError(f"no TrustMark network: it takes {shapes}", str(path), _OTHER_FILES)
