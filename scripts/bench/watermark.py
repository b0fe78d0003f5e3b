"""Measures the watermark: what survives which attack, what reads without a mark, how it looks and what it costs.

    python scripts/bench/watermark.py --images 200 --null 3000 --pairs 100000 --out bench.md

Pictures: drawn posters, logos, gradients and dark ones, photographs that scikit-image and scikit-learn carry, and what the starter
weights render (`--starter N` of them) with the PNG files of `--generated DIR`. Sizes are drawn from 256..2048, some not square. Every
attack's strength is drawn anew for every picture, not taken from the search's grid. Side by side on the same pictures:
invisible-watermark and blind-watermark, where installed. Every measured picture is a line of `--rows`: an interrupted run goes on
from there, and several runs may share the parts. A line counts for a run of the same seed, code, packages and generated pictures only.
Writes a table (Markdown), a plot (SVG, beside the table) and ends with one JSON line.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from renderfarm.watermark import MarkKey, Payload, detect, embed, front, read
from scripts.bench.watermark_attacks import ATTACKS, CURVES, jpeg, scaled
from scripts.bench.watermark_others import Bits, Method, Picture, competitors
from scripts.bench.watermark_pictures import FLAT, SIDES, Rng, draw, of_folder, rendered, sample_at, samples
from scripts.bench.watermark_report import KEYS_A_PICTURE, Row, plot, report, summary

ROOT = Path(__file__).resolve().parents[2]
KEY = MarkKey.from_bytes(b"the benchmark's key")
ROUNDS = 5
SLOW = {"rivaGan": 4}  # on every fourth picture: a read takes 2.3 s
PACKAGES = ("numpy", "torch", "opencv-python-headless", "opencv-python", "invisible-watermark", "blind-watermark")
PARTS = ("speed", "quality", "flat", "robustness", "averaging", "beside", "pairs", "null")


def payload_of(rng: Rng) -> Payload:
    """A payload at random."""
    return Payload(int(rng.integers(16)), f"{int(rng.integers(2**44)):011x}")


def psnr(a: Picture, b: Picture) -> float:
    """Decibels over all channels."""
    return float(10 * np.log10(255**2 / max(float(np.mean((a.astype(np.float64) - b) ** 2)), 1e-12)))


def robustness(index: int, seed: int, generated: Sequence[Picture]) -> Row:
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


def quality(index: int, seed: int, generated: Sequence[Picture]) -> Row:
    """PSNR and SSIM of one picture at 512x512."""
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng([seed, index, 2])
    sample = sample_at(index, rng, generated, 512)
    marked = embed(sample.pixels[None], [payload_of(rng)], KEY)[0]
    return {
        "kind": sample.kind,
        "psnr": psnr(sample.pixels, marked),
        "ssim": float(structural_similarity(sample.pixels, marked, channel_axis=2)),
    }


def null(index: int, seed: int, generated: Sequence[Picture]) -> Row:
    """One full search that must find nothing: an unmarked picture, one marked with another key, or by another method."""
    rng = np.random.default_rng([seed, index, 3])
    sample = sample_at(index, rng, generated)
    picture = scaled(sample.pixels, 512 / min(sample.pixels.shape[:2]))
    what, others = ("unmarked", "wrong key", "other method")[index % 3], {n: m for n, m in competitors().items() if n != "rivaGan"}
    if what == "other method" and others:
        name = sorted(others)[index // 3 % len(others)]
        put, _, bits = others[name]
        picture, what = put(picture, rng.integers(0, 2, bits)), name
    elif what != "unmarked":
        picture, what = embed(picture[None], [payload_of(rng)], MarkKey.from_bytes(rng.bytes(32)))[0], "wrong key"
    return {"what": what, "found": read(picture, [KEY]).present}


def pairs(index: int, seed: int, generated: Sequence[Picture]) -> Row:
    """The synchronisation statistic of one unmarked picture under KEYS_A_PICTURE keys, largest first; a twentieth is kept."""
    rng = np.random.default_rng([seed, index, 4])
    plane = (front.luminance, front.colours)[index % 2](sample_at(index, rng, generated, 512).pixels)
    assert plane is not None
    spectrum = front.lattice_spectrum(*front.whiten(plane))
    tops = []
    for _ in range(KEYS_A_PICTURE):
        surface, norm = detect.sync_surface(spectrum, MarkKey.from_bytes(rng.bytes(16)), 0)
        tops.append(float(surface.max()) / norm)
    return {"tops": [round(z, 3) for z in sorted(tops, reverse=True)[: KEYS_A_PICTURE // 20]]}


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
    """Milliseconds of one thread, the median of ROUNDS: embedding and dwtDct by turns, a clean read, a full search that finds nothing."""
    payload, other, word = Payload(1, "0123456789a"), competitors().get("dwtDct"), np.arange(64) % 2
    pictures = {side: next(samples(1, np.random.default_rng(7), (), side)).pixels for side in (512, 1024)}
    marked = embed(pictures[512][None], [payload], KEY)[0]
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        now: dict[str, float] = {}
        for side, picture in pictures.items():
            ours_ms = now[f"embed {side}"] = clock(partial(embed, picture[None], [payload], KEY), 9)
            if other:
                theirs_ms = now[f"dwtDct embed {side}"] = clock(partial(other[0], picture, word), 5)
                now[f"dwtDct / embed {side}"] = theirs_ms / ours_ms
        now["read clean 512"] = clock(lambda: read(marked, [KEY]), 15)
        now["read nothing 512"] = clock(lambda: read(pictures[512], [KEY]), 3)
        rounds.append(now)
    out = {name: float(np.median([now[name] for now in rounds])) for name in rounds[0]}
    return out | {f"least {name}": min(now[name] for now in rounds) for name in rounds[0] if "/" in name}


def averaging(count: int, seed: int, generated: Sequence[Picture]) -> dict[str, float]:
    """The share of marked pictures that still read when the average mark of 100 others of the key is subtracted at full power."""
    rng = np.random.default_rng(seed)
    total = np.zeros((512, 512, 3))
    made: list[tuple[Payload, NDArray[np.float64]]] = []
    for sample in samples(100 + count, rng, generated, 512):
        payload = payload_of(rng)
        marked = embed(sample.pixels[None], [payload], KEY)[0].astype(np.float64)
        if len(made) < count:
            made.append((payload, marked))
        else:
            total += marked - cv2.GaussianBlur(marked, (0, 0), 6)
    mean = total / 100
    hits = [read(np.clip(np.round(m - mean), 0, 255).astype(np.uint8), [KEY]).payload == p for p, m in made]
    return {"pictures": count, "read": float(np.mean(hits))}


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


def beside(index: int, seed: int, generated: Sequence[Picture]) -> Row:
    """Each method on one picture of 512x512 (a slow one on some of them): PSNR, exact reads by attack, and by strength along each curve."""
    out: Row = {}
    for name, (put, get, bits) in {"ours": ours(), **competitors()}.items():
        if index % SLOW.get(name, 1):
            continue
        rng = np.random.default_rng([seed, index, 5])
        sample, word = sample_at(index, rng, generated, 512), rng.integers(0, 2, bits)
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


def origin(seed: int, generated: Sequence[Picture], root: Path = ROOT) -> str:
    """What a row depends on beside its part and index: 16 hex digits of seed, code, packages and the generated pictures."""
    said = hashlib.sha256(f"{seed} {KEYS_A_PICTURE} {sorted(competitors())}".encode())
    for path in sorted([*root.glob("pipeline/renderfarm/watermark/*.py"), *root.glob("scripts/bench/watermark*.py")]):
        if path.name != "watermark_report.py":
            said.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    for package in PACKAGES:
        try:
            said.update(f"{package} {importlib.metadata.version(package)}".encode())
        except importlib.metadata.PackageNotFoundError:
            said.update(f"{package} is not there".encode())
    for picture in generated:
        said.update(f"{picture.shape} {hashlib.sha256(picture.tobytes()).hexdigest()}".encode())
    return said.hexdigest()[:16]


def kept(path: Path, part: str, of: str, count: int, row: Callable[[int], Row]) -> list[Row]:
    """The rows 0..`count` of a part: from the file where an earlier run of the same `origin` left them, else measured now and appended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {line["index"]: line["row"] for line in lines if line["part"] == part and line.get("of") == of}
    with path.open("a") as file:
        for index in range(count):
            if index not in done:
                done[index] = row(index)
                file.write(json.dumps({"part": part, "of": of, "index": index, "row": done[index]}) + "\n")
                file.flush()
    return [done[index] for index in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="pictures an attack")
    parser.add_argument("--null", type=int, default=3000, help="full searches where nothing is to be found")
    parser.add_argument("--pairs", type=int, default=100_000, help="(picture, key) pairs for the tail")
    parser.add_argument("--beside", type=int, default=24, help="pictures for the other methods and the plot")
    parser.add_argument("--parts", nargs="*", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--starter", type=int, default=32, help="pictures that the starter weights render")
    parser.add_argument("--generated", type=Path, help="a folder of other generated PNG pictures to include")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("outputs/watermark-bench.jsonl"), help="kept rows; a later run goes on from them")
    parser.add_argument("--out", type=Path, default=Path("outputs/watermark-bench.md"))
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")  # the other packages warn of NumPy's deprecations
    competitors()  # first: blind-watermark refuses to be imported once anything has used multiprocessing
    seed, started = args.seed, time.process_time()
    made = [*rendered(args.starter, args.seed), *(of_folder(args.generated) if args.generated else ())]
    print(f"{len(made)} generated pictures, {time.process_time() - started:.0f} CPU s", file=sys.stderr)
    of = origin(seed, made)
    rows: dict[str, tuple[int, Callable[[int], Row]]] = {
        "robustness": (args.images, lambda i: robustness(i, seed, made)),
        "quality": (args.images // 4, lambda i: quality(i, seed, made)),
        "flat": (args.images // 2, lambda i: flat(i, seed)),
        "beside": (args.beside, lambda i: beside(i, seed, made)),
        "pairs": (args.pairs // KEYS_A_PICTURE, lambda i: pairs(i, seed, made)),
        "null": (args.null, lambda i: null(i, seed, made)),
    }
    result: dict[str, Any] = {}
    for part in args.parts or PARTS:
        if part in rows:
            result[part] = summary(part, kept(args.rows, part, of, *rows[part]))
        else:
            result[part] = speed() if part == "speed" else averaging(args.images // 10, seed, made)
    args.out.write_text(report(result))
    if "beside" in result:
        args.out.with_suffix(".svg").write_text(plot(result["beside"]))
    print(report(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
