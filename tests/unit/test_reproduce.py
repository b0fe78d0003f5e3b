"""Reproduce: what counts as the same picture, and that each difference is explained. The renderer is a function here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from renderfarm import keys
from renderfarm.errors import KeysError, PictureError, RenderFailed, UserError
from renderfarm.log.writer import LogWriter
from renderfarm.models import ModelSettings
from renderfarm.pictures import EXTENSIONS, encode
from renderfarm.records.canonical import sealed
from renderfarm.review import reproduce
from renderfarm.review.reproduce import Pixels, compare, differences, info_of
from renderfarm.schema import RECORD_FIELDS, Adapter, Attempt, Input, Record, RenderInfo
from renderfarm.storage import LocalStorage
from renderfarm.watermark import VERSION, VERSIONS, MarkKey, Payload, embed
from renderfarm.workers import finish
from tests.reviewed import job_json
from tests.simulation.world import SIGNER

KEY = MarkKey.from_bytes(b"k" * 32)
SIDE = 256
SALT = "0f" * 16
INFO = RenderInfo("org/model", "rev", "sha256:00", "MIT", "DDIM", "float32", "cpu", "", "2.13.0", "0.42.1", ("a/1", f"{'b' * 32}/1"))


def picture(seed: int = 0) -> Pixels:
    """uint8 (SIDE, SIDE, 3), textured so that it can carry a mark."""
    return np.random.default_rng(seed).integers(60, 190, (SIDE, SIDE, 3), dtype=np.uint8)


def render(attempts: Sequence[Attempt]) -> tuple[Pixels, RenderInfo]:
    """A deterministic renderer: the picture depends on the attempt's seed, and by one level at one pixel on the batch's size."""
    pixels = np.stack([picture(attempt.seed) for attempt in attempts])
    pixels[:, 0, 0, 0] = 100 + len(attempts)
    return pixels, dataclasses.replace(INFO, batch=tuple(f"{attempt.image.image_id}/{attempt.number}" for attempt in attempts))


ALONE, TOGETHER = (f"{'a' * 32}/3",), (f"{'c' * 32}/1", "", f"{'b' * 32}/1", f"{'a' * 32}/3", "", f"{'d' * 32}/1")
"""Batch compositions in which the record's attempt was rendered alone, and with one other in the second of three batches."""


def made(
    media_type: str = "image/png", batch: tuple[str, ...] = ALONE, version: int = VERSION, key: MarkKey = KEY, records: int = 4
) -> tuple[Record, bytes]:
    """A record and its stored file, as `finish` would leave them."""
    payload = Payload(1, "00000abcdef")
    pixels = picture(7)
    pixels[0, 0, 0] = 101 if batch == ALONE else 102
    data = encode(embed(pixels[None], [payload], key, version=version)[0], media_type, quality=92)
    record = Record(
        kind="attempt", version=records, image_id="a" * 32, row_id="mug", row_digest="d", index=0, attempt=3, prompt="a mug",
        negative_prompt="", seed=7, width=SIDE, height=SIDE, steps=2, guidance=4.0, outcome="accepted", watermark_payload=payload.record,
        watermark_key_id=key.key_id, watermark_version=version, media_type=media_type,
        file_sha256=hashlib.sha256(data).hexdigest(), object_key="images/mug/0.png",
        **({name: getattr(INFO, name) for name in RECORD_FIELDS if hasattr(INFO, name)} | {"batch": batch}),
    )  # fmt: skip
    return sealed(dataclasses.replace(record, salt=SALT, drawing_id="a" * 32) if records > 3 else record), data


def neighbour(record: Record, image_id: str) -> Record:
    """The record of another image's first attempt."""
    return sealed(dataclasses.replace(record, image_id=image_id, drawing_id=record.drawing_id and image_id, attempt=1, seed=8))


@pytest.mark.parametrize("media_type", sorted(EXTENSIONS))
@pytest.mark.parametrize("records", [3, 4])
def test_a_faithful_renderer_is_bit_identical(media_type: str, records: int) -> None:
    record, data = made(media_type, records=records)
    answer = reproduce.reproduce(record, data, render, [KEY])
    assert (answer.comparison.kind, answer.same, answer.reasons) == ("bit-identical", True, ())
    assert str(answer) == f"image {'a' * 32}, attempt 3: bit-identical to the stored picture"
    assert json.loads(json.dumps(answer.as_json()))["comparison"]["psnr_db"] is None


@pytest.mark.parametrize("version", VERSIONS)
def test_the_mark_is_of_the_records_version(version: int) -> None:
    record, data = made(version=version)
    assert reproduce.reproduce(record, data, render, [KEY]).comparison.kind == "bit-identical"
    with pytest.raises(UserError, match="marked by version 9 of the watermark, which this program does not make"):
        reproduce.reproduce(dataclasses.replace(record, watermark_version=9), data, render, [KEY])


def test_one_grey_level_in_another_batch_is_within() -> None:
    record, data = made(batch=TOGETHER)
    answer = reproduce.reproduce(record, data, render, [KEY])
    assert answer.same and answer.comparison.kind == "within" and answer.comparison.grey_levels_max in (1, 2)
    assert answer.reasons == ("another batch: 2 attempts then, 1 now",)
    assert "another batch" in str(answer)


def test_in_the_recorded_batch_it_is_bit_identical() -> None:
    record, data = made(batch=TOGETHER)
    log = [Record("plan"), neighbour(record, "c" * 32), record, neighbour(record, "b" * 32), neighbour(record, "d" * 32)]
    found = reproduce.neighbours(log, record)
    assert list(found) == [f"{'b' * 32}/1"], "those of the batches before and after do not matter"
    answer = reproduce.reproduce(record, data, render, [KEY], neighbours=found)
    assert (answer.comparison.kind, answer.reasons) == ("bit-identical", ())


def test_a_neighbour_that_cannot_be_rendered_any_more_is_left_out() -> None:
    record, data = made(batch=TOGETHER)

    def picky(attempts: Sequence[Attempt]) -> tuple[Pixels, RenderInfo]:
        if len(attempts) > 1:
            raise RenderFailed("the input 'a.png' cannot be read any more")
        return render(attempts)

    answer = reproduce.reproduce(record, data, picky, [KEY], neighbours={f"{'b' * 32}/1": neighbour(record, "b" * 32)})
    assert answer.same and answer.reasons == ("another batch: 2 attempts then, 1 now",)
    assert reproduce.neighbours(iter([]), made()[0]) == {}


def test_another_picture_is_different_and_unexplained_where_nothing_changed() -> None:
    record, data = made()
    answer = reproduce.reproduce(record, data, lambda attempts: (picture(8)[None], dataclasses.replace(INFO, batch=ALONE)), [KEY])
    assert not answer.same and answer.comparison.kind == "different" and answer.comparison.psnr_db < 20
    assert answer.reasons == () and "nothing explains the difference" in str(answer)


def test_each_change_is_named() -> None:
    now = dataclasses.replace(INFO, device="NVIDIA H200", torch_version="2.14.0", batch=(), weights_digest="sha256:11")
    assert differences(INFO, now) == (
        "other weights: sha256:00 then, sha256:11 now",
        "another device: cpu then, NVIDIA H200 now",
        "another version of torch: 2.13.0 then, 2.14.0 now",
        "another batch: 2 attempts then, 0 now",
    )
    lossy = dataclasses.replace(INFO, settings=(("lossy.reuse", "2"),), adapters=(Adapter("ink", "aa", 0.5),))
    assert differences(lossy, INFO) == (
        "another adapter ink: aa at 0.5 then, none now",
        "another lossy.reuse: 2 then, none now",
    )
    assert differences(INFO, INFO) == ()


def test_a_changed_controlnet_or_adapter_is_named() -> None:
    before, now = {"adapter ink": "aa", "controlnet": "cc"}, {"adapter other": "bb", "controlnet": "cd"}
    changed = reproduce.changed_beside(before, now)
    assert changed == (
        "another adapter ink: aa then, none now", "another controlnet: cc then, cd now",
    )  # fmt: skip
    record, data = made()
    assert reproduce.reproduce(record, data, render, [KEY], changed=changed).reasons == changed
    assert reproduce.changed_beside(now, now) == ()


def test_without_the_watermark_key_there_is_no_answer_and_nothing_is_rendered() -> None:
    record, data = made()
    rendered: list[object] = []
    with pytest.raises(KeysError, match=f"watermark key {KEY.key_id}, which is not at hand") as caught:
        reproduce.reproduce(record, data, lambda attempts: rendered.append(attempts) or render(attempts), [MarkKey.from_bytes(b"x" * 32)])
    assert not rendered and "--trust DIR" in caught.value.remedy


def test_a_picture_without_a_mark_needs_no_key() -> None:
    record, _ = made()
    pixels = picture(7)
    pixels[0, 0, 0] = 101
    data = encode(pixels, "image/png")
    bare = dataclasses.replace(record, watermark_payload=None, watermark_key_id=None, file_sha256=hashlib.sha256(data).hexdigest())
    assert reproduce.reproduce(bare, data, render, []).comparison.kind == "bit-identical"


def test_a_file_that_is_not_the_recorded_one_is_refused() -> None:
    record, data = made()
    with pytest.raises(PictureError, match="not the one in the log"):
        reproduce.reproduce(record, data + b"x", render, [KEY])


def test_a_record_without_picture_or_fields_is_refused() -> None:
    record, data = made()
    with pytest.raises(UserError, match="no stored picture"):
        reproduce.reproduce(dataclasses.replace(record, file_sha256=None), data, render, [KEY])
    with pytest.raises(UserError, match="lacks prompt, steps"):
        reproduce.attempt_of(dataclasses.replace(record, steps=None, prompt=None))
    with pytest.raises(UserError, match="a plan record"):
        reproduce.attempt_of(Record("plan"))
    gone = dataclasses.replace(record, salt=None, prompt=None, negative_prompt=None, seed=None, row_id=None)
    with pytest.raises(UserError, match=r"what image a{32} was asked for was forgotten") as caught:
        reproduce.attempt_of(gone)
    assert "still verify" in caught.value.remedy
    assert reproduce.neighbours([gone], made(batch=TOGETHER)[0]) == {}


def test_the_attempt_is_what_was_recorded() -> None:
    record, _ = made()
    attempt = reproduce.attempt_of(record)
    assert (attempt.number, attempt.seed, attempt.image.prompt, attempt.image.width) == (3, 7, "a mug", SIDE)
    assert info_of(record) == dataclasses.replace(INFO, batch=ALONE)
    given = (Input("init", "1" * 64, "a.png"), Input("mask", "2" * 64, "b.png"))
    rich = dataclasses.replace(record, inputs=given, adapters=(Adapter("lcm", "bb", 1.0), Adapter("ink", "aa", 0.8)))
    assert reproduce.attempt_of(rich).image.inputs() == given and reproduce.attempt_of(rich).image.adapter == "ink:0.8, lcm:1.0"
    beyond: list[dict[str, Any]] = [{"inputs": given + given[:1]}, {"inputs": (Input("product", "3" * 64),)}]
    for more in beyond:
        with pytest.raises(UserError, match="cannot put together"):
            reproduce.attempt_of(dataclasses.replace(rich, **more))


def test_the_payload_is_the_one_that_finish_gives() -> None:
    record, _ = made()
    assert finish.payload_of(reproduce.attempt_of(record)).version == reproduce.PAYLOAD_VERSION


def test_the_accepted_attempt_is_chosen() -> None:
    record, _ = made()
    rejected = dataclasses.replace(record, attempt=1, outcome="rejected")
    assert reproduce.accepted([rejected, record], "a" * 32) == record
    with pytest.raises(UserError, match="was accepted"):
        reproduce.accepted([rejected], "a" * 32)
    with pytest.raises(UserError, match="not in this output"):
        reproduce.accepted([record], "b" * 32)


def written(folder: Path, *records: Record) -> LocalStorage:
    """An output with these records and job.json."""
    storage = LocalStorage(folder, create=True)
    LogWriter.open(storage, "mugs", SIGNER).append([Record("plan", job="mugs", plan_digest="p", planned=len(records)), *records])
    storage.put("job.json", job_json())
    return storage


def opened(digest: str, asked: list[ModelSettings]) -> Callable[[ModelSettings], reproduce.Model]:
    """What stands in for the model: `render`, with weights of this digest. `asked`: for which settings it was opened."""
    return lambda settings: asked.append(settings) or reproduce.Model(digest, {}, render)


def test_an_image_of_an_output_is_rendered_again_with_its_batch(tmp_path: Path) -> None:
    key_set = keys.init(tmp_path / "keys")
    record, data = made(batch=TOGETHER, key=key_set.mark_key)
    storage = written(tmp_path / "out", neighbour(record, "b" * 32), record)
    storage.put(str(record.object_key), data)
    notes: list[str] = []
    for name in (str(record.image_id), "mug:0"):
        answer = reproduce.reproduce_image(storage, name, key_set.folder, notes.append, opened(INFO.weights_digest, []))
        assert (answer.comparison.kind, answer.reasons, notes) == ("bit-identical", (), [])
    answer = reproduce.reproduce_image(storage, str(record.image_id), key_set.folder, notes.append, opened("sha256:11", []))
    assert answer.same and notes == ["the record's weights were sha256:00, these are sha256:11"]


def test_what_is_missing_is_said_before_weights_are_read(tmp_path: Path) -> None:
    trust = keys.init(tmp_path / "keys").folder
    record, data = made()
    storage = written(tmp_path / "out", record)
    asked: list[ModelSettings] = []
    with pytest.raises(UserError, match=r"the picture images/mug/0\.png is gone"):
        reproduce.reproduce_image(storage, "mug:0", trust, open_model=opened("", asked))
    storage.put(str(record.object_key), data)
    with pytest.raises(KeysError, match="not at hand"):
        reproduce.reproduce_image(storage, "mug:0", trust, open_model=opened("", asked))
    assert not asked


def test_compare_counts_levels_pixels_and_decibels() -> None:
    base = np.full((10, 10, 3), 100, np.uint8)
    assert compare(base, base) == reproduce.Comparison("bit-identical", 0, math.inf, 0.0)
    other = base.copy()
    other[0, 0, 1] = 97
    found = compare(base, other)
    assert (found.kind, found.grey_levels_max, found.share) == ("different", 3, 0.01)
    assert found.psnr_db == pytest.approx(10 * math.log10(255**2 / (9 / 300)))
    assert compare(base, other, levels_max=3).kind == "within"
    assert compare(base, base[:5]).kind == "different", "another size"
    assert compare(np.zeros_like(base), np.full_like(base, 255)).grey_levels_max == 255, "no wrap-around"
