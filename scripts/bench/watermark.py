"""Measures the watermark: what survives which attack, what reads without a mark, how it looks and what it costs.

    python scripts/bench/watermark.py --images 200 --null 3000 --pairs 100000 --out bench.md

Pictures: drawn posters, logos, gradients, dark ones and noise, photographs that scikit-image and scikit-learn carry, and PNG files
of `--generated DIR`. Sizes are drawn from 256..2048, some not square. Every attack's strength is drawn anew for every picture,
not taken from the search's grid. Side by side on the same pictures: invisible-watermark and blind-watermark, where installed.
Writes a table (Markdown), a plot (SVG, beside the table) and ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from pipeline.watermark import MarkKey, Payload, detect, embed, front, load_picture, read

Picture = NDArray[np.uint8]
Rng = np.random.Generator
KEY = MarkKey.from_bytes(b"the benchmark's key")
SIDES = (256, 320, 384, 512, 512, 640, 768, 1024, 1024, 1536, 2048)
FLAT = ("poster", "gradient", "logo", "dark")


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture to mark: its kind ("photo", "poster", ...) and pixels, uint8 (H, W, 3)."""

    kind: str
    pixels: Picture


def photographs(generated: Path | None) -> list[Picture]:
    """uint8 (H, W, 3) each: what installed packages carry, and the PNG files of `generated`."""
    from skimage import data

    names = "astronaut coffee chelsea camera rocket retina immunohistochemistry hubble_deep_field brick gravel grass coins moon"
    out = [np.asarray(getattr(data, name)()) for name in names.split()]
    out.append(np.asarray(data.stereo_motorcycle()[0]))
    try:
        from sklearn.datasets import load_sample_images

        out += [np.asarray(image) for image in load_sample_images().images]
    except ImportError:
        print("scikit-learn is not installed: without its two photographs", file=sys.stderr)
    for path in sorted(generated.rglob("*.png"))[:60] if generated else []:
        out.append(load_picture(path))
    return [np.repeat(p[..., None], 3, 2) if p.ndim == 2 else np.ascontiguousarray(p[..., :3]) for p in out]


def draw(kind: str, height: int, width: int, rng: Rng) -> Picture:
    """uint8 (H, W, 3): a flat poster with shapes and text, a gradient, a logo on white, or a dark picture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if kind == "gradient":
        ends, t = rng.uniform(0, 255, (2, 3)), ((x / width + y / height) / 2)[..., None]
        return np.clip(np.round(ends[0] * (1 - t) + ends[1] * t), 0, 255).astype(np.uint8)
    ground = {"poster": rng.uniform(30, 225, 3), "logo": np.full(3, 255.0), "dark": np.full(3, rng.uniform(3, 20))}[kind]
    out = np.tile(ground, (height, width, 1))
    top, short = 45 if kind == "dark" else 255, min(height, width)
    for _ in range(rng.integers(2, 7)):
        cy, cx = rng.uniform(0.15, 0.85) * height, rng.uniform(0.15, 0.85) * width
        r = rng.uniform(0.05, 0.22) * short
        shape = np.hypot(y - cy, x - cx) < r if rng.random() < 0.5 else np.maximum(abs(y - cy), 1.7 * abs(x - cx)) < r
        out[shape] = rng.uniform(0, top, 3)
    colour = tuple(float(c) for c in rng.uniform(0, top, 3))
    canvas = np.ascontiguousarray(np.clip(np.round(out), 0, 255).astype(np.uint8))
    place = (int(0.1 * width), int(0.85 * height))
    cv2.putText(canvas, "SUMMER SALE", place, cv2.FONT_HERSHEY_SIMPLEX, short / 300, colour, max(1, short // 150), cv2.LINE_AA)
    return canvas


def samples(count: int, rng: Rng, generated: Path | None, side: int | None = None) -> Iterator[Sample]:
    """`count` pictures, three of four cut from photographs, one drawn; of one size when `side` is given."""
    photos = photographs(generated)
    for index in range(count):
        short = side or int(rng.choice(SIDES))
        long = short if side or rng.random() < 0.5 else min(2048, int(short * rng.uniform(1.05, 2.0)))
        height, width = (short, long) if rng.random() < 0.5 else (long, short)
        if index % 4 == 3:
            kind = FLAT[index // 4 % len(FLAT)]
            yield Sample(kind, draw(kind, height, width, rng))
            continue
        photo = photos[index % len(photos)]
        zoom = max(height / photo.shape[0], width / photo.shape[1])
        size = (max(width, round(photo.shape[1] * zoom)), max(height, round(photo.shape[0] * zoom)))
        big = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
        top, left = (int(rng.integers(0, have - want + 1)) for have, want in ((size[1], height), (size[0], width)))
        yield Sample("photo", np.ascontiguousarray(big[top : top + height, left : left + width]))


# -- attacks: (picture, rng) -> picture ------------------------------------------------------------------------------


def jpeg(picture: Picture, quality: float) -> Picture:
    """The picture through JPEG, 4:2:0."""
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def scaled(picture: Picture, factor: float, restore: bool = False) -> Picture:
    """Resized by `factor`, but no further than to a short side of 256; and back when `restore`."""
    height, width = picture.shape[:2]
    factor = max(factor, 256 / min(height, width))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    out = cv2.resize(picture, (round(width * factor), round(height * factor)), interpolation=way)
    return np.asarray(cv2.resize(out, (width, height), interpolation=cv2.INTER_CUBIC) if restore else out, np.uint8)


def cropped(picture: Picture, sides: NDArray[np.float64]) -> Picture:
    """Cut by these shares at top, bottom, left and right."""
    (height, width), (top, bottom, left, right) = picture.shape[:2], sides
    rows = slice(round(top * height), round((1 - bottom) * height))
    return np.ascontiguousarray(picture[rows, round(left * width) : round((1 - right) * width)])


def turned(picture: Picture, degrees: float, border: int) -> Picture:
    """Turned about the centre on a canvas of the same size."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=border), np.uint8)


def noisy(picture: Picture, sigma: float, rng: Rng) -> Picture:
    """Gaussian noise of this standard deviation in grey levels."""
    return np.clip(np.round(picture + rng.normal(0, sigma, picture.shape)), 0, 255).astype(np.uint8)


def blurred(picture: Picture, sigma: float) -> Picture:
    """A Gaussian blur in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.05)), np.uint8)


def screenshot(picture: Picture, rng: Rng) -> Picture:
    """Shown at another size within a border of one colour, then JPEG 85."""
    out = scaled(picture, rng.uniform(0.6, 1.3))
    pads = [round(side * share) for side, share in zip(np.repeat(out.shape[:2], 2), rng.uniform(0.01, 0.1, 4), strict=True)]
    colour = [int(v) for v in rng.integers(0, 256, 3)]
    return jpeg(np.asarray(cv2.copyMakeBorder(out, *pads, cv2.BORDER_CONSTANT, value=colour), np.uint8), 85)


def brighter(picture: Picture, factor: float) -> Picture:
    """Every channel times a factor."""
    return np.clip(np.round(picture * factor), 0, 255).astype(np.uint8)


Attack = Callable[[Picture, Rng], Picture]
BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT, cv2.BORDER_REPLICATE)
ATTACKS: dict[str, tuple[float, Attack]] = {
    "clean": (0.99, lambda p, r: p),
    "JPEG 90-50": (0.99, lambda p, r: jpeg(p, r.uniform(50, 90))),
    "scale 0.4-1.5 kept": (0.99, lambda p, r: scaled(p, r.uniform(0.4, 1.5))),
    "scale 0.4-1.5 restored": (0.99, lambda p, r: scaled(p, r.uniform(0.4, 1.5), True)),
    "crop <= 15 % a side": (0.99, lambda p, r: cropped(p, r.uniform(0, 0.15, 4))),
    "rotation <= 7 deg": (0.99, lambda p, r: turned(p, r.uniform(-7, 7), BORDERS[r.integers(3)])),
    "screenshot": (0.99, screenshot),
    "social 0.75 + JPEG 75": (0.99, lambda p, r: jpeg(scaled(p, 0.75), 75)),
    "noise 5": (0.99, lambda p, r: noisy(p, 5, r)),
    "blur 1": (0.99, lambda p, r: blurred(p, 1)),
    "brightness +-20 %": (0.99, lambda p, r: brighter(p, r.uniform(0.8, 1.2))),
    "flip": (0.99, lambda p, r: np.ascontiguousarray(p[:, ::-1])),
    "JPEG 30": (0.95, lambda p, r: jpeg(p, 30)),
    "crop 25 % a side": (0.95, lambda p, r: cropped(p, np.full(4, 0.25))),
    "blur 2": (0.95, lambda p, r: blurred(p, 2)),
    "noise 12": (0.95, lambda p, r: noisy(p, 12, r)),
    "crop + scale + JPEG 75": (0.95, lambda p, r: jpeg(scaled(cropped(p, r.uniform(0, 0.15, 4)), r.uniform(0.5, 1.3)), 75)),
}
CURVES: dict[str, tuple[list[float], Callable[[Picture, float, Rng], Picture]]] = {
    "JPEG quality": ([90, 70, 50, 40, 30, 20, 15, 10], lambda p, s, r: jpeg(p, s)),
    "scale": ([1.5, 1.0, 0.75, 0.6, 0.5], lambda p, s, r: scaled(p, s)),
    "crop, % a side": ([5, 10, 15, 20, 25, 28], lambda p, s, r: cropped(p, np.full(4, s / 100))),
    "rotation, degrees": ([1, 3, 5, 7, 7.6, 8.5], lambda p, s, r: turned(p, s, cv2.BORDER_REFLECT)),
    "noise sigma": ([5, 10, 15, 20, 30], lambda p, s, r: noisy(p, s, r)),
    "blur sigma": ([1, 2, 3, 4, 5], lambda p, s, r: blurred(p, s)),
}


# -- measurements ----------------------------------------------------------------------------------------------------


def payload_of(rng: Rng) -> Payload:
    """A payload at random."""
    return Payload(int(rng.integers(16)), f"{int(rng.integers(2**44)):011x}")


def psnr(a: Picture, b: Picture) -> float:
    """Decibels over all channels."""
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-12)))


def robustness(count: int, seed: int, generated: Path | None) -> dict[str, Any]:
    """Exact reads by attack, over all pictures and over those whose short side is 384 or more."""
    rng = np.random.default_rng(seed)
    marked = []
    for sample in samples(count, rng, generated):
        payload = payload_of(rng)
        marked.append((sample, payload, embed(sample.pixels[None], [payload], KEY)[0]))
    rows: dict[str, Any] = {}
    for name, (bar, attack) in ATTACKS.items():
        hits = np.array([read(attack(m, rng), [KEY]).payload == p for _, p, m in marked])
        large = np.array([min(m.shape[:2]) >= 384 for *_, m in marked])
        failed = [f"{s.kind} {m.shape[1]}x{m.shape[0]}" for (s, _, m), hit in zip(marked, hits, strict=True) if not hit]
        rows[name] = {"bar": bar, "rate": float(hits.mean()), "rate_384": float(hits[large].mean()), "n": len(hits), "failed": failed}
        print(f"{name:26s} bar {bar:.2f} measured {hits.mean():.3f}, 384 up {hits[large].mean():.3f}  {failed[:8]}", file=sys.stderr)
    return rows


def flat_and_quality(count: int, seed: int) -> dict[str, Any]:
    """Flat pictures, clean and JPEG 75; and the least and mean PSNR and SSIM at 512x512."""
    from skimage.metrics import structural_similarity

    rng, hits = np.random.default_rng(seed), []
    for index in range(count):
        kind, side = FLAT[index % 4], int(rng.choice(SIDES))
        payload = payload_of(rng)
        marked = embed(draw(kind, side, side, rng)[None], [payload], KEY)[0]
        hits += [read(marked, [KEY]).payload == payload, read(jpeg(marked, 75), [KEY]).payload == payload]
    scores = []
    for sample in samples(40, rng, None, 512):
        marked = embed(sample.pixels[None], [payload_of(rng)], KEY)[0]
        scores.append((psnr(sample.pixels, marked), structural_similarity(sample.pixels, marked, channel_axis=2)))
    worst, mean = np.min(scores, 0), np.mean(scores, 0)
    return {
        "flat, clean and JPEG 75": float(np.mean(hits)),
        "psnr_min": float(worst[0]), "psnr_mean": float(mean[0]), "ssim_min": float(worst[1]), "ssim_mean": float(mean[1]),
    }  # fmt: skip


def null(searches: int, pairs: int, seed: int) -> dict[str, Any]:
    """False alarms: full searches on unmarked pictures and wrong keys; and the tail of the sync over many keys a picture."""
    rng = np.random.default_rng(seed)
    found = 0
    for index, sample in enumerate(samples(searches, rng, None)):
        picture = scaled(sample.pixels, 512 / min(sample.pixels.shape[:2]))
        if index % 2:
            picture = embed(picture[None], [payload_of(rng)], MarkKey.from_bytes(rng.bytes(32)))[0]
        found += read(picture, [KEY]).present
    tops = []
    many = max(1, pairs // 50)
    for sample in samples(50 if pairs else 0, rng, None, 512):
        white, rounding = front.whiten(front.luminance(sample.pixels))
        spectrum = front.lattice_spectrum(white, rounding)
        for _ in range(many):
            surface, norm = detect.sync_surface(spectrum, MarkKey.from_bytes(rng.bytes(16)), 0)
            tops.append(float(surface.max()) / norm)
    out: dict[str, Any] = {"searches": searches, "found": int(found), "bound": detect.FALSE_ALARM, "pairs": len(tops)}
    if tops:
        nats = np.sort(np.array(tops) ** 2 / 2)
        cut = nats[int(0.99 * len(nats))]
        slope = 1 / float(np.mean(nats[nats > cut] - cut))  # an exponential tail; Chernoff's bound has slope 1
        need = detect.SYNC_MIN**2 / 2
        out |= {"sync_max": float(max(tops)), "tail_slope": slope, "p_sync_min_fitted": float(0.01 * np.exp(-slope * (need - cut)))}
    return out


def clock(call: Callable[[], object], repeats: int) -> float:
    """Milliseconds of CPU time (other processes load the machine): the median of `repeats` calls after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return float(np.median(times) * 1e3)


def speed() -> dict[str, float]:
    """Milliseconds, one thread: embedding beside dwtDct, a clean read, a full search that finds nothing."""
    out, payload, other = {}, Payload(1, "0123456789a"), competitors().get("dwtDct")
    small, large = (next(samples(1, np.random.default_rng(7), None, side)).pixels for side in (512, 1024))
    out["embed 512"] = clock(lambda: embed(small[None], [payload], KEY), 9)
    out["embed 1024"] = clock(lambda: embed(large[None], [payload], KEY), 9)
    if other:
        word = np.arange(64) % 2
        out["dwtDct embed 512"] = clock(lambda: other[0](small, word), 5)
        out["dwtDct embed 1024"] = clock(lambda: other[0](large, word), 5)
    marked = embed(small[None], [payload], KEY)[0]
    out["read clean 512"] = clock(lambda: read(marked, [KEY]), 15)
    out["read nothing 512"] = clock(lambda: read(small, [KEY]), 5)
    return out


def averaging(count: int, seed: int) -> float:
    """The share of marked pictures that still read when the average mark of 100 others of the key is subtracted at full power."""
    rng = np.random.default_rng(seed)
    total, made = np.zeros((512, 512, 3)), []
    for sample in samples(100 + count, rng, None, 512):
        payload = payload_of(rng)
        marked = embed(sample.pixels[None], [payload], KEY)[0].astype(np.float64)
        if len(made) < count:
            made.append((payload, marked))
        else:
            total += marked - cv2.GaussianBlur(marked, (0, 0), 6)
    mean = total / 100
    hits = [read(np.clip(np.round(m - mean), 0, 255).astype(np.uint8), [KEY]).payload == p for p, m in made]
    return float(np.mean(hits))


# -- others ----------------------------------------------------------------------------------------------------------

Bits = NDArray[np.int64]
Method = tuple[Callable[[Picture, Bits], Picture], Callable[[Picture, int], Bits], int]


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
            return np.clip(np.round(tool.embed()[..., ::-1]), 0, 255).astype(np.uint8)

        def get(picture: Picture, n: int) -> Bits:
            tool = WaterMark(password_img=1, password_wm=1)
            return np.asarray(tool.extract(embed_img=picture[..., ::-1].astype(np.float32), wm_shape=n, mode="bit") > 0.5, np.int64)

        out["blind-watermark"] = (put, get, 64)
    return out


def side_by_side(count: int, seed: int) -> dict[str, dict[str, float]]:
    """Exact reads by method and attack on the same pictures at 512x512, and the PSNR of each."""
    table: dict[str, dict[str, float]] = {}
    pictures = list(samples(count, np.random.default_rng(seed), None, 512))
    for name, (put, get, bits) in competitors().items():
        rng = np.random.default_rng(seed)
        hits: dict[str, list[bool]] = {attack: [] for attack in ATTACKS}
        quality = []
        for sample in pictures:
            word = rng.integers(0, 2, bits)
            marked = put(sample.pixels, word)
            quality.append(psnr(sample.pixels, marked))
            for attack, (_, apply) in ATTACKS.items():
                try:
                    hits[attack].append(bool(np.array_equal(get(apply(marked, rng), bits), word)))
                except (AssertionError, IndexError, ValueError, RuntimeError, cv2.error):
                    hits[attack].append(False)
        table[name] = {"PSNR": float(np.mean(quality)), **{a: float(np.mean(h)) for a, h in hits.items()}}
    return table


def curves(count: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """(strength, exact-read rate) for each attack at 512x512."""
    rng = np.random.default_rng(seed)
    made = []
    for sample in samples(count, rng, None, 512):
        payload = payload_of(rng)
        made.append((payload, embed(sample.pixels[None], [payload], KEY)[0]))
    return {
        name: [(s, float(np.mean([read(apply(m, s, rng), [KEY]).payload == p for p, m in made]))) for s in strengths]
        for name, (strengths, apply) in CURVES.items()
    }


def plot(lines: dict[str, list[tuple[float, float]]]) -> str:
    """An SVG of small charts: exact-read rate against strength."""
    cells = []
    for index, (name, points) in enumerate(lines.items()):
        x0, y0 = 50 + index % 3 * 260, 30 + index // 3 * 190
        at = [(x0 + 200 * i / max(len(points) - 1, 1), y0 + 120 * (1 - rate)) for i, (_, rate) in enumerate(points)]
        ticks = "".join(
            f'<text x="{x:.0f}" y="{y0 + 136}" text-anchor="middle">{s:g}</text><circle cx="{x:.0f}" cy="{y:.1f}" r="3"/>'
            for (x, y), (s, _) in zip(at, points, strict=True)
        )
        cells.append(
            f'<text x="{x0}" y="{y0 - 10}" font-weight="bold">{name}</text>'
            f'<path d="M{x0},{y0} V{y0 + 120} H{x0 + 200}" fill="none" stroke="#999"/>'
            f'<text x="{x0 - 6}" y="{y0 + 5}" text-anchor="end">1</text><text x="{x0 - 6}" y="{y0 + 124}" text-anchor="end">0</text>'
            f'<polyline points="{" ".join(f"{x:.0f},{y:.1f}" for x, y in at)}" fill="none" stroke="#06c" stroke-width="2"/>{ticks}'
        )
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="820" height="400" font-family="sans-serif" font-size="11">'
    return head + '<rect width="100%" height="100%" fill="#fff"/>' + "".join(cells) + "</svg>\n"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    others = result.get("others", {})
    lines = ["| attack | bar | exact reads | short side >= 384 | " + " | ".join(others) + " |", "|---" * (4 + len(others)) + "|"]
    for name, row in result.get("robustness", {}).items():
        beside = " | ".join(f"{others[o][name]:.2f}" for o in others)
        lines.append(f"| {name} | {row['bar']:.2f} | {row['rate']:.3f} of {row['n']} | {row['rate_384']:.3f} | {beside} |")
    for part in ("quality", "null", "speed", "averaging"):
        values = result.get(part, {})
        pairs = values.items() if isinstance(values, dict) else [("read after subtracting the average of 100", values)]
        if part in result:
            lines += ["", f"**{part}**: " + "; ".join(f"{k} {v:.4g}" for k, v in pairs)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="pictures an attack")
    parser.add_argument("--null", type=int, default=3000, help="full searches where nothing is to be found")
    parser.add_argument("--pairs", type=int, default=100_000, help="(picture, key) pairs for the tail")
    parser.add_argument("--others", type=int, default=24, help="pictures for the other methods")
    parser.add_argument("--curve", type=int, default=24, help="pictures a point of the plot")
    parser.add_argument("--parts", nargs="*", help="speed, quality, averaging, robustness, others, curves, null; all by default")
    parser.add_argument("--generated", type=Path, help="a folder of generated PNG pictures to include")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("watermark-bench.md"))
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")  # the other packages warn of NumPy's deprecations
    parts: dict[str, Callable[[], Any]] = {
        "speed": speed,
        "quality": lambda: flat_and_quality(args.images, args.seed),
        "averaging": lambda: averaging(args.images // 4, args.seed),
        "robustness": lambda: robustness(args.images, args.seed, args.generated),
        "others": lambda: side_by_side(args.others, args.seed),
        "curves": lambda: curves(args.curve, args.seed),
        "null": lambda: null(args.null, args.pairs, args.seed),
    }
    result: dict[str, Any] = {name: parts[name]() for name in args.parts or parts}
    args.out.write_text(table(result))
    if "curves" in result:
        args.out.with_suffix(".svg").write_text(plot(result["curves"]))
    print(table(result))
    for row in result.get("robustness", {}).values():
        del row["failed"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
