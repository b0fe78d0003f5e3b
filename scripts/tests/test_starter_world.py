"""The drawn world: what it holds, what is kept from training, and that its pictures show what their specs say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from scripts.starter import world
from scripts.starter.world import Spec, all_specs, captions, draw, is_held_out, sample_spec, slots


def test_the_world_is_as_large_as_promised() -> None:
    assert len(world.OBJECTS) >= 8 and len(world.COLOURS) >= 10 and len(world.WORDS) >= 12
    assert len(world.BACKGROUNDS) >= 4 and world.COUNTS == (1, 2, 3)


def test_one_combination_in_five_is_held_out_and_the_splits_do_not_meet() -> None:
    held, train = all_specs("held_out"), all_specs("train")
    assert len(held) / len(all_specs()) == pytest.approx(0.2, abs=0.001)
    assert not set(held) & set(train) and set(held) | set(train) == set(all_specs())


def test_no_caption_of_a_held_out_scene_is_a_caption_in_training() -> None:
    trained = {text for spec in all_specs("train") for text in captions(spec)}
    assert not [text for spec in all_specs("held_out") for text in captions(spec) if text in trained]


@pytest.mark.parametrize("pair", [("object", "colour"), ("colour", "background"), ("object", "count")])
def test_every_pair_of_attributes_occurs_in_training(pair: tuple[str, str]) -> None:
    seen = Counter((getattr(spec, pair[0]), getattr(spec, pair[1])) for spec in all_specs("train"))
    assert set(seen) == {(getattr(spec, pair[0]), getattr(spec, pair[1])) for spec in all_specs()}


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_sampled_scenes_are_of_the_split(split: world.Split) -> None:
    rng = np.random.default_rng(3)
    assert {is_held_out(sample_spec(rng, split)) for _ in range(50)} == {split == "held_out"}


def test_a_word_needs_one_object_that_bears_it() -> None:
    with pytest.raises(AssertionError):
        Spec("mug", "red", "beach", 1, "OPEN")
    with pytest.raises(AssertionError):
        Spec("sign", "red", "beach", 2, "OPEN")


def test_captions_name_everything_and_count_in_words() -> None:
    assert captions(Spec("box", "orange", "table", 2))[0] == "two orange boxes on a wooden table"
    assert 'an orange sign that says "OPEN" on the beach' in captions(Spec("sign", "orange", "beach", 1, "OPEN"))
    assert all(2 <= len(set(captions(spec))) <= 40 for spec in all_specs())


def test_the_same_seed_draws_the_same_pixels_and_another_seed_does_not() -> None:
    spec = Spec("mug", "green", "brick", 2)
    first, again, other = draw(spec, 5), draw(spec, 5), draw(spec, 6)
    assert first.shape == (256, 256, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 2.0


@pytest.mark.parametrize("thing", world.OBJECTS)
@pytest.mark.parametrize("count", world.COUNTS)
def test_the_colour_asked_for_is_where_the_objects_stand(thing: str, count: int) -> None:
    spec = Spec(thing, "purple", "studio", count)
    image = draw(spec, 11).astype(float)
    for x, base, half in slots(spec):
        row, column = round((base - 1.15 * half) * 256), round(x * 256)
        red, green, blue = image[row - 3 : row + 4, column - 3 : column + 4].reshape(-1, 3).mean(0)
        assert blue > green + 40 and blue > red + 15 and red > green + 15, (red, green, blue)


def test_a_word_changes_only_the_object_that_bears_it() -> None:
    plain, worded = draw(Spec("sign", "blue", "garden"), 2), draw(Spec("sign", "blue", "garden", 1, "STOP"), 2)
    rows, columns = np.nonzero(np.abs(plain.astype(int) - worded).max(2) > 8)
    assert len(rows) > 500
    ((x, base, half),) = slots(Spec("sign", "blue", "garden"))
    assert abs(columns.mean() / 256 - x) < 0.08 and base - 2.2 * half < rows.mean() / 256 < base - half


@pytest.mark.parametrize("word", world.WORDS)
def test_every_word_has_its_letters(word: str) -> None:
    others = [other for other in world.WORDS if other != word][:2]
    pictures = [draw(Spec("sign", "white", "studio", 1, each), 1) for each in (word, *others)]
    assert all(np.abs(pictures[0].astype(int) - other).max() > 100 for other in pictures[1:])
