"""The registry: order, skipping, crashes and plug-ins; and the checks on files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from renderfarm.checks import registry
from renderfarm.checks.base import Bars, judge
from renderfarm.checks.base import Image as Pixels
from renderfarm.checks.files import Item, check_files, read_items
from renderfarm.errors import JobError, UserError
from renderfarm.job.checks import ChecksSettings
from renderfarm.schema import ObjectCount, PromptRow, Verdict

ROW = PromptRow("r1", "a red mug")
IMAGE: Pixels = np.zeros((32, 32, 3), np.uint8)
NO_READER = ChecksSettings.model_validate({"text": {"enabled": False}})


class Fake:
    def __init__(self, name: str = "fake", cost: int = 1, answer: object = "accepted", broken: bool = False) -> None:
        self.name, self.cost, self.answer, self.broken, self.calls = name, cost, answer, broken, 0

    def prepare(self) -> None:
        if self.broken:
            raise OSError("weights.onnx is missing")

    def check(self, image: Pixels, row: PromptRow) -> Verdict:
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, str):
            return Verdict(self.name, self.answer, "because")  # type: ignore[arg-type]
        return self.answer  # type: ignore[return-value]


class Odd:
    def __init__(self, limit: int) -> None:
        self.limit = limit


class Plug(Fake):
    def __init__(self, limit: int) -> None:
        super().__init__("brand", limit)


class Thief(Fake):
    def __init__(self) -> None:
        super().__init__("broken")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with three plug-ins, as pip would leave it."""
    package = tmp_path / "plugs-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugs\nVersion: 1\n")
    points = [f"{name} = {__name__}:{made}" for name, made in (("brand", "Plug"), ("odd", "Odd"), ("thief", "Thief"))]
    (package / "entry_points.txt").write_text("\n".join([f"[{registry.ENTRY_POINTS}]", *points]))
    monkeypatch.syspath_prepend(tmp_path)


def test_checks_are_built_cheapest_first_and_only_where_enabled() -> None:
    built = registry.build(ChecksSettings())
    assert [c.name for c in built] == ["broken", "copies", "text", "hands", "counts"]
    assert [c.cost for c in built] == sorted(c.cost for c in built)
    few = ChecksSettings.model_validate({name: {"enabled": False} for name in ("text", "copies", "counts", "hands")})
    assert [c.name for c in registry.build(few)] == ["broken"]


def test_a_rejection_skips_the_dearer_checks_and_says_so() -> None:
    dear = Fake("dear", 9)
    verdicts = registry.run([Fake("cheap", 1, "flagged"), Fake("mid", 2, "rejected"), dear], IMAGE, ROW)
    assert [v.outcome for v in verdicts] == ["flagged", "rejected", "not_run"]
    assert verdicts[2].reason == "rejected earlier" and dear.calls == 0


def test_a_crash_is_not_run_with_its_reason_and_the_rest_still_runs() -> None:
    verdicts = registry.run([Fake("bad", 1, ValueError("no\nsuch thing")), Fake("good", 2)], IMAGE, ROW)
    assert verdicts[0] == Verdict("bad", "not_run", "the check crashed: ValueError: no such thing")
    assert verdicts[1].outcome == "accepted"


@pytest.mark.parametrize("answer", [None, 3, Verdict("other", "accepted")])
def test_an_answer_that_is_no_verdict_of_its_own_is_not_run(answer: object) -> None:
    (verdict,) = registry.run([Fake("odd", 1, answer)], IMAGE, ROW)
    assert verdict == Verdict("odd", "not_run", "the check did not answer with its own verdict")


def test_a_check_that_cannot_load_answers_not_run_in_its_place() -> None:
    ready = registry.prepare([Fake("a"), Fake("b", 2, broken=True)])
    assert [c.name for c in ready] == ["a", "b"]
    assert registry.run(ready, IMAGE, ROW)[1] == Verdict("b", "not_run", "could not be loaded: OSError: weights.onnx is missing")


@pytest.mark.usefixtures("installed")
def test_plugins_are_built_with_their_options_and_sorted_in() -> None:
    settings = ChecksSettings.model_validate({"plugins": {"brand": {"limit": 7}}, "text": {"enabled": False}})
    assert [c.name for c in registry.build(settings)] == ["broken", "brand", "copies", "hands", "counts"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("plugins", "complaint"),
    [
        ({"brnd": {}}, "no check plug-in 'brnd' is installed (installed: brand, odd, thief)"),
        ({"brand": {"limits": 1}}, "the plug-in cannot be built"),
        ({"odd": {"limit": 1}}, "the plug-in has no name, cost, prepare and check"),
        ({"thief": {}}, "check name taken twice: broken"),
    ],
)
def test_a_bad_plugin_is_an_error_of_the_job(plugins: dict[str, object], complaint: str) -> None:
    with pytest.raises(JobError) as caught:
        registry.build(ChecksSettings.model_validate({"plugins": plugins}))
    assert caught.value.what.startswith(complaint)


def test_settings_refuse_unknown_keys_and_describe_every_field() -> None:
    with pytest.raises(ValidationError, match="min_scor"):
        ChecksSettings.model_validate({"text": {"min_scor": 0.5}})
    with pytest.raises(ValidationError, match="less than or equal to 20"):
        ChecksSettings(attempts=21)

    def described(model: type[object]) -> bool:
        fields = model.model_fields  # type: ignore[attr-defined]
        return all(f.description and (not hasattr(f.annotation, "model_fields") or described(f.annotation)) for f in fields.values())

    assert described(ChecksSettings)


def test_a_recorded_score_judges_the_same_again() -> None:
    verdict = judge("x", 0.49999, Bars.one(0.5, "reject"), "bad")
    assert verdict.outcome == "accepted" and verdict.score == 0.5
    assert judge("x", 0.4999, Bars.one(0.5, "flag"), "bad").outcome == "flagged"


def _coded(array: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind)
    return out.getvalue()


def _png(array: np.ndarray, mode: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, "PNG")
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_files_of_every_kind_get_verdicts_or_one_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = np.zeros((300, 400, 3), np.uint8) + np.array([200, 40, 40], np.uint8)
    scene[80:200, 100:300] = (20, 60, 200)
    clear = np.zeros((64, 64, 4), np.uint8)
    clear[20:40, 20:40] = (255, 0, 0, 255)
    files = {
        "scene.png": _png(scene, "RGB"),
        "grey.png": _png(scene[..., 0] // 2 + scene[..., 2] // 2, "L"),
        "clear.png": _png(clear, "RGBA"),
        "noise.png": _png(rng.integers(0, 256, (128, 128, 3), np.uint8), "RGB"),
        "tiny.png": _png(scene[:3, :3], "RGB"),
        "huge.png": _png(np.tile(scene, (8, 8, 1)), "RGB"),
        "cut.png": _png(scene, "RGB")[:200],
        "text.png": b"not a picture",
        "page.tif": _coded(scene, "TIFF"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    items = [Item(str(tmp_path / name)) for name in (*files, "absent.png")]
    results = {Path(r.path).name: r for r in check_files(items, NO_READER)}
    assert len(results) == len(items)
    for name in ("scene.png", "grey.png", "clear.png", "huge.png", "page.tif"):
        assert results[name].error is None and results[name].verdicts[0].outcome == "accepted", results[name]
    assert (results["huge.png"].width, results["huge.png"].height) == (3200, 2400)
    assert results["noise.png"].verdicts[0].reason == "the picture is only noise"
    assert not [v for v in results["noise.png"].verdicts if v.reason == registry.REJECTED_EARLIER], "every check says its score"
    assert results["tiny.png"].error == "too small to judge: 3x3 pixels, at least 16 a side are needed (use a larger copy)"
    assert all("PNG, JPEG, WEBP, GIF, BMP, TIFF, AVIF" in (results[name].error or "") for name in ("cut.png", "text.png"))
    assert "cut off or damaged" in (results["cut.png"].error or "") and "no picture" in (results["text.png"].error or "")
    assert results["absent.png"].error == "cannot be read: No such file or directory (check the path and its permissions)"


def test_items_come_from_json_lines_beside_the_pictures(tmp_path: Path) -> None:
    lines = tmp_path / "x.jsonl"
    lines.write_text(json.dumps({"path": "a.png", "prompt": "a mug", "text": ""}) + "\n\n" + json.dumps({"path": "/b.png"}) + "\n")
    assert list(read_items(lines)) == [Item(str(tmp_path / "a.png"), "a mug", ""), Item("/b.png")]


@pytest.mark.parametrize(
    "said",
    [
        "mug:2; tote bag",
        "2 mug, 1 tote bag",
        {"mug": 2, "tote bag": 1},
        '[{"class": "mug", "count": 2}, {"class": "tote bag", "count": 1}]',
    ],
)
def test_objects_are_said_as_in_a_source_of_a_manifest(tmp_path: Path, said: object) -> None:
    lines = tmp_path / "x.jsonl"
    lines.write_text(json.dumps({"path": "/a.png", "objects": said}) + "\n" + json.dumps({"path": "/b.png", "objects": None}) + "\n")
    assert list(read_items(lines)) == [Item("/a.png", objects=(ObjectCount("mug", 2), ObjectCount("tote bag", 1))), Item("/b.png")]


def test_wanted_objects_reach_the_checks(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    settings = ChecksSettings.model_validate({"text": {"enabled": False}})
    for objects, reason in (((), "the row asks for no objects"), ((ObjectCount("cat", 2),), "no detector that knows cat is installed")):
        (result,) = check_files([Item(str(tmp_path / "a.png"), "cats", objects=objects)], settings)
        assert [v.reason for v in result.verdicts if v.check == "counts"] == [reason]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "no JSON"),
        ("[]", "no object with a path"),
        ('{"path": "a", "promt": "b"}', "unknown key 'promt'"),
        ('{"path": "a", "text": 3}', "text is no text"),
        ('{"path": "a", "objects": 3}', "objects: no list of objects"),
        ('{"path": "a", "objects": "mug:101"}', "objects: the count of 'mug' is 101"),
        ('{"path": "a", "objects": "2 mug, 1 mug"}', "objects: 'mug' is named twice"),
        ('{"path": "a", "objects": "[{"}', "objects: no JSON list"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    lines = tmp_path / "x.jsonl"
    lines.write_text('{"path": "ok.png"}\n' + line + "\n")
    with pytest.raises(UserError) as caught:
        list(read_items(lines))
    assert caught.value.where == f"{lines}, line 2" and caught.value.what.startswith(complaint)
