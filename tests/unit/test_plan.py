"""Plan: what changes an image's identity and noise, and what does not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfarm.job import JobSettings
from renderfarm.plan import ImageIds, Intent, attempt_of, batch_key, batches, first_seed, on_ladder, plan_digest, plan_row
from renderfarm.schema import PromptRow

JOB = JobSettings.model_validate({"name": "j", "manifest": "m", "output": {"to": "o"}, "negative_prompt": "blurry"})
INTENT = Intent(JOB, "a" * 64)
ROW = PromptRow("row", "a red mug", images=3)


def one(row: PromptRow = ROW, intent: Intent = INTENT, index: int = 0):
    return plan_row(row, "d" * 64, intent)[index]


def changed_job(**values: object) -> Intent:
    return Intent(JobSettings.model_validate({**JOB.model_dump(), **values}), "a" * 64)


def test_a_row_gives_its_images_in_order_with_distinct_ids_and_seeds() -> None:
    images = plan_row(ROW, "d" * 64, INTENT)
    assert [image.index for image in images] == [0, 1, 2]
    assert len({image.image_id for image in images}) == len({image.seed for image in images}) == 3
    assert all(len(image.image_id) == 32 for image in images)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue mug"},
        {"negative_prompt": "hands"},
        {"seed": 5},
        {"width": 640},
        {"height": 768},
        {"steps": 7},
        {"guidance": 2.0},
        {"adapter": "watercolour"},
        {"strength": 0.5},
        {"id": "other"},
    ],
)
def test_what_changes_pixels_changes_the_image_id(change: dict[str, object]) -> None:
    assert one(replace(ROW, **change)).image_id != one().image_id


@pytest.mark.parametrize("change", [{"text": "OPEN"}, {"tags": (("sku", "1"),)}, {"images": 9}])
def test_what_leaves_the_pixels_alone_leaves_the_image_id_alone(change: dict[str, object]) -> None:
    assert one(replace(ROW, **change)).image_id == one().image_id


@pytest.mark.parametrize(
    "change",
    [
        {"checks": {"attempts": 9}},
        {"output": {"to": "elsewhere", "format": "jpeg"}},
        {"commit": {"images": 1}},
        {"model": {"batch": 8, "memory": "offload"}},
        {"keys": "k"},
        {"name": "other"},
    ],
)
def test_settings_that_change_no_pixels_by_intent_keep_the_image_id(change: dict[str, object]) -> None:
    assert one(intent=changed_job(**change)).image_id == one().image_id


def test_the_weights_and_the_sampler_are_part_of_the_image_id() -> None:
    assert one(intent=Intent(JOB, "b" * 64)).image_id != one().image_id
    assert one(intent=changed_job(model={"scheduler": "euler"})).image_id != one().image_id


def test_editing_a_word_or_previewing_keeps_the_noise() -> None:
    assert one(replace(ROW, prompt="a blue mug", steps=4)).seed == one().seed


def test_a_rows_own_seed_is_used_as_it_is_for_index_0_attempt_1_only() -> None:
    images = plan_row(replace(ROW, seed=1234), "d" * 64, INTENT)
    assert images[0].seed == attempt_of(images[0], 1).seed == 1234
    assert 1234 not in {images[1].seed, attempt_of(images[0], 2).seed}


@given(st.integers(0, 2**63 - 1), st.text(), st.integers(0, 999), st.integers(1, 20))
def test_seeds_are_stable_small_enough_for_json_and_differ_by_attempt(job_seed: int, row_id: str, index: int, number: int) -> None:
    assert first_seed(None, job_seed, row_id, index) == first_seed(None, job_seed, row_id, index) < 2**48
    image = replace(one(), seed=first_seed(None, job_seed, row_id, index), index=index)
    assert attempt_of(image, number).seed != attempt_of(image, number + 1).seed


def test_the_jobs_negative_prompt_comes_before_the_rows() -> None:
    assert one(replace(ROW, negative_prompt="hands")).negative_prompt == "blurry, hands"
    assert one().negative_prompt == "blurry"


def test_batches_keep_keys_apart_and_lose_nothing() -> None:
    rows = [PromptRow(f"r{n}", "p", steps=5 + n % 2, images=3) for n in range(5)]
    attempts = [attempt_of(image, 1) for row in rows for image in plan_row(row, "d", INTENT)]
    cut = batches(attempts, 4)
    assert sorted(a.image.image_id for batch in cut for a in batch) == sorted(a.image.image_id for a in attempts)
    assert all(len(batch) <= 4 and len({batch_key(a.image) for a in batch}) == 1 for batch in cut)


def test_a_plan_digest_names_manifest_settings_and_count() -> None:
    digests = {plan_digest("m", "s", 1), plan_digest("n", "s", 1), plan_digest("m", "t", 1), plan_digest("m", "s", 2)}
    assert len(digests) == 4


def test_a_rung_of_the_ladder_keeps_id_and_seed_and_never_asks_for_less_than_the_row() -> None:
    ladder = [{"after": 1, "steps": 30, "negative_prompt": "blurry"}, {"after": 3, "guidance": 8.0, "negative_prompt": "gibberish"}]
    job = JobSettings.model_validate({"name": "m", "manifest": "-", "output": "-", "checks": {"attempts": 5, "ladder": ladder}})
    (image,) = plan_row(PromptRow("a", "a mug", steps=20, guidance=5.0, negative_prompt="cropped"), "d", replace(INTENT, job=job))
    seen = [on_ladder(attempt_of(image, number), number - 1, job) for number in range(1, 6)]
    assert [a.image.steps for a in seen] == [20, 30, 30, 20, 20] and [a.image.guidance for a in seen] == [5.0, 5.0, 5.0, 8.0, 8.0]
    assert [a.image.negative_prompt for a in seen] == ["cropped", *["cropped, blurry"] * 2, *["cropped, gibberish"] * 2]
    assert {a.image.image_id for a in seen} == {image.image_id}
    assert [a.seed for a in seen] == [attempt_of(image, n).seed for n in range(1, 6)]
    (rich,) = plan_row(PromptRow("b", "a mug", steps=50, guidance=12.0), "d", replace(INTENT, job=job))
    assert [on_ladder(attempt_of(rich, 2), n, job).image.steps for n in (1, 3)] == [50, 50]
    assert on_ladder(attempt_of(rich, 4), 3, job).image.guidance == 12.0


DIGESTS = {"lcm": f"{'1' * 64} at 1.0", "style": f"{'2' * 64} at 0.8"}


def adapted(row: str | None, default: str | None = None, always: tuple[str, ...] = ()):
    intent = replace(changed_job(defaults={"adapter": default, "adapters": always}), adapter_digests=DIGESTS)
    image = one(replace(ROW, adapter=row), intent)
    raw = {"id": ROW.id, "prompt": ROW.prompt, "images": 3} | ({"adapter": row} if row else {})
    assert ImageIds(intent).of(raw)[0].hex() == image.image_id
    return image


def test_one_adapter_keeps_its_images_as_they_were() -> None:
    """The id as it was before there could be several, of the row's own adapter and of the job's."""
    content = {"row": "row", "index": 0, "prompt": "a red mug", "negative_prompt": "blurry", "seed": one().seed, "size": [512, 512],
               "steps": 25, "guidance": 5.0, "scheduler": None, "weights": "a" * 64, "adapter": DIGESTS["lcm"], "init": None,
               "mask": None, "strength": None}  # fmt: skip
    text = json.dumps(["renderfarm image 1", content], sort_keys=True, separators=(",", ":"))
    want = hashlib.sha256(text.encode()).hexdigest()[:32]
    assert adapted("lcm").image_id == adapted(None, "lcm").image_id == adapted("lcm", "style").image_id == want
    assert adapted(None, None, ("lcm",)).image_id == want


def test_several_adapters_are_one_text_whose_order_means_nothing() -> None:
    both = adapted("lcm, style")
    same = (("style,lcm",), ("lcm, style:0.8",), ("style", None, ("lcm",)), (None, "style", ("lcm",)))
    ids = [adapted(*asked).image_id for asked in same]
    assert ids == [both.image_id] * 4, "a weight that is the job's own scale is no other picture"
    others = [adapted(text).image_id for text in ("lcm", "style", "lcm, style:.5", "lcm:.5, style")]
    assert len({both.image_id, *others}) == 5
    assert adapted("style:.5", None, ("style", "lcm")).adapter == "lcm, style:0.5", "the row's weight wins"


@pytest.mark.parametrize("text", ["lcm,", "lcm, lcm", "lcm:x", "lcm:9", ":1", "lcm:nan"])
def test_adapters_that_cannot_be_understood_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no adapter|named twice"):
        changed_job(defaults={"adapters": [text]} if "," not in text else {"adapter": text})


def test_only_what_chunks_may_change_is_another_image() -> None:
    chunked, long = changed_job(model={"long_prompts": "chunk"}), replace(ROW, prompt="a red mug " * 9)
    assert one(long, chunked).image_id != one(long).image_id
    for row in (ROW, long):
        raw = {"id": row.id, "prompt": row.prompt, "images": 3}
        assert ImageIds(chunked).of(raw)[0].hex() == one(row, chunked).image_id
    assert one(ROW, chunked).image_id == one(ROW).image_id
    assert one(long, changed_job(model={"long_prompts": "refuse"})).image_id == one(long).image_id


def test_settings_of_a_model_make_another_image_only_where_a_job_says_them() -> None:
    plain_row, weighted, worded = ROW, replace(ROW, prompt="a (red:1.3) mug"), replace(ROW, prompt="a <cat> mug")
    altered = changed_job(model={"sigmas": "karras", "clip_skip": 1, "guidance_rescale": 0.7})
    read = changed_job(model={"prompt_weights": "read", "long_prompts": "chunk"})
    worded_intent = replace(changed_job(), embedding_digests={"<cat>": "c" * 64})
    for row, intent, differs in (
        (plain_row, altered, True),
        (plain_row, read, False),
        (weighted, read, True),
        (plain_row, worded_intent, False),
        (worded, worded_intent, True),
    ):
        assert (one(row, intent).image_id != one(row).image_id) == differs
        raw = {"id": row.id, "prompt": row.prompt, "images": 3}
        assert ImageIds(intent).of(raw)[0].hex() == one(row, intent).image_id
