"""Marks that were made once and must read for ever: a PNG and a JPEG of quality 75 for each version of the mark.

A file here is never made again. A new version adds two; whatever changes in this package or in NumPy, the old ones read.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from renderfarm.pictures import decode, read_file
from renderfarm.watermark import VERSION, VERSIONS, MarkKey, Payload, read

FOLDER = Path(__file__).parents[1] / "data/marks"
MARKS = json.loads((FOLDER / "marks.json").read_text())


def test_each_version_has_a_lossless_and_a_lossy_picture() -> None:
    assert tuple(range(1, VERSION + 1)) == VERSIONS
    assert sorted((mark["version"], mark["file"]) for mark in MARKS) == [(v, f"{v}.{kind}") for v in VERSIONS for kind in ("jpg", "png")]


@pytest.mark.parametrize("mark", MARKS, ids=[mark["file"] for mark in MARKS])
def test_a_mark_of_any_version_reads_as_it_is_and_as_what_people_make_of_it(mark: dict[str, str | int]) -> None:
    picture = decode(read_file(FOLDER / str(mark["file"])))
    keys = [MarkKey.from_bytes(b"another key, also of tests"), MarkKey.from_hex(str(mark["key"]))]
    mirrored, cropped = np.ascontiguousarray(picture[:, ::-1]), np.ascontiguousarray(picture[12:-9, 7:-14])
    smaller = cv2.resize(picture, (200, 200), interpolation=cv2.INTER_AREA)
    for name, copy in {"as it is": picture, "mirrored": mirrored, "smaller": smaller, "cropped": cropped}.items():
        reading = read(copy, keys, search="full" if name == "cropped" else "fast")
        assert reading.payload == Payload(1, str(mark["record"])), name
        assert (reading.version, reading.key_id) == (mark["version"], keys[1].key_id), name
        assert read(copy, keys[:1], search="fast").version is None, name
