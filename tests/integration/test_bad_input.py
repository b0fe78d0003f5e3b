"""What a user can get wrong: one clear message with a remedy, exit 2, nothing rendered, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from renderfarm.cli import main
from tests.integration.conftest import Farm

GOOD = {"id": "a", "prompt": "a red mug"}


def message(farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: object) -> str:
    """What `renderfarm` prints on stderr while it exits with 2; the output must not exist afterwards."""
    for name, value in farm.env.items():
        monkeypatch.setenv(name, value)
    assert main([str(arg) for arg in args]) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert "remedy:" in captured.err
    assert not (farm.folder / "out").exists(), "something was written"
    return captured.err


def rows_of(*rows: dict[str, Any]) -> Callable[[Farm], None]:
    def write(farm: Farm) -> None:
        farm.manifest(list(rows))

    return write


def table_of(table: pa.Table) -> Callable[[Farm], None]:
    def write(farm: Farm) -> None:
        pq.write_table(table, farm.folder / "rows.parquet")

    return write


def bytes_of(data: bytes) -> Callable[[Farm], None]:
    def write(farm: Farm) -> None:
        (farm.folder / "rows.parquet").write_bytes(data)

    return write


MANIFESTS: dict[str, tuple[Callable[[Farm], None], list[str]]] = {
    "absent": (lambda farm: None, ["no such"]),
    "not parquet": (bytes_of(b"id,prompt\na,b\n"), ["parquet"]),
    "empty file": (bytes_of(b""), ["parquet"]),
    "no prompt column": (table_of(pa.table({"id": ["a"]})), ["prompt", "missing"]),
    "prompt is a number": (table_of(pa.table({"id": ["a"], "prompt": [1]})), ["prompt", "int64"]),
    "misspelt column": (rows_of({**GOOD, "promt": "x"}), ["column promt", "tag.promt"]),
    "null prompt": (rows_of(GOOD, {"id": "b", "prompt": None}), ["row 1", "'b'", "column prompt"]),
    "empty prompt": (rows_of({"id": "b", "prompt": "  "}), ["row 0", "column prompt"]),
    "duplicate id": (rows_of(GOOD, {"id": "b", "prompt": "x"}, GOOD), ["row 0", "row 2", "same id"]),
    "empty id": (rows_of({"id": "", "prompt": "x"}), ["row 0", "column id"]),
    "long id": (rows_of({"id": "x" * 201, "prompt": "x"}), ["column id", "200"]),
    "NUL in id": (rows_of({"id": "a\0b", "prompt": "x"}), ["column id"]),
    "bidirectional id": (rows_of({"id": "a\u202eb", "prompt": "x"}), ["column id"]),
    "negative width": (rows_of({**GOOD, "width": -8}), ["column width"]),
    "zero height": (rows_of({**GOOD, "height": 0}), ["column height"]),
    "odd width": (rows_of({**GOOD, "width": 257}), ["row id 'a'", "257x256", "multiples of 8"]),
    "giant width": (rows_of({**GOOD, "width": 100_000}), ["column width", "4096"]),
    "no steps": (rows_of({**GOOD, "steps": 0}), ["column steps"]),
    "no images": (rows_of({**GOOD, "images": 0}), ["column images"]),
    "unknown adapter": (rows_of({**GOOD, "adapter": "watercolor"}), ["column adapter", "watercolor"]),
    "unmarkable size": (rows_of({**GOOD, "width": 128, "height": 128}), ["128x128", "watermark", "allow_unmarked"]),
    "input outside": (rows_of({**GOOD, "init_image": "/etc/passwd"}), ["/etc/passwd", "inputs.allow"]),
    "input by http": (rows_of({**GOOD, "init_image": "http://169.254.169.254/latest"}), ["169.254", "inputs.allow"]),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_bad_manifest(farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    write, expected = MANIFESTS[case]
    write(farm)
    said = message(farm, capsys, monkeypatch, "render", farm.job())
    assert all(word.lower() in said.lower() for word in expected), said


def test_all_faults_come_at_once(farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    farm.manifest(
        [{"id": "a", "prompt": "", "width": 7}, {"id": "b", "prompt": "ok", "width": 256}, {"id": "c", "prompt": None, "width": 0}]
    )
    said = message(farm, capsys, monkeypatch, "render", farm.job())
    assert "4 fault" in said
    assert all(place in said for place in ("row 0 (id 'a'), column prompt", "row 0 (id 'a'), column width", "row 2 (id 'c'), column width"))


@pytest.mark.parametrize(
    ("init", "mask", "expected"),
    [
        ("absent.png", None, ["absent.png", "cannot be read", "check the path"]),
        ("cut.png", None, ["cut.png", "cannot be used", "whole file", "PNG, JPEG"]),
        ("whole.png", "small.png", ["mask_image is 32x32", "init_image is 64x64"]),
    ],
)
def test_an_input_picture_that_cannot_be_used(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, init: str, mask: str | None, expected: list[str]
) -> None:
    folder = farm.folder / "pictures"
    folder.mkdir()
    for name, side in (("whole.png", 64), ("small.png", 32)):
        Image.new("RGB", (side, side), "red").save(folder / name)
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:20])
    row = {**GOOD, "init_image": str(folder / init)} | ({"mask_image": str(folder / mask)} if mask else {})
    farm.manifest([row])
    said = message(farm, capsys, monkeypatch, "render", farm.job(inputs={"allow": [str(folder)]}))
    assert all(word in said for word in expected), said


def test_a_job_with_a_typing_error(farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    farm.manifest([GOOD])
    said = message(farm, capsys, monkeypatch, "render", farm.job(), "--set", "chekcs.attempts=2")
    assert "did you mean checks?" in said


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("./absent", "absent"), ("./pickled", "pickle"), ("some/repository", "revision"), ("./empty", "model_index.json")],
)
def test_weights_that_cannot_be_used(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, weights: str, expected: str
) -> None:
    farm.manifest([GOOD])
    (farm.folder / "empty").mkdir()
    pickled = farm.folder / "pickled"
    (pickled / "unet").mkdir(parents=True)
    (pickled / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}')
    (pickled / "unet" / "config.json").write_text("{}")
    (pickled / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    said = message(farm, capsys, monkeypatch, "render", farm.job(model={"weights": weights}))
    assert expected in said


def test_an_output_that_another_job_wrote(farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    farm.manifest([GOOD])
    other = farm.folder / "other"
    other.mkdir()
    (other / "job.json").write_text('{"name": "summer"}')
    said = message(farm, capsys, monkeypatch, "render", farm.job(output=str(other)))
    assert "belongs to job 'summer', not to 'tests'" in said
    assert [path.name for path in other.iterdir()] == ["job.json"]


def test_an_output_that_is_a_file(farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    farm.manifest([GOOD])
    (farm.folder / "file").write_text("x")
    assert "is a file" in message(farm, capsys, monkeypatch, "render", farm.job(output=str(farm.folder / "file")))


@pytest.mark.parametrize("args", [["status"], ["audit"], ["report"], ["gc"]])
def test_an_output_that_does_not_exist(
    farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    assert "no such folder" in message(farm, capsys, monkeypatch, *args, farm.folder / "absent")


def test_a_key_set_that_others_may_read(farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    farm.manifest([GOOD])
    folder = farm.folder / "keys"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(farm.folder / "config"))
    assert main(["keys", "init", str(folder)]) == 0
    (folder / "log.skey").chmod(0o644)
    assert str(folder / "log.skey") in message(farm, capsys, monkeypatch, "render", farm.job(keys=str(folder)))
    assert main(["keys", "init", str(folder)]) == 2


def test_pictures_that_are_none(farm: Farm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bad = farm.folder / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    key = farm.folder / "mark.key"
    key.write_text("00" * 32)
    for command in (["watermark", "read", bad, "--key-file", key], ["check", bad]):
        assert main([str(arg) for arg in command]) == 2
        captured = capsys.readouterr()
        assert str(bad) in captured.err
        assert len(captured.err.strip().splitlines()) <= 2


def test_help_of_every_command_shows_an_example_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    from renderfarm.cli.parser import build_parser, commands_of

    for path in commands_of(build_parser()):
        with pytest.raises(SystemExit) as ended:
            main([*path, "--help"])
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert "example:" in shown, path
        assert "exit codes:" in shown, path
        reference = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
        assert f"renderfarm {' '.join(path)}" in reference, f"the reference does not name {' '.join(path)}"
