"""Figures of outputs and folders: what they are of, how sure they are, and what cannot be evaluated."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from renderfarm import keys
from renderfarm.cli import main
from renderfarm.errors import UserError
from renderfarm.evaluate.campaign import COLOURS, FEATURES, consistency
from renderfarm.evaluate.evaluation import Evaluation, Network, PromptFit
from renderfarm.evaluate.figures import figures_of, shared_rows
from renderfarm.evaluate.fragility import PARAPHRASE, Moved
from renderfarm.evaluate.gather import Sample, SampleSet, drawn, gather, opened, palette, tag_of
from renderfarm.evaluate.geneval import Judged
from renderfarm.evaluate.kept import keep, kept
from renderfarm.evaluate.page import page_html
from renderfarm.log.writer import LogWriter
from renderfarm.storage import LocalStorage
from tests import encoders, outputs


def drawn_set(source: str, count: int = 60, shift: float = 0.0, seed: int = 1, per_row: int = 2, tags: int = 0) -> SampleSet:
    """Features around a middle, a row every `per_row` pictures."""
    random = np.random.default_rng(seed)
    features = (random.normal(size=(count, 8)) + shift).astype(np.float32)
    named = [(("sku", f"s{at % tags}"),) if tags else () for at in range(count)]
    samples = [Sample(f"{at}.png", f"row-{at // per_row}", at % per_row, "a mug", tag) for at, tag in enumerate(named)]
    return SampleSet(source, tuple(samples), random.normal(50, 1, (count, 48)), features, np.ones((count, 8), np.float32))


def by_name(one: SampleSet, *more: SampleSet | None) -> dict[tuple[str, str], float]:
    return {(figure.name, figure.of): figure.value for figure in figures_of(one, *more)}


def test_every_figure_has_an_interval_around_it_and_says_how_many_pictures() -> None:
    figures = figures_of(drawn_set("a"), drawn_set("real", 80, 0.2, 2, 1))
    names = ["fid", "fid:unbiased", "kid", "precision", "recall", "density", "coverage", "clip_score", "diversity", "row_diversity"]
    assert [figure.name for figure in figures] == names
    for figure in figures:
        assert figure.low is not None and figure.high is not None and figure.low <= figure.value <= figure.high and figure.count == 60
    fid, unbiased = figures[:2]
    assert fid.bias is not None and fid.bias > 0 and unbiased.value == pytest.approx(fid.value - fid.bias)
    assert unbiased.title == "FID, bias removed"


def test_two_outputs_are_compared_by_the_rows_they_share() -> None:
    one, other = drawn_set("steps-8"), drawn_set("steps-20", 80)
    both, others, left = shared_rows(one, other)
    assert len(both.samples) == len(others.samples) == 60 and left.startswith("20 pictures of rows that only one output has")
    found = by_name(both, drawn_set("real", 80, 0.2, 2, 1), others)
    assert {of for _, of in found} == {"output", "against", "difference", "between"}
    assert found["fid", "difference"] == pytest.approx(found["fid", "against"] - found["fid", "output"])
    assert found["distance", "between"] == pytest.approx(by_name(both, None, others)["distance", "between"])
    *same, left = shared_rows(one, SampleSet("x", (Sample("p", "p"), Sample("q", "q")), one.colours[:2], one.features))
    assert same[0] is one and left == "the outputs share no rows: their difference is not a paired one"


def test_the_difference_of_an_output_from_itself_is_nothing_and_surely_so() -> None:
    one = drawn_set("a")
    for figure in figures_of(one, drawn_set("real", 80, 0.2, 2, 1), one):
        if figure.of == "difference":
            assert (figure.value, figure.low, figure.high) == (0, 0, 0), figure.name


def test_one_picture_is_too_few_and_one_row_has_no_interval() -> None:
    with pytest.raises(UserError, match="there is one picture"):
        figures_of(drawn_set("a", 1))
    with pytest.raises(UserError, match="there is one picture"):
        figures_of(drawn_set("a"), drawn_set("real", 1))
    assert all(figure.low is None for figure in figures_of(drawn_set("a", 6, per_row=6)))
    few = figures_of(drawn_set("a", 4), drawn_set("real", 5))
    assert [figure.name for figure in few] == ["fid", "fid:unbiased", "kid", "clip_score", "diversity", "row_diversity"]


def test_a_share_is_never_surer_than_its_count() -> None:
    one = drawn_set("a", 40)
    (recall,) = (figure for figure in figures_of(one, one) if figure.name == "recall")
    assert recall.value == 1 and recall.low is not None and recall.low < 0.95


def test_pictures_without_prompts_have_no_clip_score() -> None:
    one = drawn_set("a")
    assert one.words is not None
    one.words[::2] = np.nan
    assert by_name(one)["clip_score", "output"] == pytest.approx(by_name(one.of(range(1, 60, 2)))["clip_score", "output"])
    one.words[:] = np.nan
    assert ("clip_score", "output") not in by_name(one)


# --- where pictures come from ---


def pictures(folder: Path, count: int) -> Path:
    from renderfarm.pictures import encode

    folder.mkdir()
    for at in range(count):
        (folder / f"{at}.png").write_bytes(encode(np.full((16, 16, 3), 20 * at, np.uint8), "image/png"))
    return folder


def test_a_folder_is_read_and_what_is_no_picture_is_said(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 3)
    (folder / "notes.txt").write_text("x")
    assert [sample.name for sample in gather(opened(str(folder)), None).samples] == ["0.png", "1.png", "2.png"]
    (folder / "3.png").write_text("no picture")
    found = gather(opened(str(folder)), None)
    assert len(found.samples) == 3 and found.notes[0].startswith("1 pictures cannot be read and are left out, such as 3.png")
    for path in folder.glob("?.png"):
        path.write_text("no picture")
    with pytest.raises(UserError, match="none of 4 pictures can be read"):
        gather(opened(str(folder)), None)
    for path in folder.glob("?.png"):
        path.unlink()
    for name, what in (("p", "no picture in this folder"), ("nowhere", "no such folder"), ("p/notes.txt", "this is a file")):
        with pytest.raises(UserError, match=what):
            opened(str(tmp_path / name))


def test_some_pictures_are_the_same_ones_each_time() -> None:
    samples = drawn_set("a").samples
    some = drawn(samples, 20)
    assert some == drawn(samples, 20) and len(some) == 20 and set(some) < set(drawn(samples, 30)) and drawn(samples, None) == list(samples)


def test_kept_features_are_of_one_network(tmp_path: Path) -> None:
    one = drawn_set("a")
    keep(tmp_path / "a.safetensors", one, "d1")
    again = kept(tmp_path / "a.safetensors", "d1", 8)
    assert again.features is not None and np.array_equal(again.features, one.features) and len(again.samples) == 60  # type: ignore[arg-type]
    with pytest.raises(UserError, match="8 numbers, those of --features 16"):
        kept(tmp_path / "a.safetensors", "d1", 16)
    with pytest.raises(UserError, match="of another network"):
        kept(tmp_path / "a.safetensors", "d2", 8)
    with pytest.raises(UserError, match=r"end it in \.safetensors"):
        keep(tmp_path / "a.npz", one, "d1")
    (tmp_path / "b.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    for name, what in (("b.safetensors", "no features that were kept"), ("c.safetensors", "no such file")):
        with pytest.raises(UserError, match=what):
            kept(tmp_path / name, "d1", 8)


# --- consistency ---


def test_pictures_of_one_product_are_held_against_those_of_others() -> None:
    random = np.random.default_rng(1)
    one = drawn_set("a", 60, per_row=1, tags=3)
    middles = random.normal(0, 5, (3, 8))
    features = (middles[np.arange(60) % 3] + random.normal(0, 0.5, (60, 8))).astype(np.float32)
    features[7] = middles[0]  # of s1, and looks like s0
    one = SampleSet("a", one.samples, one.colours, features)
    found = consistency(one, "tag.sku")
    by_features, by_colours = found.measures
    assert (by_features.measure, by_colours.measure) == (FEATURES, COLOURS)
    assert by_features.ratio is not None and by_features.low is not None and by_features.high is not None
    assert by_features.low < by_features.ratio < by_features.high and by_features.ratio < 0.3
    assert by_colours.ratio == pytest.approx(1, abs=0.1), "colours say nothing here"
    assert [outlier.row for outlier in by_features.outliers] == ["row-7"] and by_features.outliers[0].group == "s1"
    assert by_features.circles[0].name == "s1" and sum(circle.count for circle in by_features.circles) == 60
    assert consistency(one, "sku") == consistency(SampleSet("a", one.samples, one.colours, features), "sku")


def test_tags_that_nobody_has_or_that_all_differ_in(tmp_path: Path) -> None:
    one = drawn_set("a", 6, tags=6)
    with pytest.raises(UserError, match=r"no picture has a tag 'brand'; there are: tag\.sku"):
        consistency(one, "tag.brand")
    with pytest.raises(UserError, match="no two pictures share"):
        consistency(one, "tag.sku")
    assert tag_of(one.samples, "sku")[0] == "s0"
    alike = SampleSet("a", one.samples[:2] * 2, np.zeros((4, 48)))
    (by_colours,) = consistency(alike, "sku").measures
    assert (by_colours.within, by_colours.ratio, by_colours.outliers) == (0, None, ())


def test_palettes_are_in_units_of_cielab() -> None:
    black, white, grey = (palette(np.full((20, 30, 3), value, np.uint8)) for value in (0, 255, 119))
    assert np.linalg.norm(black - white) == pytest.approx(100, abs=0.1) and np.linalg.norm(black - grey) == pytest.approx(50, abs=1)
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:32] = 255
    assert np.allclose(palette(halves), palette(halves[::-1])), "wherever they are"
    assert json.dumps(palette(halves).tolist())


# --- the command ---


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two outputs of the same rows, folders of pictures, and weights."""
    base = tmp_path_factory.mktemp("evaluate")
    encoders.clip(base / "clip")
    encoders.clip(base / "wider", size=24)
    outputs.build(base / "out", base / "keys")
    outputs.build(base / "again", base / "keys", at_us=outputs.START_US + 5)
    pictures(base / "one", 1)
    pictures(base / "real", 9)
    shutil.copytree(base / "clip", base / "pickle")
    (base / "pickle" / "model.safetensors").rename(base / "pickle" / "pytorch_model.bin")
    (base / "text").mkdir()
    (base / "text" / "a.txt").write_text("x")
    (base / "boxes.jsonl").write_text('{"row": "row-1", "boxes": []}\n')
    empty = LocalStorage(base / "empty", create=True)
    job = outputs.job_json()
    empty.put("job.json", job)
    made = outputs.Output(base / "empty", keys.load(base / "keys"), keys.load(base / "keys").trust())
    LogWriter.open(empty, "mugs", made.signer).append([outputs.plan_record(6, job)])
    return base


def test_an_output_against_another_and_a_reference(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, kept_file = tmp_path / "page.html", tmp_path / "real.safetensors"
    given = ["--features", str(place / "clip"), "--by", "tag.campaign"]
    assert main(["evaluate", str(place / "real"), "--features", str(place / "clip"), "--keep", str(kept_file)]) == 0
    capsys.readouterr()
    for reference in (place / "real", kept_file):
        args = ["evaluate", str(place / "out"), "--against", str(place / "again"), "--reference", str(reference), *given]
        assert main([*args, "-o", str(page), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (
            (found["pictures"], found["rows"]) == (4, 4) and found["features"]["kind"] == "clip" and len(found["features"]["digest"]) == 64
        )
        names = {figure["name"] for figure in found["figures"]}
        assert {"fid", "fid:unbiased", "kid", "clip_score", "diversity", "distance"} <= names
        assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in found["figures"] if figure["low"] is not None)
        assert {one["measure"] for one in found["consistency"]["measures"]} == {FEATURES, COLOURS}
        assert any("too large" in note for note in found["notes"]) and any("Inception" in note for note in found["notes"])
        assert main(args) == 0
        said = capsys.readouterr().out
        assert "difference, against − output:" in said and "no difference is shown" in said and "by tag.campaign" in said
    text = page.read_text()
    assert (
        text.count("<svg") == 2
        and "data:image/webp;base64," in text
        and "<script" not in text
        and "http" not in text.replace("http-equiv", "")
    )


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["{out}"], "there is nothing to evaluate by"),
        (["{out}", "--reference", "{real}"], "there is nothing to compare pictures by"),
        (["{out}", "--features", "{nowhere}"], "no weights with a config.json"),
        (["{out}", "--features", "{pickle}"], "the weights are a pickle"),
        (["{empty}", "--features", "{clip}"], "the output has no accepted picture"),
        (["{one}", "--features", "{clip}"], "there is one picture"),
        (["{out}", "--reference", "{one}", "--features", "{clip}"], "there is one picture"),
        (["{out}", "--reference", "{text}", "--features", "{clip}"], "no picture in this folder"),
        (["{out}", "--reference", "{nowhere}", "--features", "{clip}"], "no such folder"),
        (["{nowhere}", "--features", "{clip}"], "no such folder"),
        (["{out}", "--by", "tag.brand"], "no picture has a tag 'brand'"),
        (["{out}", "--by", "tag.sku"], "no two pictures share"),
        (["{out}", "--boxes", "{nowhere}"], "cannot be read"),
        (["{out}", "--boxes", "{boxes.jsonl}"], "no row asks for objects"),
        (["{out}", "--by", "campaign", "-o", "{nowhere}/page.html"], "no such folder to write it to"),
        (["{out}", "--by", "campaign", "-o", "{out}"], "this is a folder"),
        (["{out}", "--features", "{clip}", "--keep", "{nowhere}/real.safetensors"], "no such folder to write it to"),
        (["{out}", "--features", "{clip}", "--keep", "real.npz"], "end it in .safetensors"),
    ],
)
def test_what_cannot_be_evaluated_is_one_message(args: list[str], what: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(place / arg[1:].replace("}", "")) if arg.startswith("{") else arg for arg in args]
    assert main(["evaluate", *given]) == 2
    said = capsys.readouterr()
    assert what in said.err and "Traceback" not in said.err and not said.out


def test_features_of_another_size_are_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept_file = str(tmp_path / "real.safetensors")
    assert main(["evaluate", str(place / "real"), "--features", str(place / "wider"), "--keep", kept_file]) == 0
    assert main(["evaluate", str(place / "out"), "--features", str(place / "clip"), "--reference", kept_file]) == 2
    assert "its features have 24 numbers, those of --features 16" in capsys.readouterr().err


def test_an_altered_picture_is_left_out_and_said(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(place / "out", tmp_path / "out")
    first = min((tmp_path / "out" / "images").rglob("*.png"))
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    max((tmp_path / "out" / "images").rglob("*.png")).unlink()
    assert main(["evaluate", str(tmp_path / "out"), "--by", "campaign", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pictures"] == 2 and found["notes"][0].count("2 pictures cannot be read and are left out")


def test_a_page_shows_what_a_manifest_says_as_text(tmp_path: Path) -> None:
    hostile = "</figcaption><script>alert(1)</script>\" onload=x '"
    one = drawn_set("a", 40, per_row=1, tags=2)
    assert one.features is not None
    one.features[:] += 5
    one.features[3] *= -1
    samples = tuple(
        replace(sample, row=f"{hostile}{at}", prompt=hostile, tags=(("sku", hostile),)) for at, sample in enumerate(one.samples)
    )
    one = replace(one, source=hostile, samples=samples)
    campaign = consistency(one, "sku")
    assert campaign.measures[0].outliers
    judged_ = (Judged(samples[0], hostile, False, hostile),)
    fits = (PromptFit(hostile, hostile, hostile, 3.0), PromptFit("b", "b", "b", 20.0))
    network = Network(hostile, hostile, 8, "d" * 64)
    figures = tuple(figures_of(one))
    moved = (Moved(hostile, PARAPHRASE, hostile, hostile, hostile, hostile, 0.4),)
    found = Evaluation(
        hostile, 40, 40, None, hostile, network, figures, campaign, judged_, ((5, 3.0), (40, 2.0)), fits, moved, (hostile,)
    )  # fmt: skip
    text = page_html(found, lambda name: None)
    assert "<script" not in text and 'onload=x "' not in text and text.count("alert(1)") > 6
    parser = Tags()
    parser.feed(text)
    assert parser.seen <= ALLOWED, parser.seen - ALLOWED


ALLOWED = frozenset(
    {"html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "span", "p", "b", "code", "section", "table", "thead"}
    | {"tbody", "tr", "th", "td", "small", "em", "meter", "figure", "figcaption", "div", "img", "svg", "path", "text", "circle", "rect"}
)


class Tags(HTMLParser):
    """Which elements a page has; none may have a handler."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") or name in ("href", "srcdoc") for name, _ in attrs)
