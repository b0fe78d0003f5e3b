"""The pages that people read say what the code says: the reference is made from it, examples run, links lead somewhere, rooms exist."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import structlog
import yaml

import renderfarm
from renderfarm import checks
from renderfarm.cli.parser import build_parser
from renderfarm.job.describe import fields, type_in_words
from renderfarm.job.load import load_job
from renderfarm.job.settings import JobSettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)


def blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of one language: what else stands behind the fence, and the text."""
    for info, text in FENCE.findall(page.read_text()):
        name, _, more = info.partition(" ")
        if name == language:
            yield more, text


# --- the reference, made from the code ---


def test_the_reference_is_what_the_code_gives_now() -> None:
    made = subprocess.run([sys.executable, "scripts/docs/reference.py"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stdout == (DOCS / "reference.md").read_text(), "run scripts/reference"


def test_a_type_is_said_in_words() -> None:
    said = {path: kind for path, kind, _, _ in fields(JobSettings)}
    assert said["name"] == "text"
    assert said["keys"] == "none or text"
    assert said["forbidden_words"] == "list of text"
    assert said["output.format"] == "`png`, `jpeg` or `webp`"
    assert said["seed"] == f"whole number from 0 to {2**63 - 1}"
    assert said["model.batch"] == "`auto` or whole number from 1 to 256"
    assert said["checks.ladder[].steps"] == "none or whole number from 1 to 500"
    assert said["checks.plugins"] == "mapping"
    assert type_in_words(bool | None) == "none or true or false"
    assert not re.search(r"Literal|Annotated|Union|typing|\[str|NoneType", (DOCS / "reference.md").read_text())


# --- the examples ---

TAIL = """
import contextlib, io, json, pathlib
from renderfarm.cli import main

assert run.counts.accepted == 2 and not run.paused and output.counts() == run.counts
quick = [f"checks.{name}.enabled=false" for name in ("text", "copies", "counts", "hands")]
wanted = ["checks.plugins={quiet_corner: {share: 0.2, min_score: 1.0}}", *quick]
with contextlib.redirect_stdout(io.StringIO()) as said:
    code = main(["check", stray, "--json", *(word for text in wanted for word in ("--set", text))])
pathlib.Path("done.json").write_text(json.dumps({"code": code, "check": json.loads(said.getvalue())}))
"""


@pytest.mark.slow
def test_the_examples_of_the_python_page_run(tmp_path: Path) -> None:
    page, plugin, installed = DOCS / "python.md", tmp_path / "plugin", tmp_path / "installed"
    plugin.mkdir()
    (plugin / "pyproject.toml").write_text("".join(text for _, text in blocks(page, "toml")))
    steps = []
    for more, text in blocks(page, "python"):
        if more.startswith("file="):
            (plugin / more.removeprefix("file=")).write_text(text)
        elif more == "sketch":
            compile(text, str(page), "exec")
        else:
            steps.append(text)
    assert len(steps) >= 7
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", installed, plugin], check=True, timeout=120)

    for name in ("jobs", "manifests"):
        (tmp_path / name).mkdir()
    job = yaml.safe_load((ROOT / "jobs" / "mockups.yaml").read_text())
    job["checks"] |= {name: {"enabled": False} for name in ("text", "copies", "counts", "hands")}
    (tmp_path / "jobs" / "mockups.yaml").write_text(yaml.safe_dump({**job, "model": {"batch": 2}, "farm": {"renderers": 1}}))
    pq.write_table(pq.read_table(ROOT / "manifests" / "mockups.parquet").slice(0, 2), tmp_path / "manifests" / "mockups.parquet")
    script = tmp_path / "examples.py"
    script.write_text("\n".join([*steps, TAIL]))  # no main guard: a user's script has none either
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "PYTHONPATH": str(installed)}
    ran = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout + ran.stderr

    done = json.loads((tmp_path / "done.json").read_text())
    (verdict,) = (one for one in done["check"]["verdicts"] if one["check"] == "quiet_corner")
    assert (done["code"], verdict["outcome"], verdict["reason"]) == (5, "rejected", "the corner for the logo is too busy")
    assert sorted(path.name for path in (tmp_path / "outputs" / "mockups" / "images").iterdir())


def test_what_a_check_stands_on_is_public() -> None:
    assert all(getattr(checks, name) is not None for name in checks.__all__)
    assert {"Check", "Image", "Verdict", "Bars", "PromptRow"} <= set(checks.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = checks.nothing
    written = (DOCS / "python.md").read_text()
    assert all(name in written for name in renderfarm.__all__ if not name.startswith("__"))


# --- the map ---


def layers() -> list[list[str]]:
    """The rooms from the top down, those that share a line together, as import-linter reads them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if one["type"] == "layers")
    return [[name.strip() for name in line.split(":")] for line in contract["layers"]]


def test_the_rooms_of_the_architecture_page_are_those_that_exist() -> None:
    rooms = (DOCS / "architecture.md").read_text().partition("## Rooms")[2].partition("\n## ")[0]
    listed = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`[^|]+) \|", rooms, re.M)]
    package = ROOT / "pipeline" / "renderfarm"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert [sorted(line) for line in listed] == [sorted(line) for line in layers()]
    assert {name for line in listed for name in line} == folders | modules


# --- every page ---


def anchors(page: Path) -> set[str]:
    """What a link may name behind `#`, as GitHub makes it from headings."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def leads_nowhere(page: Path, target: str) -> bool:
    """Whether a link inside the repository has no file, or no heading, at its end."""
    name, _, anchor = target.partition("#")
    there = (page.parent / name).resolve() if name else page
    return not there.exists() or (bool(anchor) and anchor not in anchors(there))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text()))
    assert [link for link in links if not link.startswith("https://") and leads_nowhere(page, link)] == []


def options(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> set[str] | None:
    """The options of the command that these words begin with; None where there is no such command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner = action.choices.get(words[0]) if words else None
            return options(inner, words[1:]) if inner is not None else None if words else set()
    return set(parser._option_string_actions)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    text = page.read_text()
    inline = re.findall(r"`renderfarm ([a-z][^`]*)`", FENCE.sub("", text))
    shown = re.findall(r"^(?:\$ \S*)?renderfarm ([a-z][^#\n]*)", "\n".join(block for _, block in blocks(page, "")), re.M)
    for line in [*inline, *shown]:
        if re.fullmatch(r"[a-z ]+ \d", line):
            continue  # a name under which bytes are hashed: `renderfarm image 1`
        words = tuple(shlex.split(line))
        known = options(build_parser(), words)
        assert known is not None, f"renderfarm {line}"
        assert {word for word in words if re.match("--?[a-z]", word)} <= known, f"renderfarm {line}"


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "yaml"))], ids=lambda page: page.name)
def test_every_piece_of_a_job_file_is_taken(page: Path, tmp_path: Path) -> None:
    for _, text in blocks(page, "yaml"):
        job = {"name": "x", "manifest": "m", "output": "o", **yaml.safe_load(text)}
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        assert load_job(tmp_path / "job.yaml").name == job["name"]


def test_the_old_spellings_that_the_changelog_names_are_read(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `([a-z.]+_?[a-z]+)(?:: (\d))?` \| `([a-z._]+)(?:: (\d))?`", (DOCS / "changelog.md").read_text(), re.M)
    assert len(rows) == 6
    (tmp_path / "job.yaml").write_text("name: x\nmanifest: m\noutput: o\n")
    for old, value, new, becomes in rows:
        given = value or ("RENDERFARM_KEY" if new.endswith("_env") else "11")
        with structlog.testing.capture_logs() as said:
            found: object = load_job(tmp_path / "job.yaml", [f"{old}={given}"])
        for part in new.split("."):
            found = getattr(found, part)
        assert str(found).removesuffix(".0") == (becomes or given)
        assert [(line["event"], line["old"]) for line in said] == [("job.old_spelling", old.rpartition(".")[2])]


def test_what_the_front_page_shows_is_what_the_example_ended_as() -> None:
    """The run itself is not made again: tests/data/example says what it came to."""
    page, run = (ROOT / "README.md").read_text(), ROOT / "tests/data/example"
    status = json.loads((run / "status.json").read_text())
    caption = re.search(r"!\[(.*?)\]\(infra/pictures/contact-sheet.png\)", page)
    assert caption is not None and f"{status['accepted']} accepted pictures" in caption[1] and status["exhausted"] == 1
    for word in re.findall(r"[A-Z]{4}", caption[1].replace("LOVE", "")):
        assert f"the picture reads {word}, expected LOVE" in [item["reason"] for item in status["reasons"]]
    shown = " ".join(page.replace("…\n", "\n").split())
    first, *lines = (run / "audit.txt").read_text().splitlines()
    assert first in page
    for line in lines:
        words = " ".join(line.split())
        assert words[:100] in shown, words  # the key is cut
    for kind in ("flip", "edit", "gone"):
        lines = (run / f"audit-{kind}.txt").read_text().splitlines()
        finding = next(number for number, line in enumerate(lines) if "-altered" in line or "part-missing" in line)
        assert " ".join(" ".join(lines[finding : finding + 3]).split()) in shown


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_nothing_of_the_readers_machine_stands_on_a_page() -> None:
    for page in PAGES:
        assert not re.search(r"/home/|/root/|/tmp/\w|localhost:\d", page.read_text()), page.name
