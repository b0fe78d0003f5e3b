"""What the starter weights are trained on: where letters are, which scenes bear them, how they are told, and weights gone on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.starter import model, train
from scripts.starter.data import Phrasings, letter_share, scenes, spec_at
from scripts.starter.world import Spec, captions, compose, draw, is_held_out


@pytest.mark.parametrize("thing", ["box", "T-shirt", "tote bag", "sign"])
def test_the_lettering_holds_all_that_a_word_changes_and_little_more(thing: str) -> None:
    for seed in range(6):
        first, second = Spec(thing, "blue", "table", 1, "OPEN"), Spec(thing, "blue", "table", 1, "SALE")
        moved = np.abs(draw(first, seed).astype(int) - draw(second, seed)).max(-1) > 8
        lettering = compose(first, seed).lettering
        assert lettering is not None
        x0, y0, x1, y1 = (256 * edge for edge in lettering)
        rows, columns = np.nonzero(moved)
        stroke = 6  # pixels that round ends of strokes reach beyond it
        assert columns.min() >= x0 - stroke and columns.max() <= x1 + stroke
        assert rows.min() >= y0 - stroke and rows.max() <= y1 + stroke
        assert columns.max() - columns.min() > 0.8 * (x1 - x0) and rows.max() - rows.min() > 0.8 * (y1 - y0)


def test_a_word_moves_by_whole_latents_only() -> None:
    boxes = [compose(Spec("sign", "blue", "beach", 1, "OPEN"), seed).lettering for seed in range(12)]
    edges = {tuple(round(16 * edge, 3) for edge in box) for box in boxes if box is not None}
    assert len(edges) == 3 and len({top for _, top, _, _ in edges}) == 1
    assert len({round(left % 1, 3) for left, *_ in edges}) == 1


def test_a_scene_without_a_word_has_no_lettering() -> None:
    assert compose(Spec("mug", "red", "beach"), 1).lettering is None


def test_shares_of_cells_add_up_to_the_rectangle() -> None:
    boxes = torch.tensor([[0.25, 0.3, 0.77, 0.5], [0.0, 0.0, 0.0, 0.0]])
    share = letter_share(boxes, 16)
    assert share.shape == (2, 1, 16, 16) and share.min() >= 0 and share.max() <= 1
    assert share[0].sum() / 256 == pytest.approx(0.52 * 0.2, abs=1e-5) and share[1].sum() == 0
    rows, columns = share[0, 0].nonzero().T
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (4, 12, 4, 7)  # x first, then y


def test_the_second_set_bears_words_and_nothing_that_is_held_out() -> None:
    specs = [spec_at(index, 1, worded=True) for index in range(40)]
    assert all(spec.word is not None and not is_held_out(spec) for spec in specs)
    assert len({spec.word for spec in specs}) > 8 and len({spec.object for spec in specs}) == 4


def test_both_sets_are_drawn_once_and_lie_in_one_row(tmp_path: Path) -> None:
    data = scenes(tmp_path, 5, 3, seed=2)
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = scenes(tmp_path, 5, 3, seed=2)
    assert len(data) == 8 and files == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for index in range(8):
        assert np.array_equal(data.picture(index), again.picture(index))
        assert bool(data.lettering[index].any()) == (data.specs[index].word is not None) == (index in data.worded.tolist())
    assert {5, 6, 7} <= set(data.worded.tolist())


def test_an_interrupted_drawing_is_begun_again(tmp_path: Path) -> None:
    whole = np.array(scenes(tmp_path, 2, 2, seed=2).picture(3))
    (tmp_path / "worded-2-2-labels.npz").unlink()
    assert np.array_equal(scenes(tmp_path, 2, 2, seed=2).picture(3), whole)


@pytest.mark.parametrize(("widths", "goes_on"), [((48, 32, 64), True), ((48, 48, 64), False)])
def test_training_goes_on_from_a_denoiser_of_the_same_widths_only(tmp_path: Path, widths: tuple[int, int, int], goes_on: bool) -> None:
    torch.manual_seed(0)
    words = model.tokenizer()
    text, unet = model.text_encoder(words), model.denoiser(widths)
    kept = text.final_layer_norm.bias.detach().fill_(3.0).clone()
    model.save(model.assemble(model.autoencoder(), words, text, unet), tmp_path)
    run = train.Run(tmp_path, train.PRESETS["smoke"], 1, "cpu", tmp_path, 1, tmp_path)
    _, modules = train._conditioned(run)
    found: dict[str, Any] = dict(modules.items())
    assert torch.equal(found["text"].final_layer_norm.bias, kept) == goes_on
    assert found["unet"].config.block_out_channels == (48, 32, 64)


def test_a_scene_gets_each_of_its_phrasings_and_now_and_then_none() -> None:
    words = model.tokenizer()
    specs = [Spec("mug", "red", "table", 2), Spec("sign", "blue", "beach", 1, "OPEN"), Spec("mug", "red", "table", 2)]
    phrasings = Phrasings(specs, words, "cpu")
    rng = torch.Generator().manual_seed(1)
    for index, spec in enumerate(specs):
        ids = phrasings.pick(torch.full((900,), index), rng, dropped=0.1)
        wanted = {tuple(words(text, padding="max_length").input_ids) for text in captions(spec)}
        empty = tuple(words("", padding="max_length").input_ids)
        found = [tuple(row) for row in ids.tolist()]
        assert set(found) == wanted | {empty}
        assert found.count(empty) / 900 == pytest.approx(0.1, abs=0.03)


def test_lettered_pictures_train_at_middling_noise_and_the_rest_evenly() -> None:
    steps = train._time_steps(4000, 2000, torch.Generator().manual_seed(1))
    lettered, rest = steps[:2000].float() / 1000, steps[2000:].float() / 1000
    assert steps.min() >= 0 and steps.max() <= 999
    assert ((lettered > 0.25) & (lettered < 0.75)).float().mean() > 0.65
    assert ((rest > 0.25) & (rest < 0.75)).float().mean() == pytest.approx(0.5, abs=0.05)


def test_a_batch_has_its_worded_part_and_the_rest_from_the_even_set() -> None:
    worded = torch.tensor([2, 5, *range(10, 40)])
    drawn = torch.stack([train._part_worded(10, 8, 5, worded, torch.Generator().manual_seed(seed)) for seed in range(200)])
    assert set(drawn[:, :5].flatten().tolist()) == set(worded.tolist()) and set(drawn[:, 5:].flatten().tolist()) == set(range(10))
