"""Measures the watermark: what survives which attack, what reads without a mark, how it looks and what it costs.

    python scripts/bench/watermark.py --images 200 --null 3000 --pairs 100000 --out bench.md

Pictures: drawn posters, logos, gradients, dark ones and noise, photographs that scikit-image and scikit-learn carry, and PNG files
of `--generated DIR`. Sizes are drawn from 256..2048, some not square. Every attack's strength is drawn anew for every picture,
not taken from the search's grid. Side by side on the same pictures: invisible-watermark and blind-watermark, where installed.
Every measured picture is a line of `--rows`: an interrupted run goes on from there, and several runs may share the parts.
Writes a table (Markdown), a plot (SVG, beside the table) and ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from pipeline.watermark import MarkKey, Payload, detect, embed, front, load_picture, read
from scripts.bench.watermark_others import Bits, Method, Picture, competitors

Rng = np.random.Generator
Row = dict[str, Any]
KEY = MarkKey.from_bytes(b"the benchmark's key")
SIDES = (256, 320, 384, 512, 512, 640, 768, 1024, 1024, 1536, 2048)
KEYS_A_PICTURE = 500
PARTS = ("speed", "quality", "flat", "robustness", "averaging", "beside", "pairs", "null")
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


@cache
def photographs_of(generated: Path | None) -> list[Picture]:
    """`photographs`, loaded once."""
    return photographs(generated)


def sample_at(index: int, rng: Rng, generated: Path | None, side: int | None = None) -> Sample:
    """One picture: three of four are cut from photographs, one is drawn; of one size when `side` is given."""
    short = side or int(rng.choice(SIDES))
    long = short if side or rng.random() < 0.5 else min(2048, int(short * rng.uniform(1.05, 2.0)))
    height, width = (short, long) if rng.random() < 0.5 else (long, short)
    if index % 4 == 3:
        kind = FLAT[index // 4 % len(FLAT)]
        return Sample(kind, draw(kind, height, width, rng))
    photos = photographs_of(generated)
    photo = photos[index % len(photos)]
    zoom = max(height / photo.shape[0], width / photo.shape[1])
    size = (max(width, round(photo.shape[1] * zoom)), max(height, round(photo.shape[0] * zoom)))
    big = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    top, left = (int(rng.integers(0, have - want + 1)) for have, want in ((size[1], height), (size[0], width)))
    return Sample("photo", np.ascontiguousarray(big[top : top + height, left : left + width]))


def samples(count: int, rng: Rng, generated: Path | None, side: int | None = None) -> Iterator[Sample]:
    """`count` pictures."""
    return (sample_at(index, rng, generated, side) for index in range(count))


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


def robustness(index: int, seed: int, generated: Path | None) -> Row:
    """Exact reads of one picture by attack."""
    rng = np.random.default_rng([seed, index])
    sample, payload = sample_at(index, rng, generated), payload_of(rng)
    marked = embed(sample.pixels[None], [payload], KEY)[0]
    hits = {name: read(attack(marked, rng), [KEY]).payload == payload for name, (_, attack) in ATTACKS.items()}
    return {"kind": sample.kind, "side": min(marked.shape[:2]), "hits": hits}


def flat(index: int, seed: int) -> Row:
    """Exact reads of one flat picture, clean and JPEG 75."""
    rng = np.random.default_rng([seed, index, 1])
    kind, side, payload = FLAT[index % 4], int(rng.choice(SIDES)), payload_of(rng)
    marked = embed(draw(kind, side, side, rng)[None], [payload], KEY)[0]
    return {"hits": {"clean": read(marked, [KEY]).payload == payload, "JPEG 75": read(jpeg(marked, 75), [KEY]).payload == payload}}


def quality(index: int, seed: int) -> Row:
    """PSNR and SSIM of one picture at 512x512."""
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng([seed, index, 2])
    sample = sample_at(index, rng, None, 512)
    marked = embed(sample.pixels[None], [payload_of(rng)], KEY)[0]
    return {"psnr": psnr(sample.pixels, marked), "ssim": float(structural_similarity(sample.pixels, marked, channel_axis=2))}


def null(index: int, seed: int) -> Row:
    """One full search that must find nothing: an unmarked picture, one marked with another key, or by another method."""
    rng = np.random.default_rng([seed, index, 3])
    sample = sample_at(index, rng, None)
    picture = scaled(sample.pixels, 512 / min(sample.pixels.shape[:2]))
    what, others = ("unmarked", "wrong key", "other method")[index % 3], {n: m for n, m in competitors().items() if n != "rivaGan"}
    if what == "other method" and others:
        name = sorted(others)[index // 3 % len(others)]
        put, _, bits = others[name]
        picture, what = put(picture, rng.integers(0, 2, bits)), name
    elif what != "unmarked":
        picture, what = embed(picture[None], [payload_of(rng)], MarkKey.from_bytes(rng.bytes(32)))[0], "wrong key"
    return {"what": what, "found": read(picture, [KEY]).present}


def pairs(index: int, seed: int) -> Row:
    """The synchronisation statistic of one unmarked picture under KEYS_A_PICTURE keys, largest first; a twentieth is kept."""
    rng = np.random.default_rng([seed, index, 4])
    plane = (front.luminance, front.colours)[index % 2](sample_at(index, rng, None, 512).pixels)
    assert plane is not None
    spectrum = front.lattice_spectrum(*front.whiten(plane))
    tops = []
    for _ in range(KEYS_A_PICTURE):
        surface, norm = detect.sync_surface(spectrum, MarkKey.from_bytes(rng.bytes(16)), 0)
        tops.append(float(surface.max()) / norm)
    return {"tops": [round(z, 3) for z in sorted(tops, reverse=True)[: KEYS_A_PICTURE // 20]]}


def tail(rows: Sequence[Row]) -> dict[str, float]:
    """The fitted tail of the synchronisation statistic. The bound of `detect` assumes an exponential of slope 1 in nats."""
    nats = np.sort([z * z / 2 for row in rows for z in row["tops"]])
    count = len(rows) * KEYS_A_PICTURE
    nats = nats[-max(2, count // 100) :]
    slope = 1 / float(np.mean(nats - nats[0]))
    need = detect.SYNC_MIN**2 / 2
    top = float(np.sqrt(2 * nats[-1]))
    return {"pairs": count, "sync_max": top, "tail_slope": slope, "p_sync_min_fitted": float(0.01 * np.exp(-slope * (need - nats[0])))}


def interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate."""
    z, p = 1.96, hits / count
    middle, half = p + z * z / (2 * count), z * np.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return float((middle - half) / (1 + z * z / count)), float((middle + half) / (1 + z * z / count))


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


def averaging(count: int, seed: int) -> dict[str, float]:
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
    return {"pictures": count, "read": float(np.mean(hits))}


# -- beside the others ----------------------------------------------------------------------------------------------


def ours() -> Method:
    """This project's method under the others' interface."""

    def put(picture: Picture, word: Bits) -> Picture:
        value = int("".join(str(int(b)) for b in word), 2)
        return np.asarray(embed(picture[None], [Payload(value >> 44, f"{value & ((1 << 44) - 1):011x}")], KEY)[0], np.uint8)

    def get(picture: Picture, n: int) -> Bits:
        payload = read(picture, [KEY]).payload
        value = 0 if payload is None else payload.version << 44 | int(payload.record, 16)
        return np.array([value >> (n - 1 - i) & 1 for i in range(n)], np.int64)

    return put, get, 48


def beside(index: int, seed: int) -> Row:
    """Each method on one picture of 512x512: PSNR, exact reads by attack, and by strength along each curve."""
    out: Row = {}
    for name, (put, get, bits) in {"ours": ours(), **competitors()}.items():
        rng = np.random.default_rng([seed, index, 5])
        sample, word = sample_at(index, rng, None, 512), rng.integers(0, 2, bits)
        marked = put(sample.pixels, word)

        def hit(attacked: Picture, word: Bits = word, get: Callable[[Picture, int], Bits] = get) -> bool:
            try:
                return bool(np.array_equal(get(attacked, len(word)), word))
            except (AssertionError, IndexError, ValueError, RuntimeError, cv2.error):
                return False  # of a cropped picture some methods raise instead of answering

        hits = {attack: hit(apply(marked, rng)) for attack, (_, apply) in ATTACKS.items()}
        lines = {line: [hit(apply(marked, s, rng)) for s in strengths] for line, (strengths, apply) in CURVES.items()}
        out[name] = {"psnr": psnr(sample.pixels, marked), "hits": hits, "curves": lines}
    return out


def merged(rows: Sequence[Row]) -> dict[str, Any]:
    """Rates over the rows of `beside`."""
    table = {}
    for name in rows[0]:
        mine = [row[name] for row in rows]
        table[name] = {
            "psnr": float(np.mean([row["psnr"] for row in mine])),
            "hits": {attack: float(np.mean([row["hits"][attack] for row in mine])) for attack in ATTACKS},
            "curves": {line: np.mean([row["curves"][line] for row in mine], 0).tolist() for line in CURVES},
        }
    return table


COLOURS = {"ours": "#06c", "dwtDct": "#c33", "dwtDctSvd": "#e90", "rivaGan": "#393", "blind-watermark": "#939"}


def plot(table: dict[str, Any]) -> str:
    """An SVG of small charts: exact-read rate against strength, a line a method."""
    cells = []
    for index, (name, (strengths, _)) in enumerate(CURVES.items()):
        x0, y0 = 50 + index % 3 * 260, 50 + index // 3 * 190
        xs = [x0 + 200 * i / (len(strengths) - 1) for i in range(len(strengths))]
        ticks = "".join(f'<text x="{x:.0f}" y="{y0 + 136}" text-anchor="middle">{s:g}</text>' for x, s in zip(xs, strengths, strict=True))
        cells.append(
            f'<text x="{x0}" y="{y0 - 10}" font-weight="bold">{name}</text>{ticks}'
            f'<path d="M{x0},{y0} V{y0 + 120} H{x0 + 200}" fill="none" stroke="#999"/>'
            f'<text x="{x0 - 6}" y="{y0 + 5}" text-anchor="end">1</text><text x="{x0 - 6}" y="{y0 + 124}" text-anchor="end">0</text>'
        )
        for method, row in reversed(table.items()):
            points = " ".join(f"{x:.0f},{y0 + 120 * (1 - rate):.1f}" for x, rate in zip(xs, row["curves"][name], strict=True))
            width = 3 if method == "ours" else 1.5
            cells.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[method]}" stroke-width="{width}"/>')
    legend = "".join(f'<text x="{50 + 130 * i}" y="20" fill="{COLOURS[m]}" font-weight="bold">{m}</text>' for i, m in enumerate(table))
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="820" height="410" font-family="sans-serif" font-size="11">'
    return head + '<rect width="100%" height="100%" fill="#fff"/>' + legend + "".join(cells) + "</svg>\n"


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    others, lines = result.get("beside", {}), []
    if "robustness" in result or others:
        lines += ["| attack | bar | exact reads | 95 % | short side >= 384 | " + " | ".join(f"{o}, 512" for o in others) + " |"]
        lines += ["|---" * (5 + len(others)) + "|"]
    for name, (bar, _) in ATTACKS.items() if lines else ():
        row = result.get("robustness", {}).get(name)
        own = f"{row['rate']:.3f} of {row['n']} | {row['low']:.3f} to {row['high']:.3f} | {row['rate_384']:.3f}" if row else "| | "
        lines.append(f"| {name} | {bar:.2f} | {own} | " + " | ".join(f"{o['hits'][name]:.2f}" for o in others.values()) + " |")
    if others:
        lines.append("| PSNR, dB | 41 | | | | " + " | ".join(f"{o['psnr']:.1f}" for o in others.values()) + " |")
    for part in ("quality", "flat", "null", "pairs", "averaging", "speed"):
        if part in result:
            lines += ["", f"**{part}**: " + "; ".join(f"{k} {v:.4g}" for k, v in result[part].items())]
    return "\n".join(lines) + "\n"


def summary(part: str, rows: list[Row]) -> dict[str, Any]:
    """What the rows of one part say together."""
    if part == "robustness":
        out: dict[str, Any] = {}
        for name, (bar, _) in ATTACKS.items():
            hits = np.array([row["hits"][name] for row in rows])
            large = np.array([row["side"] >= 384 for row in rows])
            low, high = interval(int(hits.sum()), len(hits))
            rates = {"rate": float(hits.mean()), "low": low, "high": high, "rate_384": float(hits[large].mean())}
            out[name] = {"bar": bar, "n": len(hits), **rates}
        return out
    if part == "flat":
        return {"reads": 2 * len(rows), "rate": float(np.mean([list(row["hits"].values()) for row in rows]))}
    if part == "quality":
        scores = np.array([(row["psnr"], row["ssim"]) for row in rows])
        (p_min, s_min), (p_mean, s_mean) = scores.min(0).tolist(), scores.mean(0).tolist()
        return {"pictures": len(rows), "psnr_min": p_min, "psnr_mean": p_mean, "ssim_min": s_min, "ssim_mean": s_mean}
    if part == "null":
        found = sum(row["found"] for row in rows)
        kinds = {what: sum(row["what"] == what for row in rows) for what in sorted({row["what"] for row in rows})}
        return {"searches": len(rows), "found": found, "bound": detect.FALSE_ALARM, "rate_below": 3 / len(rows), **kinds}
    return tail(rows) if part == "pairs" else merged(rows)


def kept(path: Path, part: str, count: int, row: Callable[[int], Row]) -> list[Row]:
    """The rows 0..`count` of a part: from the file where an earlier run left them, else measured now and appended to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {line["index"]: line["row"] for line in lines if line["part"] == part}
    with path.open("a") as file:
        for index in range(count):
            if index not in done:
                done[index] = row(index)
                file.write(json.dumps({"part": part, "index": index, "row": done[index]}) + "\n")
                file.flush()
    return [done[index] for index in sorted(done)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="pictures an attack")
    parser.add_argument("--null", type=int, default=3000, help="full searches where nothing is to be found")
    parser.add_argument("--pairs", type=int, default=100_000, help="(picture, key) pairs for the tail")
    parser.add_argument("--beside", type=int, default=24, help="pictures for the other methods and the plot")
    parser.add_argument("--parts", nargs="*", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--generated", type=Path, help="a folder of generated PNG pictures to include")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("outputs/watermark-bench.jsonl"), help="kept rows; a later run goes on from them")
    parser.add_argument("--out", type=Path, default=Path("outputs/watermark-bench.md"))
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")  # the other packages warn of NumPy's deprecations
    seed = args.seed
    rows: dict[str, tuple[int, Callable[[int], Row]]] = {
        "robustness": (args.images, lambda i: robustness(i, seed, args.generated)),
        "quality": (args.images // 4, lambda i: quality(i, seed)),
        "flat": (args.images // 2, lambda i: flat(i, seed)),
        "beside": (args.beside, lambda i: beside(i, seed)),
        "pairs": (args.pairs // KEYS_A_PICTURE, lambda i: pairs(i, seed)),
        "null": (args.null, lambda i: null(i, seed)),
    }
    result: dict[str, Any] = {}
    for part in args.parts or PARTS:
        if part in rows:
            result[part] = summary(part, kept(args.rows, part, *rows[part]))
        else:
            result[part] = speed() if part == "speed" else averaging(args.images // 10, seed)
    args.out.write_text(report(result))
    if "beside" in result:
        args.out.with_suffix(".svg").write_text(plot(result["beside"]))
    print(report(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
