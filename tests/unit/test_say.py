"""What others wrote reaches a terminal as text, never as a command to it: every command, its results, notes and errors."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import structlog
import yaml

from renderfarm import cli, credential, keys
from renderfarm.cli import logs, main, progress
from renderfarm.cli.parser import build_parser, commands_of
from renderfarm.cli.say import printable, say, say_json
from renderfarm.errors import JobError, RenderfarmError
from renderfarm.log import proofs as bundle
from renderfarm.log.writer import LogWriter
from renderfarm.output import PARTS
from renderfarm.pictures import encode
from renderfarm.records.canonical import sealed
from renderfarm.run.loop import Tally
from renderfarm.schema import Record, Verdict
from renderfarm.storage import LocalStorage
from tests import encoders, outputs, standins
from tests.outputs import Output, attempt_record, image_id, picture

FORGED = "FORGED: 0 findings"
HOSTILE = f"a\x1b[31m\x9b2J\u202e\u2066b\u2069\x7f\r\n{FORGED}\u2028c"
NAME = HOSTILE.replace("/", "")
"""As a file name."""


def shown_safely(text: str) -> bool:
    """Whether nothing in it is obeyed by a terminal, and no line of it is one that was smuggled in."""
    lines = text.split("\n")
    return all(line.isprintable() for line in lines) and not any(line.strip().startswith(FORGED) for line in lines)


def test_the_check_of_these_tests_sees_what_it_should() -> None:
    assert shown_safely("a\nb → ü\n") and shown_safely(f"x {FORGED}")
    for char in "\x1b\x9b\x7f\r\t\u202a\u202e\u2066\u2069\u200f\u2028":
        assert not shown_safely(f"a{char}b")
    assert not shown_safely(f"a\n  {FORGED}")


# --- the three functions ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ä → 日本 🎨", "Ä → 日本 🎨"),
        ("a\nb\tc\x1b[0m", r"a\nb\tc\x1b[0m"),
        ("\u202e\u2066\x9b\x7f\u2028", r"\u202e\u2066\x9b\x7f\u2028"),
        ("\udcff\U000e0001", r"\udcff\U000e0001"),
        (Path("x\ny"), r"x\ny"),
        ("C:\\n", "C:\\n"),
    ],
)
def test_one_line_that_shows_what_it_holds(text: object, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(text) == printable(printable(text)) == expected
    say(text, "next")
    assert capsys.readouterr().out == f"{expected}\nnext\n"


@pytest.mark.parametrize("indent", [None, 1])
def test_json_keeps_its_values_and_holds_nothing_that_a_terminal_obeys(indent: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    content = {HOSTILE: [HOSTILE, "\udcff", "\U000e0001", "ü", 1.5, None]}
    say_json(content, indent=indent)
    said = capsys.readouterr().out
    assert shown_safely(said) and json.loads(said) == content and "ü" in said


# --- every command ---


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with all that is hostile: an output, a job, manifests, pictures, by their paths."""

    base: Path

    def __getitem__(self, name: str) -> str:
        return str(self.base / name)


def records(made: Output, issuer: credential.Issuer) -> list[Record]:
    """An accepted picture, one that waits for a person with their words on it, and a failure: every text of each is hostile."""
    verdict = Verdict(HOSTILE, "rejected", HOSTILE, 0.2, 0.8)
    text = Verdict("text", "rejected", HOSTILE, 0.2, 0.8)
    texts: dict[str, Any] = {
        "job": HOSTILE, "prompt": HOSTILE, "negative_prompt": HOSTILE, "text": HOSTILE, "tags": ((HOSTILE, HOSTILE),), "weights": HOSTILE,
        "weights_revision": HOSTILE, "weights_licence": HOSTILE, "scheduler": HOSTILE, "device": HOSTILE, "driver": HOSTILE,
    }  # fmt: skip

    def stored(number: int, attempt: int, outcome: str) -> Record:
        drawn = dataclasses.replace(attempt_record(number, attempt, outcome), **texts)
        if outcome == "rejected":
            drawn = dataclasses.replace(drawn, reason=HOSTILE, verdicts=(verdict, text))
        kept = outputs.stored_attempt(made, issuer, drawn)  # under a plain row id: file names are percent-encoded
        kept = dataclasses.replace(kept, row_id=f"{number}{HOSTILE}")
        return sealed(kept)

    failed = dataclasses.replace(attempt_record(3, 1, "failed"), **texts, row_id=HOSTILE, reason=HOSTILE)
    first, second = stored(2, 1, "rejected"), stored(2, 2, "rejected")
    word = dataclasses.replace(
        first, kind="review", reviewer=HOSTILE, reason=HOSTILE, reviewed_digest=first.claim_digest, object_key=None, claim_digest=None,
        media_type=None, file_sha256=None, file_bytes=None, verdicts=(Verdict("person", "rejected", HOSTILE),),
    )  # fmt: skip
    done = [stored(1, 1, "accepted"), first, second, word, dataclasses.replace(failed, claim_digest=None)]
    return [sealed(record) for record in done]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    base = tmp_path_factory.mktemp("hostile")
    key_set = keys.init(base / "keys")
    settings = {"checks": {"attempts": 2}, "output": {"quality": 92, "format": "png"}, "model": {}, "keys": str(base / "keys")}
    job = json.dumps({"name": HOSTILE, "settings": settings}).encode()
    storage = LocalStorage(base / "out", create=True)
    made = Output(base / "out", key_set, key_set.trust())
    storage.put("job.json", job)
    writer = LogWriter.open(storage, HOSTILE, made.signer)
    writer.append([outputs.plan_record(3, job, HOSTILE)])
    writer.append(records(made, credential.Issuer(key_set)))
    (base / "out" / "images" / NAME).write_bytes(b"an orphan")
    os.utime(base / "out" / "images" / NAME, (1, 1))
    (base / "proof.json").write_bytes(bundle.prove(storage, image_id(1)))
    shutil.copy(next((base / "out").glob(f"{outputs.place(1)}*")), base / f"{NAME}.png")
    (base / f"plain{NAME}.png").write_bytes(encode(picture(3), "image/png"))
    (base / f"none{NAME}.png").write_bytes(b"no picture")
    (base / "items.jsonl").write_text(json.dumps({"path": f"plain{NAME}.png", "prompt": HOSTILE, "text": HOSTILE}) + "\n")
    (base / "wrong.jsonl").write_text(json.dumps({HOSTILE: 1}) + "\n")
    (base / "rows.csv").write_text(f'id,prompt,"{HOSTILE}"\n1,x,y\n')
    (base / "rows.jsonl").write_text(json.dumps({"id": HOSTILE, "prompt": "", "tags": {HOSTILE: HOSTILE}}) + "\n")
    schema = pa.schema([*((name, pa.string()) for name in ("id", "prompt", "adapter")), ("tags", pa.map_(pa.string(), pa.string()))])
    bad = [{"id": HOSTILE, "prompt": HOSTILE, "adapter": HOSTILE}, {"id": HOSTILE, "prompt": "", "tags": [(HOSTILE, HOSTILE)]}]
    for name, rows in ((f"{NAME}.parquet", [{"id": "a", "prompt": "a mug"}]), ("bad.parquet", bad)):
        pq.write_table(pa.Table.from_pylist(rows, schema), base / name)
    (base / f"weights{NAME}").symlink_to(standins.folder_of("sd2"))
    (base / f"net{NAME}").symlink_to(encoders.dino(tmp_path_factory.mktemp("net")))
    write_job(base / f"good{NAME}.yaml", manifest=f"{NAME}.parquet", model={"weights": f"./weights{NAME}"})
    write_job(base / "faults.yaml", manifest="bad.parquet")
    write_job(base / "nowhere.yaml", manifest=f"none{NAME}.parquet")
    write_job(base / "mistakes.yaml", **{HOSTILE: 1, "name": HOSTILE, "model": {"weights": 1, HOSTILE: 2}})
    write_job(base / "notime.yaml", schedule={"cron": HOSTILE})
    return Place(base)


def write_job(path: Path, **changes: Any) -> None:
    settings = {"name": "tests", "manifest": "rows.parquet", "output": "new", "keys": "keys", "defaults": {"width": 256, "height": 256}}
    windows = {"schedule": {"window": "22:00-06:00", "timezone": "Europe/Berlin"}}
    path.write_text(yaml.safe_dump({**settings, **windows, **changes}))


CASES: dict[str, Callable[[Place], list[str]]] = {
    "render: no such job": lambda at: ["render", at[f"none{NAME}.yaml"]],
    "render: faults of a manifest": lambda at: ["render", at["faults.yaml"]],
    "render: no such manifest": lambda at: ["render", at["nowhere.yaml"]],
    "render: mistakes in a job": lambda at: ["render", at["mistakes.yaml"]],
    "render: a wrong --set": lambda at: ["render", at["faults.yaml"], "--set", HOSTILE],
    "render: a wrong value": lambda at: ["render", at["faults.yaml"], "--set", f"seed={HOSTILE}"],
    "render: a wrong time": lambda at: ["render", at["faults.yaml"], "--until", HOSTILE],
    "plan": lambda at: ["plan", at[f"good{NAME}.yaml"]],
    "plan: of a name that is no output": lambda at: ["plan", at[f"good{NAME}.yaml"], "--output", f"s3://{HOSTILE}"],
    "preview: no such manifest": lambda at: ["preview", at["nowhere.yaml"]],
    "schedule --next": lambda at: ["schedule", at[f"good{NAME}.yaml"], "--next", "2"],
    "schedule --systemd": lambda at: ["schedule", at[f"good{NAME}.yaml"], "--systemd", "-"],
    "schedule --systemd into a folder": lambda at: ["schedule", at["faults.yaml"], "--systemd", at[f"units{NAME}"]],
    "schedule --kubernetes": lambda at: ["schedule", at[f"good{NAME}.yaml"], "--kubernetes", "-"],
    "schedule: no cron": lambda at: ["schedule", at["notime.yaml"], "--next", "1"],
    "status": lambda at: ["status", at["out"]],
    "status: no output": lambda at: ["status", at[NAME]],
    "report": lambda at: ["report", at["out"]],
    "gc": lambda at: ["gc", at["out"]],
    "audit": lambda at: ["audit", at["out"]],
    "audit with trust": lambda at: ["audit", at["out"], "--trust", at["keys"]],
    "audit of a stray": lambda at: ["audit", stray(at), "--quick"],
    "status of a stray": lambda at: ["status", stray(at)],
    "audit --since what is none": lambda at: ["audit", at["out"], "--since", at[f"none{NAME}.png"]],
    "audit --witness what is none": lambda at: ["audit", at["out"], "--witness", f"{HOSTILE}+00000000+AA=="],
    "identify": lambda at: ["identify", at[f"{NAME}.png"], "--in", at["out"], "--trust", at["keys"]],
    "identify nothing": lambda at: ["identify", at[f"plain{NAME}.png"], at[f"none{NAME}.png"], "--in", at["out"]],
    "identify: no such file": lambda at: ["identify", at[f"{NAME}.gif"], "--in", at["out"]],
    "reproduce": lambda at: ["reproduce", at["out"], image_id(1)],
    "reproduce: no such image": lambda at: ["reproduce", at["out"], HOSTILE],
    "reproduce: not accepted": lambda at: ["reproduce", at["out"], f"2{HOSTILE}:0"],
    "models": lambda at: ["models"],
    "model check: no such file": lambda at: ["model", "check", at[f"none{NAME}.safetensors"]],
    "model check: no weights": lambda at: ["model", "check", at[f"{NAME}.png"]],
    "recheck": lambda at: ["recheck", at["out"], "--set", "checks.text.min_score=.1"],
    "recheck: a wrong --set": lambda at: ["recheck", at["out"], "--set", f"checks.{HOSTILE}=1"],
    "evaluate": lambda at: ["evaluate", at[""], "--features", at[f"net{NAME}"], "-o", at[f"{NAME}.html"]],
    "evaluate: one picture": lambda at: ["evaluate", at["out"], "--by", HOSTILE],
    "evaluate: no such job": lambda at: ["evaluate", "--fragility", at[f"none{NAME}.yaml"], "--features", at[f"weights{NAME}"]],
    "evaluate: no such boxes": lambda at: ["evaluate", at["out"], "--boxes", at[f"none{NAME}.jsonl"]],
    "evaluate: wrong boxes": lambda at: ["evaluate", at["out"], "--boxes", at["wrong.jsonl"]],
    "evaluate: no such reference": lambda at: ["evaluate", at["out"], "--reference", at[NAME], "--features", at[f"weights{NAME}"]],
    "review --list": lambda at: ["review", at["out"], "--list"],
    "review: no such image": lambda at: ["review", at["out"], f"{HOSTILE}:1", "--attempt", "1", "--reject", "--by", "Ada"],
    "review: an unusable name": lambda at: ["review", at["out"], image_id(2), "--attempt", "2", "--reject", "--by", HOSTILE],
    "review": lambda at: ["review", at["out"], image_id(2), "--attempt", "2", "--reject", "--by", "Ada"],
    "brief": lambda at: ["brief", at[f"{NAME}.parquet"], "--job", at[f"good{NAME}.yaml"]],
    "brief: wrong columns": lambda at: ["brief", at["rows.csv"], "--job", at[f"good{NAME}.yaml"], "-o", at[f"{NAME}.html"]],
    "brief: no such source": lambda at: ["brief", at[f"none{NAME}.csv"], "--job", at[f"good{NAME}.yaml"]],
    "provenance export": lambda at: ["provenance", "export", at["out"], "-o", at[f"{NAME}.csv"]],
    "provenance export: a wrong tag": lambda at: ["provenance", "export", at["out"], "-o", at["x.csv"], "--tag", HOSTILE],
    "provenance export: a wrong date": lambda at: ["provenance", "export", at["out"], "-o", at["x.csv"], "--from", HOSTILE],
    "provenance export: a wrong ending": lambda at: ["provenance", "export", at["out"], "-o", at[NAME]],
    "provenance prove": lambda at: ["provenance", "prove", at["out"], image_id(1)],
    "provenance prove into a file": lambda at: ["provenance", "prove", at["out"], image_id(1), "-o", at[f"{NAME}.json"]],
    "provenance prove: no such image": lambda at: ["provenance", "prove", at["out"], HOSTILE],
    "provenance verify": lambda at: ["provenance", "verify", at["proof.json"], "--trust", at["keys"]],
    "provenance verify: no bundle": lambda at: ["provenance", "verify", at["wrong.jsonl"]],
    "provenance verify: no such file": lambda at: ["provenance", "verify", at[f"none{NAME}.json"]],
    "manifest build: wrong columns": lambda at: ["manifest", "build", at["rows.csv"], "-o", at["x.parquet"]],
    "manifest build: wrong rows": lambda at: ["manifest", "build", at["rows.jsonl"], "-o", at["x.parquet"]],
    "manifest build: wrong keys": lambda at: ["manifest", "build", at["wrong.jsonl"], "-o", at["x.parquet"]],
    "manifest check": lambda at: ["manifest", "check", at[f"{NAME}.parquet"]],
    "manifest check: faults": lambda at: ["manifest", "check", at["bad.parquet"]],
    "manifest check: no such manifest": lambda at: ["manifest", "check", at[f"none{NAME}.parquet"]],
    "manifest show": lambda at: ["manifest", "show", at[f"{NAME}.parquet"]],
    "manifest show: faults": lambda at: ["manifest", "show", at["bad.parquet"]],
    "check": lambda at: ["check", at[f"plain{NAME}.png"], at[f"none{NAME}.png"], "--text", HOSTILE, "--prompt", HOSTILE],
    "check --from": lambda at: ["check", "--from", at["items.jsonl"], "--set", "checks.text.enabled=false"],
    "check --from: wrong lines": lambda at: ["check", "--from", at["wrong.jsonl"]],
    "check: wrong objects": lambda at: ["check", at[f"plain{NAME}.png"], "--objects", HOSTILE],
    "watermark embed": lambda at: embed(at, at[f"marked{NAME}"], at[f"plain{NAME}.png"], at[f"none{NAME}.png"]),
    "watermark embed: over a file": lambda at: embed(at, at[""], at[f"{NAME}.png"]),
    "watermark embed: a wrong id": lambda at: embed(at, at["x"], at[f"{NAME}.png"], record=HOSTILE),
    "watermark read": lambda at: mark(at, "read", at[f"{NAME}.png"], at[f"plain{NAME}.png"], at[f"none{NAME}.png"]),
    "watermark read: no key": lambda at: ["watermark", "read", at[f"{NAME}.png"], "--key-file", at[f"none{NAME}.key"]],
    "watermark read: no method": lambda at: mark(at, "read", at[f"{NAME}.png"], "--method", HOSTILE),
    "keys init": lambda at: ["keys", "init", at[f"keys{NAME}"]],
    "keys init: there already": lambda at: ["keys", "init", at[f"weights{NAME}"]],
    "keys person": lambda at: ["keys", "person", HOSTILE, "-o", at["keys"]],
    "keys person: a key": lambda at: ["keys", "person", "Ada", "-o", at[f"keys{NAME}"]],
    "job schema": lambda at: ["job", "schema"],
    "no such command": lambda at: [HOSTILE],
    "no such option": lambda at: ["status", at["out"], f"--{HOSTILE}"],
    "no such choice": lambda at: ["provenance", "export", at["out"], "-o", at["x.csv"], "--outcome", HOSTILE],
    "no number": lambda at: ["preview", at["faults.yaml"], "-n", HOSTILE],
}  # fmt: skip


HEAVY = frozenset({"evaluate", "reproduce", "check", "check --from", "watermark read"})
"""What loads weights: once is enough."""


def stray(at: Place) -> str:
    (at.base / "out" / PARTS / NAME).write_bytes(b"no part")
    return at["out"]


def mark(at: Place, what: str, *more: str) -> list[str]:
    return ["watermark", what, *more, "--key-file", at["keys/watermark.key"]]


def embed(at: Place, to: str, *pictures: str, record: str = "0123456789a") -> list[str]:
    return mark(at, "embed", *pictures, "--id", record, "-o", to)


def test_every_command_is_in_the_table() -> None:
    told = {tuple(word for word in case.partition(":")[0].split()) for case in CASES}
    missing = [words for words in commands_of(build_parser()) if not any(case[: len(words)] == words for case in told)]
    assert not missing


@pytest.mark.parametrize(("case", "as_json"), [(case, as_json) for case in CASES for as_json in (False, True)[: 2 - (case in HEAVY)]])
def test_no_command_hands_a_terminal_what_others_wrote(
    case: str, as_json: bool, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("out", "keys"):
        shutil.copytree(place.base / folder, tmp_path / folder)
    for path in place.base.iterdir():
        if path.is_symlink() or path.is_file():
            (tmp_path / path.name).symlink_to(path)
    at = Place(tmp_path)
    monkeypatch.setenv("RENDERFARM_KEYS", at[f"none{NAME}"])
    monkeypatch.setenv("XDG_CACHE_HOME", at["cache"])
    monkeypatch.delenv("RENDERFARM_MARK_KEY", raising=False)
    args = CASES[case](at)
    try:
        code = main([*args, "--json"] if as_json else args)
    except SystemExit as ended:  # argparse: not every command has --json
        code = int(str(ended.code))
    said = capsys.readouterr()
    assert code in (0, 2, 3, 4, 5) and (said.out + said.err or as_json), "it said something"
    assert shown_safely(said.out) and shown_safely(said.err), (said.out, said.err)


# --- what is printed beside results ---


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure()
    structlog.get_logger("renderfarm").warning("witness.failed", trouble="\x9b2J", troubles=[HOSTILE], job=HOSTILE)
    plain = screen.getvalue()
    assert r"\x9b2J" in plain and "\x9b" not in plain and "\u202e" not in plain and plain.count("\n") == 1


def test_the_live_view(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(3)
    tally.reasons[HOSTILE] = 2
    with progress.live() as view:
        view(tally)
    assert shown_safely(capsys.readouterr().err)
    from rich.console import Console

    console = Console(file=io.StringIO(), width=400)
    console.print(progress._table(tally))
    assert shown_safely(console.file.getvalue())  # type: ignore[attr-defined]


def test_what_nobody_foresaw(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        cli._unforeseen(type(error), error, error.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n") and r"ValueError: a\x1b[31m" in said and shown_safely(said)


def test_an_error_keeps_its_lines_and_takes_none_from_others(capsys: pytest.CaptureFixture[str]) -> None:
    error = JobError("2 mistake(s)", "job.yaml", "mend them", ["a: wrong", f"b: {HOSTILE}"])
    assert error.lines()[:2] == ["job.yaml: 2 mistake(s)", "  a: wrong"] and error.lines()[-1] == "  remedy: mend them"
    assert str(error) == "\n".join(error.lines()) and RenderfarmError("x").lines() == ["x"]
    say(*error.lines())
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 4 and shown_safely(said)


def test_nothing_else_prints() -> None:
    root = Path(cli.__file__).parents[1]
    printing = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write"):
                printing.add(str(path.relative_to(root)))
    assert printing == {"cli/say.py", "people/weights.py"}, "the second is a program of its own, run when an image is built"
