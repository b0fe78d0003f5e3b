"""An example output for the report: records as the farm writes them, pictures of the starter world, one of each state.

    python -m scripts.report.example FOLDER [--images 60] [--shots]

makes FOLDER/report/index.html and what it links to; `--shots` adds screenshots under FOLDER/shots. Fixed seed: the same
pictures each time. The log it invents is for looking at, no audit would pass it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from renderfarm.report import Summary, write
from renderfarm.retry import judge
from renderfarm.schema import AttemptOutcome, Box, ObjectCount, Record, Verdict
from renderfarm.storage import LocalStorage, Storage, segment
from scripts.report.chromium import Browser
from scripts.starter.world import WORDS, Spec, captions, draw, sample_spec

START_US = 1_795_480_200_000_000
STEP_US = 900_000
ATTEMPTS_LIMIT = 3
CAMPAIGNS = ("spring", "summer", "autumn", "winter")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One attempt: its record, and the scene that its pictures show."""

    record: Record
    spec: Spec
    seed: int


def invent(images: int, seed: int = 7, boxes: bool = True) -> Iterator[Drawn]:
    """Attempts in log order; later attempts of an image come some images later, as in a farm.

    Without `boxes` no picture is drawn, which is a hundred times faster.
    """
    rng = np.random.default_rng(seed)
    late: list[tuple[int, Drawn]] = []
    for number in range(images):
        yield from (drawn for due, drawn in late if due <= number)
        late = [item for item in late if item[0] > number]
        wanted = sample_spec(rng, "all")
        for attempt, fate in enumerate(_fates(rng), 1):
            picture_seed = number * 100 + attempt
            shown = _misdrawn(wanted, rng) if fate == "rejected" else wanted
            found = boxes_of(shown, picture_seed) if boxes and fate != "failed" else ()
            drawn = Drawn(_record(number, attempt, fate, (wanted, shown, found), rng), shown, picture_seed)
            if attempt == 1:
                yield drawn
            else:
                late.append((number + 3 * attempt, drawn))
    yield from (drawn for _, drawn in late)


def _fates(rng: np.random.Generator) -> list[str]:
    """What becomes of the attempts of one image."""
    fates = {
        "good": ["accepted"],
        "retried": ["rejected", "accepted"],
        "retried twice": ["rejected", "rejected", "accepted"],
        "flagged": ["flagged"],
        "exhausted": ["rejected"] * ATTEMPTS_LIMIT,
        "failed": ["failed"],
        "remaining": ["rejected"],
    }
    return fates[str(rng.choice(list(fates), p=(0.78, 0.06, 0.04, 0.05, 0.03, 0.02, 0.02)))]


def _misdrawn(wanted: Spec, rng: np.random.Generator) -> Spec:
    """A scene with another word, or with another number of things."""
    if wanted.word:
        return replace(wanted, word=str(rng.choice([word for word in WORDS if word != wanted.word])))
    return replace(wanted, count=2 if wanted.count != 2 else int(rng.choice((1, 3))))


def boxes_of(spec: Spec, seed: int) -> tuple[Box, ...]:
    """Where the word is, or where each thing is: what changes in the picture when the word or the colour does."""
    plain = "red" if spec.colour == "green" else "green"
    other = replace(spec, word=None) if spec.word else replace(spec, colour=plain)
    changed = np.abs(draw(spec, seed).astype(int) - draw(other, seed)).max(axis=2) > 40
    occupied = changed.sum(axis=0) > 2
    if spec.word:  # one box around all letters
        letters = np.flatnonzero(occupied)
        occupied[letters.min() : letters.max() + 1] = True
    edges = np.flatnonzero(np.diff(np.concatenate(([0], occupied, [0])).astype(int))).reshape(-1, 2)
    boxes = []
    for x0, x1 in edges[edges[:, 1] - edges[:, 0] > 8]:
        rows = np.flatnonzero(changed[:, x0:x1].any(axis=1))
        boxes.append(Box(int(x0), int(rows.min()), int(x1), int(rows.max()) + 1))
    return tuple(boxes)


Scene = tuple[Spec, Spec, tuple[Box, ...]]
"""What was wanted, what is shown, and where."""


def _record(number: int, attempt: int, fate: str, scene: Scene, rng: np.random.Generator) -> Record:
    wanted = scene[0]
    digest = hashlib.sha256(f"{number}".encode()).hexdigest()
    row_id = f"{wanted.object.lower().replace(' ', '-')}-{wanted.colour}-{wanted.background}-{number // 2 + 1}"
    outcome: AttemptOutcome = "failed" if fate == "failed" else "rejected" if fate == "rejected" else "accepted"
    verdicts = () if outcome == "failed" else _verdicts(scene, fate, rng)
    started = START_US + (number + 2 * attempt) * STEP_US
    record = Record(
        kind="attempt", job="mockups", plan_digest="7d" * 32, image_id=digest[:32], row_id=row_id, row_digest=digest,
        index=number % 2, attempt=attempt, prompt=captions(wanted)[number % len(captions(wanted))],
        negative_prompt="blurry, low quality, extra letters", seed=int(rng.integers(2**62)), width=256, height=256,
        steps=24, guidance=4.5, text=wanted.word, objects=(ObjectCount(wanted.object, wanted.count),),
        tags=(("campaign", CAMPAIGNS[number % 4]), ("sku", f"{wanted.object[:2].upper()}-{1000 + number}")),
        weights="starter", weights_revision="starter-1", weights_digest="5a" * 32, weights_licence="Apache-2.0",
        scheduler="DPMSolverMultistepScheduler", dtype="float32", device="cpu", driver="", renderfarm_version="0.1.0",
        torch_version="2.13.0", diffusers_version="0.42.1", batch=(digest[:32],), outcome=outcome,
        reason=_reason(outcome, verdicts), verdicts=verdicts, started_us=started, finished_us=started + STEP_US,
    )  # fmt: skip
    return record if outcome == "failed" else _with_file(record)


def _with_file(record: Record) -> Record:
    """The record once its picture is stored."""
    file = hashlib.sha256(f"{record.image_id} {record.attempt}".encode()).hexdigest()
    folder, attempt, short = segment(record.row_id or ""), record.attempt, file[:12]
    is_accepted = record.outcome == "accepted"
    picture = f"images/{folder}/{record.index}-{short}.png"
    if not is_accepted:
        picture = f"review/{folder}/{record.index}-{attempt}-{short}.webp"
    return replace(
        record, watermark_method="renderfarm-spread", watermark_version=1, watermark_key_id="9c41d2aa",
        watermark_payload=file[:24], pdq=file, pdq_quality=92, claim_digest=file[::-1],
        media_type="image/png" if is_accepted else "image/webp", file_sha256=file, file_bytes=91_532,
        object_key=picture, thumb_key=f"thumbs/{folder}/{record.index}-{attempt}-{short}.webp",
    )  # fmt: skip


def _reason(outcome: AttemptOutcome, verdicts: tuple[Verdict, ...]) -> str | None:
    if outcome == "failed":
        return "the renderer ran out of memory at batch size 1 (256 × 256, 24 steps)"
    return judge(verdicts)[1] or None


def _verdicts(scene: Scene, fate: str, rng: np.random.Generator) -> tuple[Verdict, ...]:
    wanted, shown, found = scene
    texts, things = (found, ()) if wanted.word else ((), found)
    read = f"the {wanted.object} reads {shown.word}" if shown.word else "no text, as asked"
    counted = f"{shown.count} × {shown.object}"
    text = Verdict("text", "accepted", read, 1.0, 0.9, texts)
    counts = Verdict("counts", "accepted", counted, 1.0, 1.0, things)
    if shown.word != wanted.word:
        text = Verdict("text", "rejected", f"{read}, expected {wanted.word}", 0.25, 0.9, texts)
        counts = Verdict("counts", "not_run", "rejected earlier")
    if shown.count != wanted.count:
        counts = Verdict("counts", "rejected", f"{counted} found, {wanted.count} wanted", 0.5, 1.0, things)
    verdicts: tuple[Verdict, ...] = (
        Verdict("broken", "accepted", "", round(float(rng.uniform(0.3, 0.9)), 4), 0.05),
        Verdict("watermark", "accepted", "the mark reads back", round(float(rng.uniform(0.9, 1)), 4), 0.75),
        text,
        counts,
    )
    if fate == "flagged":
        verdicts += (Verdict("duplicates", "flagged", "looks much like mug-blue-table-4 #0", 22.0, 31.0),)
    return (*verdicts, Verdict("hands", "not_run", "no people in the prompt"))


def records_of(drawn: list[Drawn]) -> list[Record]:
    """The log: a plan, the attempts, and one image that left the plan."""
    plan = Record(kind="plan", job="mockups", manifest_digest="ab" * 32, settings_digest="cd" * 32, planned=len(drawn))
    gone = Record(kind="superseded", job="mockups", image_id=drawn[0].record.image_id)
    return [plan, *(item.record for item in drawn), gone]


def summary_of(records: list[Record], images: int, waiting: int = 12) -> Summary:
    """The counts that `status` would give; `waiting` images have no record yet."""
    attempts = [record for record in records if record.kind == "attempt"]
    gone = {record.image_id for record in records if record.kind == "superseded"}
    by_image: dict[str | None, list[str | None]] = {}
    for record in attempts:
        if record.image_id not in gone:
            by_image.setdefault(record.image_id, []).append(record.outcome)
    accepted = sum("accepted" in outcomes for outcomes in by_image.values())
    failed = sum("failed" in outcomes for outcomes in by_image.values())
    exhausted = sum(outcomes == ["rejected"] * ATTEMPTS_LIMIT for outcomes in by_image.values())
    rejects = Counter(v.check for record in attempts for v in record.verdicts if v.outcome == "rejected")
    planned = len(by_image) + waiting
    return Summary(
        job="mockups", planned=planned, accepted=accepted, exhausted=exhausted, failed=failed,
        remaining=planned - accepted - exhausted - failed, rejects_by_reason=dict(rejects), rate_per_s=1.11,
        attempts_limit=ATTEMPTS_LIMIT, started_us=START_US, finished_us=START_US + images * STEP_US,
    )  # fmt: skip


def store_pictures(storage: Storage, drawn: list[Drawn]) -> None:
    """The pictures that the records name."""
    for item in drawn:
        if item.record.object_key and item.record.thumb_key:
            pixels = draw(item.spec, item.seed)
            kind = "PNG" if item.record.object_key.endswith(".png") else "WEBP"
            storage.put(item.record.object_key, encoded(pixels, kind), f"image/{kind.lower()}")
            storage.put(item.record.thumb_key, encoded(pixels, "WEBP"), "image/webp")


def encoded(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """uint8 (H, W, 3) as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


SHOTS = (
    ("sheet", "", 1280, 860, False), ("sheet-dark", "", 1280, 860, True), ("sheet-wide", "#size=s", 1920, 1080, False),
    ("sheet-phone", "", 390, 844, False), ("rejected", "#check=:rejected", 1280, 860, False),
    ("detail", "#image={retried}&attempt=1", 1280, 860, False), ("detail-dark", "#image={retried}", 1600, 1000, True),
    ("detail-phone", "#image={retried}&attempt=1", 390, 844, False),
)  # fmt: skip


def take_shots(page: Path, folder: Path, retried: str) -> None:
    """Screenshots of the page in several windows, and its print as PDF."""
    folder.mkdir(parents=True, exist_ok=True)
    with Browser() as browser:
        for name, address, width, height, dark in SHOTS:
            scale = 2.0 if width < 600 else 1.0
            browser.open(page.as_uri() + address.format(retried=retried), width, height, scale, dark)
            browser.screenshot(folder / f"{name}.png")
        browser.open(page.as_uri())
        browser.pdf(folder / "print.pdf")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--shots", action="store_true")
    options = parser.parse_args()
    storage = LocalStorage(options.folder.absolute(), create=True)
    drawn = list(invent(options.images))
    store_pictures(storage, drawn)
    records = records_of(drawn)
    page = options.folder.absolute() / write(storage, records, summary_of(records, options.images))
    print(page)
    if options.shots:
        signs = [item.record.image_id or "" for item in drawn if item.record.attempt == 2 and item.spec.word]
        take_shots(page, options.folder.absolute() / "shots", signs[0])


if __name__ == "__main__":
    main()
