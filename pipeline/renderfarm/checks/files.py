"""The checks on any pictures, for people who have files and want verdicts. Models are loaded once; a bad file is one error line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from renderfarm import pictures
from renderfarm.checks import registry
from renderfarm.checks.base import Image
from renderfarm.errors import PictureError, UserError
from renderfarm.job.checks import ChecksSettings
from renderfarm.manifest import wanted_objects
from renderfarm.schema import Box, ObjectCount, PromptRow, Verdict

SIDE_MIN = 16
SIDE_WORK = 2048
"""Larger pictures are judged on a copy with this longer side: no check looks closer, and memory stays bounded. Boxes are scaled back."""
KEYS = ("path", "prompt", "text", "objects")


@dataclass(frozen=True, slots=True)
class Item:
    """One picture file to judge, and what it was meant to show. As in a manifest: `text` None takes it from the prompt, "" wants none."""

    path: str
    prompt: str | None = None
    text: str | None = None
    objects: tuple[ObjectCount, ...] = ()


@dataclass(frozen=True, slots=True)
class FileResult:
    """Verdicts on one file, or one line that says why there are none."""

    path: str
    width: int | None = None
    height: int | None = None
    verdicts: tuple[Verdict, ...] = ()
    error: str | None = None


def check_files(items: Iterable[Item], settings: ChecksSettings) -> Iterator[FileResult]:
    """One result per item, in order, as soon as it is there. Every check looks, whatever the others say: whoever asks wants all scores.

    Near-duplicates are not judged: that needs a job.

    Raises:
        JobError: the settings name a plug-in that cannot be built.
    """
    checks = registry.prepare(registry.build(settings))
    for item in items:
        try:
            image = read_picture(Path(item.path))
        except PictureError as error:
            yield FileResult(item.path, error=f"{error.what} ({error.remedy})" if error.remedy else error.what)
            continue
        row = PromptRow(item.path, item.prompt or "", text=item.text, objects=item.objects)
        height, width = image.shape[:2]
        small, scale = _bounded(image)
        verdicts = tuple(_scaled(v, scale, width, height) for check in checks for v in registry.run([check], small, row))
        yield FileResult(item.path, width, height, verdicts)


def read_picture(path: Path) -> Image:
    """uint8 (H, W, 3) sRGB of a picture file; grey ones get three channels, transparent ones a white ground.

    Raises:
        PictureError: no such file, no picture, damaged, too large, or with a side under 16 pixels.
    """
    image = pictures.read(pictures.read_file(path), str(path)).on_white()
    if min(image.shape[:2]) < SIDE_MIN:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise PictureError(f"too small to judge: {size} pixels, at least {SIDE_MIN} a side are needed", str(path), "use a larger copy")
    return image


def _bounded(image: Image) -> tuple[Image, float]:
    """The image with its longer side at most SIDE_WORK, and by how much it was scaled."""
    import cv2

    scale = min(1.0, SIDE_WORK / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    size = (max(SIDE_MIN, round(image.shape[1] * scale)), max(SIDE_MIN, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _scaled(verdict: Verdict, scale: float, width: int, height: int) -> Verdict:
    if scale == 1.0 or not verdict.boxes:
        return verdict
    boxes = tuple(
        Box(int(b.x0 / scale), int(b.y0 / scale), min(width, round(b.x1 / scale)), min(height, round(b.y1 / scale))) for b in verdict.boxes
    )
    return dataclasses.replace(verdict, boxes=boxes)


def read_items(path: Path) -> Iterator[Item]:
    """Items from JSON lines: `path`, counted from the file's own folder, and optionally `prompt`, `text` and `objects` (in any form that
    `manifest build` takes).

    Raises:
        UserError: the file cannot be read, or a line is no such object (the line is named).
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", str(path), "give a UTF-8 file of JSON lines") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _item(line, path, f"{path}, line {number}")


def _item(line: str, path: Path, where: str) -> Item:
    remedy = 'write {"path": "a.png", "prompt": "...", "text": "...", "objects": {"mug": 2}}'
    try:
        values = json.loads(line)
    except ValueError as error:
        raise UserError(f"no JSON: {error}", where, remedy) from error
    if not isinstance(values, dict) or not isinstance(values.get("path"), str):
        raise UserError("no object with a path", where, remedy)
    unknown = sorted(set(values) - set(KEYS))
    if unknown:
        raise UserError(f"unknown key {unknown[0]!r}", where, remedy)
    for key in ("prompt", "text"):
        if not isinstance(values.get(key), str | None):
            raise UserError(f"{key} is no text", where, remedy)
    try:
        objects = wanted_objects(values["objects"]) if values.get("objects") is not None else ()
    except ValueError as error:
        raise UserError(f"objects: {error}", where, remedy) from None
    return Item(str(path.parent / values["path"]), values.get("prompt"), values.get("text"), objects)
