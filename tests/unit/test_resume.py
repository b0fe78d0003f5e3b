"""A start passes over what is done: ids without planning, manifests remembered, near-duplicates rebuilt beside the first renderings."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm import keys, manifest
from renderfarm.cache import cache_folder
from renderfarm.checks.duplicates import DuplicateIndex
from renderfarm.errors import ManifestChanged, ManifestError, Stopped
from renderfarm.job import JobSettings, load_job
from renderfarm.job.checks import DuplicatesSettings
from renderfarm.manifest import Rules, row_digest
from renderfarm.manifest.rows import examine
from renderfarm.output import part_key
from renderfarm.pictures import fingerprint
from renderfarm.plan import ImageIds, Intent, attempt_of, plan_row
from renderfarm.records.canonical import sealed
from renderfarm.resolve import ResolvedJob, resolve_job, survey
from renderfarm.run import session as farm
from renderfarm.run.duplicates import JobDuplicates
from renderfarm.schema import PlannedImage, Record, Verdict
from renderfarm.storage import Storage
from renderfarm.workers.finish import Checked, failed_record

TEXTS = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f"), max_size=12)
RAWS = st.fixed_dictionaries(
    {"id": TEXTS.filter(bool), "prompt": TEXTS.filter(str.strip)},
    optional={
        "negative_prompt": TEXTS, "seed": st.integers(0, 2**63 - 1), "width": st.sampled_from([64, 256, 1024]), "steps": st.integers(1, 99),
        "guidance": st.floats(0, 100, width=32), "images": st.integers(1, 3), "adapter": st.sampled_from(["ink", "oil"]),
        "init_image": st.sampled_from(["a.png", "b.png"]), "strength": st.floats(0, 1, width=32),
    },
)  # fmt: skip
JOBS = [
    JobSettings.model_validate({"name": "j", "manifest": "m", "output": "o", **more})
    for more in ({}, {"negative_prompt": 'a "quoted" Ü', "model": {"scheduler": "euler", "lossy": {"reuse": 2}}, "defaults": {"images": 2}})
]


@settings(max_examples=300, deadline=None)
@given(RAWS, st.sampled_from(JOBS), st.sampled_from(["", "5a" * 16]))
def test_the_ids_of_raw_rows_are_those_of_planned_images(raw: dict[str, Any], job: JobSettings, salt: str) -> None:
    intent = Intent(job, "a" * 64, {"ink": "0f at 1.0"}, {"a.png": "b" * 64})
    row, reasons = examine(raw, Rules())
    if row is None:
        assert {column for column, _, _ in reasons} <= {"id", "prompt", "negative_prompt", "strength", "mask_image", "init_image"}
        return
    planned = plan_row(row, row_digest(row), intent, salt)
    assert [key.hex() for key in ImageIds(intent).of(raw, salt)] == [image.image_id for image in planned]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a job of ten good rows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path, [{"id": f"r{n}", "prompt": f"mug {n}"} for n in range(10)])
    job = {"name": "tests", "manifest": "rows.parquet", "output": "out", "keys": "keys", "defaults": {"width": 256, "height": 256}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    keys.init(tmp_path / "keys")
    return tmp_path


def write(folder: Path, rows: list[dict[str, object]], age_s: float = 60) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    os.utime(folder / "rows.parquet", (time.time() - age_s,) * 2)


def accepted_record(session: farm.Session, image: PlannedImage, **looks: Any) -> Record:
    """The record of an image that was accepted at once."""
    blank = failed_record(attempt_of(image, 1), "tests", session.resolved.plan_digest, "")
    return sealed(dataclasses.replace(blank, outcome="accepted", **looks))


@pytest.fixture
def shards(folder: Path) -> Path:
    """The same rows in files of four: each is a shard."""
    (folder / "rows").mkdir()
    for first in (0, 4, 8):
        rows = [{"id": f"r{n}", "prompt": f"mug {n}"} for n in range(first, min(first + 4, 10))]
        pq.write_table(pa.Table.from_pylist(rows), folder / "rows" / f"{first}.parquet")
    (folder / "job.yaml").write_text((folder / "job.yaml").read_text().replace("rows.parquet", "rows"))
    return folder


def resolved(folder: Path) -> ResolvedJob:
    """The job, and its manifest looked at once more a minute later: that is remembered."""
    found = resolve_job(load_job(folder / "job.yaml"))
    look(found)
    return found


def look(job: ResolvedJob, later_s: float = 60, **changes: Any) -> survey.Survey:
    """Looks at the job's manifest by a clock that is ahead."""
    seen = survey.stamp_or_none(job.job.manifest)
    return survey.survey(job.job, job.rules, job.weights, seen, skip_invalid=False, clock=lambda: time.time() + later_s, **changes)


def test_shards_that_are_done_are_passed_over_and_nothing_else_is(shards: Path) -> None:
    session = farm.open_session(resolved(shards))
    images = list(session.resolved.images(session.salts))
    assert [key.hex() for key in session.resolved.image_keys(session.salts)] == [image.image_id for image in images]

    def accept(chosen: Iterable[int]) -> None:
        session.writer.append([accepted_record(session, images[n]) for n in chosen])

    def left() -> list[str]:
        return [work.attempt.image.row_id for work in farm.open_work(session, retry_failed=False)]

    assert len(left()) == 10
    accept([0, 1, 2, 3, 5])
    assert left() == ["r4", "r6", "r7", "r8", "r9"]
    passed = list(session.resolved.images(session.salts, session.state.all_accepted))
    assert [image.row_id for image in passed] == [f"r{n}" for n in range(4, 10)], "the first shard was not judged again"
    accept([4, 6, 7, 8, 9])
    assert left() == []


def test_a_manifest_that_did_not_change_is_not_judged_again(folder: Path) -> None:
    first = resolved(folder)
    found = look(first)

    def refuse(*_: object) -> survey.Survey:
        raise AssertionError("the manifest was read again")

    assert look(first, look=refuse) == found and resolved(folder) == first
    (memory,) = (folder / "cache" / "renderfarm" / "manifests").iterdir()
    good = memory.read_text()
    assert '"planned": 10' in good
    for bad in (good[:40], "", "\0" * 100, good.replace('"planned": 10', '"planned": 11')):
        memory.write_text(bad)
        assert look(first) == found, "half a memory is none, nor is one that was edited"
    assert memory.read_text() == good, "it is written anew"
    (folder / "job.yaml").write_text((folder / "job.yaml").read_text().replace("256", "320"))
    with pytest.raises(AssertionError, match="read again"):
        look(dataclasses.replace(first, job=load_job(folder / "job.yaml")), look=refuse)


def test_a_manifest_that_changed_or_is_young_is_judged(folder: Path) -> None:
    first = resolved(folder)
    write(folder, [{"id": "r0", "prompt": ""}], age_s=30)
    with pytest.raises(ManifestError, match="prompt"):
        resolved(folder)
    write(folder, [{"id": f"r{n}", "prompt": f"box {n}"} for n in range(10)], age_s=30)
    young = resolve_job(load_job(folder / "job.yaml"))
    assert young.manifest_digest != first.manifest_digest
    memories = list((folder / "cache" / "renderfarm" / "manifests").iterdir())
    assert len(memories) == 1, "what was written just now may change unseen, and says what it likes of its age"


def test_another_manifest_of_the_same_size_and_time_is_not_taken_for_the_first(folder: Path) -> None:
    """As `cp -p`, `rsync -t` and unpacked archives leave them: its images would be rendered under the old plan, too many for the log."""
    rows = folder / "rows.parquet"
    first, before, content = resolved(folder), rows.stat(), rows.read_bytes()
    write(folder, [{"id": f"r{n}", "prompt": f"box {n}"} for n in range(10)])
    os.utime(rows, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (rows.stat().st_size, rows.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert resolved(folder).manifest_digest == manifest.digest(str(rows)) != first.manifest_digest
    rows.write_bytes(content)
    os.utime(rows, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert resolved(folder).manifest_digest == first.manifest_digest


def test_another_mode_of_the_manifest_ends_no_run(shards: Path) -> None:
    images = resolved(shards).images()
    next(images)
    (shards / "rows" / "4.parquet").chmod(0o400)
    assert len(list(images)) == 9
    images = resolved(shards).images()
    next(images)
    pq.write_table(pa.Table.from_pylist([{"id": "r4", "prompt": "box"}]), shards / "rows" / "4.parquet")
    with pytest.raises(ManifestChanged):
        list(images)


@pytest.mark.parametrize("cache", ["/proc/1/none", "/dev/null/none"])
def test_a_cache_that_cannot_be_written_is_done_without(folder: Path, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolved(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert cache_folder() != folder / "cache" / "renderfarm"
    assert (
        survey.survey(first.job, first.rules, first.weights, survey.stamp_or_none(first.job.manifest), skip_invalid=False).manifest_digest
        == first.manifest_digest
    )


def test_many_fingerprints_at_once_are_as_one_by_one() -> None:
    rng = np.random.default_rng(3)
    pictures = [np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((32, 32, 1))).astype(np.uint8) for _ in range(6)]
    pictures.append(np.full((256, 256, 3), 90, np.uint8))
    found = [fingerprint(picture) for picture in pictures]
    one, many = DuplicateIndex(DuplicatesSettings()), DuplicateIndex(DuplicatesSettings())
    for n, print_ in enumerate(found):
        one.add(f"r{n % 3}", f"#{n}", print_)
    columns = zip(*((f"r{n % 3}", f"#{n}", p.pdq, p.quality, p.signature) for n, p in enumerate(found)), strict=True)
    many.extend(*columns)
    for index in (one, many):
        index.remove("r1", "#4")
    asked = [(row, print_) for row in ("r0", "r1", "r9") for print_ in found]
    assert [one.judge(row, print_) for row, print_ in asked] == [many.judge(row, print_) for row, print_ in asked]
    with pytest.raises(ValueError, match="384 bytes"):
        many.extend(["r"], ["#"], [found[0].pdq], [90], ["AAAA"])


def accepted(folder: Path) -> farm.Session:
    """A session whose log has two parts with an accepted picture each."""
    session = farm.open_session(resolved(folder))
    found = fingerprint(np.random.default_rng(1).integers(0, 256, (256, 256, 3)).astype(np.uint8))
    looks = {"pdq": found.pdq, "pdq_quality": found.quality, "signature": found.signature}
    for image in list(session.resolved.images(session.salts))[:2]:
        session.writer.append([accepted_record(session, image, **looks)])
    return session


class Slow:
    """A storage whose second part comes when it is let go."""

    def __init__(self, inner: Storage) -> None:
        self._inner, self.go, self.asked = inner, threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        if key == part_key(1):
            self.asked.set()
            assert self.go.wait(60)
        return self._inner.get(key, bytes_max)


def test_a_run_that_is_stopped_does_not_wait_for_what_was_accepted_before(folder: Path) -> None:
    """A second Ctrl-C, or the end of the window, while the index of near-duplicates is being rebuilt."""
    session, stopped = accepted(folder), threading.Event()
    slow = Slow(session.storage)
    known = JobDuplicates.of(session.job, slow, session.state, stopped.is_set)  # type: ignore[arg-type]
    candidate = Checked((Verdict("text", "accepted"),), fingerprint(np.zeros((256, 256, 3), np.uint8)))
    image = next(session.resolved.images(session.salts))
    assert slow.asked.wait(60)
    stopped.set()
    with contextlib.closing(known), pytest.raises(Stopped, match="stopped while"):
        known.judge(image, candidate)
    slow.go.set()
    rebuilt = known._rebuilt
    assert rebuilt is not None
    rebuilt.result(60)
    assert len(known._index) == 0, "a closed one takes in nothing more, so that the process can end"
    whole = JobDuplicates.of(session.job, session.storage, session.state)
    assert whole.judge(image, candidate)[0].check == "duplicates"
    assert len(whole._settled()) == 3
