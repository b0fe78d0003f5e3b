"""The image that a person means: by its id, or by its row and index, which an edit of the row gives to another."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from renderfarm.errors import UserError
from renderfarm.log.find import image_named, records_of
from renderfarm.log.writer import LogWriter
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage
from tests.salted import salted
from tests.unit.test_writer import SIGNER, attempt, image_id, plan

ROW = "week/1: mugs"


def _of_row(number: int, **fields: object) -> Record:
    return salted(dataclasses.replace(attempt(number), row_id=ROW, index=1, **fields))  # type: ignore[arg-type]


def _move(kind: str, number: int) -> Record:
    return Record(kind, job="mugs", image_id=image_id(number))  # type: ignore[arg-type]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path, create=True)
    writer = LogWriter.open(storage, "mugs", SIGNER)
    writer.append([plan(3), attempt(5), _of_row(1, outcome="rejected")])
    writer.append([_of_row(1, attempt=2)])
    writer.append([_move("superseded", 1), plan(3)])
    writer.append([_of_row(2)])
    return storage


def test_a_row_names_its_newest_image(storage: LocalStorage) -> None:
    assert image_named(storage, f"{ROW}:1") == image_id(2)
    assert image_named(storage, image_id(1)) == image_id(1), "an old one has its id"
    LogWriter.open(storage, "mugs", SIGNER).append([_move("superseded", 2), plan(3), _move("reinstated", 1)])
    assert image_named(storage, f"{ROW}:1") == image_id(1)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (f"{ROW}:2", "no image 'week/1: mugs:2' in this output"),
        (ROW, "not the name of an image"),
        (image_id(2)[:8], "not the name of an image"),
        (image_id(2).upper()[:31] + "G", "not the name of an image"),
        ("", "not the name of an image"),
        (":", "not the name of an image"),
        (f"{ROW}:{10**30}", "not the name of an image"),
    ],
)
def test_a_name_that_names_nothing(storage: LocalStorage, name: str, what: str) -> None:
    with pytest.raises(UserError) as caught:
        image_named(storage, name)
    assert what in str(caught.value) and "remedy" in str(caught.value)


def test_a_row_that_left_the_plan(storage: LocalStorage) -> None:
    LogWriter.open(storage, "mugs", SIGNER).append([_move("superseded", 2), plan(1)])
    with pytest.raises(UserError, match="no longer in the plan"):
        image_named(storage, f"{ROW}:1")


def test_the_records_of_some_images(storage: LocalStorage) -> None:
    found = list(records_of(storage, frozenset({image_id(1), image_id(5), "f" * 32})))
    assert [(record.kind, record.image_id, record.attempt) for record in found] == [
        ("attempt", image_id(5), 1),
        ("attempt", image_id(1), 1),
        ("attempt", image_id(1), 2),
        ("superseded", image_id(1), None),
    ]
