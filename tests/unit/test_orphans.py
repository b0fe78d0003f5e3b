"""`gc`: only what no record of a whole log names, and what no driver has stored again meanwhile."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from pathlib import Path

import pytest

from renderfarm.cli import main
from renderfarm.errors import LogDamaged
from renderfarm.log.orphans import orphans, still_old
from renderfarm.output import CHECKPOINT, PARTS
from renderfarm.storage import Stored
from tests import reviewed
from tests.outputs import Output

STRAY = "images/row-9/0-0123456789ab.png"
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Output:
    base = tmp_path_factory.mktemp("orphans")
    return reviewed.build(base / "out", base / "keys")


@pytest.fixture
def output(original: Output, tmp_path: Path) -> Output:
    """A finished output whose files are two days old, and a picture that no record names."""
    shutil.copytree(original.folder, tmp_path / "out")
    copy = dataclasses.replace(original, folder=tmp_path / "out")
    copy.storage.put_new(STRAY, b"a picture")
    age(copy.folder)
    return copy


def age(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 2 * DAY_S,) * 2)


def old(output: Output) -> list[Stored]:
    return list(orphans(output.storage, time.time() - DAY_S))


def pictures(output: Output) -> set[str]:
    return {stored.key for prefix in ("images/", "review/", "thumbs/") for stored in output.storage.list(prefix)}


def gc(output: Output, *options: str) -> int:
    return main(["gc", str(output.folder), "--delete", *options])


def test_what_no_record_names_is_removed_and_nothing_else(output: Output) -> None:
    before = pictures(output)
    assert [found.key for found in old(output)] == [STRAY]
    assert gc(output) == 0
    assert pictures(output) == before - {STRAY}


@pytest.mark.parametrize("lost", ["the first part", "a part", "the last part", "all parts", "the log"])
def test_a_log_that_lost_something_makes_no_orphans(output: Output, lost: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The parts may come back from a version or a backup; pictures that were collected meanwhile do not."""
    keys = [stored.key for stored in output.storage.list(PARTS)]
    assert len(keys) > 2
    chosen = {
        "the first part": keys[:1],
        "a part": keys[1:2],
        "the last part": keys[-1:],
        "all parts": keys,
        "the log": [*keys, CHECKPOINT],
    }
    for key in chosen[lost]:
        output.storage.delete(key)
    before = pictures(output)
    with pytest.raises(LogDamaged, match="is missing"):
        old(output)
    assert gc(output) == LogDamaged.exit_code
    assert pictures(output) == before and "audit" in capsys.readouterr().err


def test_what_a_driver_stores_again_is_no_orphan_any_more(output: Output) -> None:
    """A run was killed before its commit; another renders the same bytes, and gc comes before that commit."""
    (listed,) = old(output)
    output.storage.put_new(STRAY, b"a picture")
    assert not still_old(output.storage, listed, time.time() - DAY_S), "listed before, stored again before it is removed"
    assert old(output) == []
    assert gc(output) == 0 and STRAY in pictures(output)


def test_what_a_running_driver_may_not_have_committed_yet_is_left(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    output.storage.put_new("images/row-8/0-0123456789ab.png", b"just stored")
    assert gc(output, "--older-than", "0") == 2
    assert "commit" in capsys.readouterr().err and "images/row-8/0-0123456789ab.png" in pictures(output)
