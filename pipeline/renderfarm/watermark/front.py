"""The reader's front end: a picture becomes two spectra on the tile's lattice. Depends on no key.

Twice the picture is brought to canonical size, whitened (its local mean taken away, its local strength evened out) and transformed:

    luminance   survives JPEG best
    colours     the combination of the channels that says least about the picture. In a small neighbourhood the colours of most pictures
                lie near a line (Levin, Lischinski & Weiss, "A closed-form solution to natural image matting", CVPR 2006). The mark's
                colour does not lie along it, so across that line there is little picture and much mark, even in a quarter of a busy one

Everything here is a function of the picture alone. The false-alarm bound of `detect` rests on that: on a picture that was not marked with
the key, every number computed here is independent of the key's phases.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from renderfarm.watermark import carrier

FLOOR = 1.2  # grey levels of local deviation below which a neighbourhood is not amplified further
CLIP = 2.5
ROUNDING = 4.0  # how far above the rounding noise a ring must be to count in full
LOW_RADIUS = 14.0
HIGH_PASS_SIGMA = 6.0
ENERGY_BOX = 17

PLANES = 2  # luminance and colours
COLOUR_CELL, COLOUR_BOX = 4, 5  # local means of colours: canonical pixels a cell, cells a box
COLOUR_NOISE = 0.3  # grey levels^2 in each channel, beside the picture: rounding and a little more

Floats = NDArray[np.float32]
Complex = NDArray[np.complex64]


def luminance(image: NDArray[np.uint8]) -> Floats:
    """float32 (h, w), 0..255: the canonical luminance of uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) sRGB; no alpha.

    Raises: ValueError for any other shape or dtype.
    """
    import cv2

    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ValueError(f"a picture to read is uint8 (H, W), (H, W, 3) or (H, W, 4), not {image.dtype} {image.shape}")
    if image.ndim == 3 and image.shape[2] > 1:
        code = cv2.COLOR_RGB2GRAY if image.shape[2] == 3 else cv2.COLOR_RGBA2GRAY
        image = np.asarray(cv2.cvtColor(np.ascontiguousarray(image), code), np.uint8)
    return canonical(image.reshape(image.shape[:2]).astype(np.float32))


def colours(image: NDArray[np.uint8]) -> Floats | None:
    """float32 (h, w, 3), 0..255: the canonical colours of a picture that `luminance` takes; None where it has none."""
    if image.ndim == 2 or image.shape[2] == 1:
        return None
    return canonical(np.ascontiguousarray(image[..., :3]).astype(np.float32))


def canonical(plane: Floats) -> Floats:
    """float32 (h, w) or (h, w, 3): the plane resized, aspect kept, to an area of CANONICAL^2."""
    import cv2

    height, width = plane.shape[:2]
    scale = carrier.canonical_scale(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    if size == (width, height):
        return plane
    out = cv2.resize(plane, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return np.asarray(out, np.float32)


def warp(plane: Floats, scale: float, rotation_deg: float, flipped: bool) -> Floats:
    """float32: the canonical plane brought back to the marked picture's canonical grid, centre on centre."""
    import cv2

    if flipped:
        plane = np.ascontiguousarray(plane[:, ::-1])
    if scale == 1 and rotation_deg == 0:
        return plane
    height, width = plane.shape[:2]
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -rotation_deg, scale)
    matrix[0, 2] += (size[0] - width) / 2
    matrix[1, 2] += (size[1] - height) / 2
    return np.asarray(cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def whiten(plane: Floats) -> tuple[Floats, float]:
    """float32 (h, w): the high-passed plane over its local deviation, clipped: no edge outvotes the rest.

    Also the variance that rounding to 8 bits leaves in each of its pixels, when picture and canonical grid are one size.
    """
    import cv2

    high = plane - cv2.GaussianBlur(plane, (0, 0), HIGH_PASS_SIGMA)
    if plane.ndim == 3:
        return _residual(high)
    energy = cv2.blur(high * high, (ENERGY_BOX, ENERGY_BOX))
    gain = 1 / (np.sqrt(np.maximum(energy, 0)) + FLOOR)
    white = np.asarray(np.clip(high * gain, -CLIP, CLIP), np.float32)
    return white, float(np.mean(gain * gain)) / 12


def _residual(high: Floats) -> tuple[Floats, float]:
    """float32 (h, w): the channels' combination w that shows the mark best, C w = CHANNEL_GAIN by the local covariance C.

    At unit local deviation, clipped, with the variance of its rounding, as `whiten`. high: float32 (h, w, 3).
    """
    import cv2

    red, green, blue = cv2.split(high)
    height, width = red.shape
    coarse = (max(8, width // COLOUR_CELL), max(8, height // COLOUR_CELL))

    def local(product: Floats) -> Floats:
        cells = cv2.resize(product, coarse, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.blur(cells, (COLOUR_BOX, COLOUR_BOX)), np.float32)

    rr, gg, bb = (local(c * c) + np.float32(COLOUR_NOISE) for c in (red, green, blue))
    rg, gb, rb = local(red * green), local(green * blue), local(red * blue)
    r, g, b = carrier.CHANNEL_GAIN
    crossed_rg, crossed_gb, crossed_rb = rb * gb - rg * bb, rb * rg - rr * gb, rg * gb - rb * gg  # cofactors
    x = (gg * bb - gb * gb) * r + crossed_rg * g + crossed_rb * b
    y = crossed_rg * r + (rr * bb - rb * rb) * g + crossed_gb * b
    z = crossed_rb * r + crossed_gb * g + (rr * gg - rg * rg) * b
    power = x * x * rr + y * y * gg + z * z * bb + 2 * (x * y * rg + y * z * gb + x * z * rb)
    gain = 1 / np.sqrt(np.maximum(power, 1e-12))
    rounding = float(np.mean((x * x + y * y + z * z) * gain * gain)) / 12
    shares = (cv2.resize(w * gain, (width, height), interpolation=cv2.INTER_LINEAR) for w in (x, y, z))
    white = sum(channel * share for channel, share in zip((red, green, blue), shares, strict=True))
    return np.asarray(np.clip(white, -CLIP, CLIP), np.float32), rounding


def lattice_spectrum(white: Floats, rounding: float) -> Complex:
    """complex64 (n,): the transform at the lattice's frequencies, phases relative to the centre, balanced by ring."""
    tile, grid = carrier.TILE, carrier.lattice()
    height, width = white.shape
    rows, columns = -(-height // tile), -(-width // tile)
    padded = np.zeros((rows * tile, columns * tile), np.float32)
    padded[:height, :width] = white
    folded = padded.reshape(rows, tile, columns, tile).sum((0, 2))
    spectrum = np.fft.rfft2(folded)[grid.ky % tile, grid.kx]
    return balance((spectrum * centre_ramp(height, width)).astype(np.complex64), rounding * white.size)


def centre_ramp(height: int, width: int) -> Complex:
    """complex64 (n,): moves the phase reference from the top left pixel to the centre."""
    grid = carrier.lattice()
    ramp = np.exp(1j * np.pi * (grid.ky * (height - 1) + grid.kx * (width - 1)) / carrier.TILE)
    return np.asarray(ramp, np.complex64)


def balance(spectrum: Complex, noise: float) -> Complex:
    """Divides by the ring's root mean square, then by the root of what remains: strong lines count less.

    `noise` is the power that rounding leaves at each line; rings that hold little else count for little.
    """
    grid = carrier.lattice()
    ring = grid.radius.astype(np.int64)
    power = np.abs(spectrum) ** 2
    mean = np.bincount(ring, power) / np.maximum(np.bincount(ring), 1)
    out = spectrum / np.sqrt(mean[ring] + ROUNDING * noise + 1e-12)
    return np.asarray(out / np.sqrt(np.abs(out) + 0.05), np.complex64)


@cache
def views() -> Floats:
    """float32 (2, n): how much each frequency is believed before anything is known: by its amplitude; or low radii alone.

    Blur, and JPEG on small pictures, leave nothing but the low radii; a second view finds these marks.
    """
    grid = carrier.lattice()
    even = grid.amplitude / grid.amplitude.mean()
    return np.stack([even, even * (grid.radius < LOW_RADIUS)]).astype(np.float32)
