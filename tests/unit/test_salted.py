"""A new output: ids, digests and names are salted, values can go, and nobody can test a guess against what is left."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from renderfarm import credential, manifest
from renderfarm.audit.audit import audit
from renderfarm.cli import main
from renderfarm.errors import AlreadyStored, JobError
from renderfarm.log import reading, snapshot
from renderfarm.output import JOB_FILE, SALT, SALTED_SNAPSHOT, SNAPSHOT, VALUES
from renderfarm.pictures import encode, xmp
from renderfarm.plan import (
    ImageIds,
    attempt_of,
    first_seed,
    invalid_image_id,
    plan_digest,
    plan_row,
    salted_manifest_digest,
    salted_row_digest,
)
from renderfarm.records.canonical import commitment
from renderfarm.records.tables import record_id
from renderfarm.run import session as farm
from renderfarm.schema import PLAIN_VERSION, PromptRow, Record, forgotten
from renderfarm.storage import LocalStorage, Storage, open_storage
from tests import drawn
from tests.older import begin_plain
from tests.outputs import picture

ROWS: list[dict[str, object]] = [
    {"id": "the-red-mug", "prompt": "a red mug", "images": 2},
    {"id": "the-blue-mug", "prompt": "a blue mug, to be rejected", "images": 1},
    {"id": "the-sign", "prompt": 'a sign that says "OPEN"', "images": 1},
]
SALT_A, SALT_B = "5a" * 16, "a5" * 16


def canonical(*content: object) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":"), sort_keys=True).encode()).hexdigest()


def records(session: farm.Session) -> list[Record]:
    return [record for record in reading.records(session.storage) if record.kind == "attempt"]


def require_whole(session: farm.Session) -> None:
    """The audit finds nothing, and every planned image is counted."""
    report = audit(session.storage, session.keys.trust())
    assert report.ok, [str(finding) for finding in report.findings]
    counts = session.counts()
    assert counts.planned == counts.accepted + counts.exhausted + counts.failed + counts.remaining


def test_a_salt_changes_every_id_and_digest_and_no_seed(tmp_path: Path) -> None:
    intent = drawn.resolved(drawn.make(tmp_path, ROWS)).intent
    row = PromptRow("the-red-mug", "a red mug", images=2)
    plain, one, other = (plan_row(row, "d" * 64, intent, salt) for salt in ("", SALT_A, SALT_B))
    for images in (plain, one, other):
        assert [image.drawing_id for image in images] == [image.image_id for image in images]
    assert len({image.image_id for images in (plain, one, other) for image in images}) == 6
    assert [image.seed for image in plain] == [image.seed for image in one] == [image.seed for image in other]
    assert plain[0].row_digest == "d" * 64 and one[0].row_digest == canonical("renderfarm row 2", [SALT_A, "d" * 64])
    assert salted_manifest_digest("m", SALT_A) == canonical("renderfarm manifest 2", [SALT_A, "m"])
    assert salted_manifest_digest("m", "") == "m"
    assert invalid_image_id("a", 3, "d", SALT_A) == canonical("renderfarm invalid row 2", [SALT_A, "a", 3, "d"])[:32]
    assert invalid_image_id("a", 3, "d") == canonical("renderfarm invalid row 1", ["a", 3, "d"])[:32]


def test_what_a_run_writes_names_no_row_and_leads_back_to_it(tmp_path: Path) -> None:
    session = drawn.render(drawn.make(tmp_path, ROWS))
    require_whole(session)
    assert str(session.counts()) == "4 planned = 3 accepted + 1 exhausted + 0 failed + 0 remaining"
    found = records(session)
    assert len(found) == 5 and len({record.salt for record in found}) == 3, "one salt a row"
    for record in found:
        assert record.version == 4 and record.drawing_id == record.image_id and record.commitment == commitment(record)
        assert record.settings == drawn.INFO.settings and (record.cause, record.adapter) == (None, None)
        folder = "images" if record.outcome == "accepted" else "review"
        short, number = (record.file_sha256 or "")[:12], "" if record.outcome == "accepted" else f"-{record.attempt}"
        name = f"{(record.image_id or '')[:2]}/{record.image_id}"
        assert (record.object_key or "").rpartition(".")[0] == f"{folder}/{name}{number}-{short}"
        assert record.thumb_key == f"thumbs/{name}-{record.attempt}-{short}.webp"
    names = [stored.key for stored in session.storage.list("") if not stored.key.startswith("report/")]
    assert not any(row["id"] in name for row in ROWS for name in names)  # type: ignore[operator]
    assert re.fullmatch(rb"[0-9a-f]{32}\n", session.storage.get(SALT))
    assert json.loads(session.storage.get(JOB_FILE))["manifest_digest"] != manifest.digest(session.job.manifest)
    again = farm.open_session(drawn.resolved(tmp_path / "job.yaml"))
    assert again.writer.size == session.writer.size and next(farm.open_work(again, retry_failed=False), None) is None


def test_pictures_with_inputs_say_so_in_one_list(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(picture(1), "image/png"))
    rows: list[dict[str, object]] = [{"id": "a", "prompt": "a mug", "init_image": str(tmp_path / "a.png"), "strength": 0.5}]
    session = drawn.render(drawn.make(tmp_path / "job", rows, inputs={"allow": [str(tmp_path)]}))
    require_whole(session)
    (record,) = records(session)
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert [(given.role, given.digest, given.uri) for given in record.inputs] == [("init", digest, str(tmp_path / "a.png"))]
    assert record.init_image is record.init_digest is None
    assert xmp.EDITED.encode() in (xmp.read(session.storage.get(record.object_key or "")) or b"")


def test_a_row_that_cannot_be_planned_is_salted_too(tmp_path: Path) -> None:
    session = drawn.render(drawn.make(tmp_path, [*ROWS, {"id": "empty", "prompt": "", "images": 1}]), skip_invalid=True)
    require_whole(session)
    (bad,) = (record for record in records(session) if record.outcome == "failed")
    assert bad.salt and (bad.row_id, bad.cause, bad.drawing_id) == ("empty", "row", bad.image_id)
    ((image_id, _, row),) = session.resolved.bad(session.salts)
    assert (bad.image_id, bad.row_digest) == (image_id, salted_row_digest(row.digest, bad.salt))
    assert image_id == invalid_image_id("empty", 3, row.digest, bad.salt) != invalid_image_id("empty", 3, row.digest)


def forget(storage: Storage, which: slice = slice(None)) -> int:
    """Takes files of values away; how many attempts are forgotten."""
    files = [stored.key for stored in storage.list(VALUES) if stored.key.endswith(".parquet")]
    for key in files[which]:
        storage.delete(key)
    return reading.read_state(storage).forgotten


def test_rows_whose_values_went_are_new_images_and_every_count_holds(tmp_path: Path) -> None:
    job = drawn.make(tmp_path, [*ROWS, {"id": "empty", "prompt": "", "images": 1}], commit={"images": 1})
    first = drawn.render(job, skip_invalid=True)
    assert str(first.counts()) == "5 planned = 3 accepted + 1 exhausted + 1 failed + 0 remaining"
    before = audit(first.storage, first.keys.trust())
    assert forget(first.storage) == 6
    after = audit(first.storage, first.keys.trust())
    assert before.ok and after.ok and str(after.counts) == str(before.counts), "nothing that is signed changed"
    second = farm.open_session(drawn.resolved(job, skip_invalid=True))
    require_whole(second)
    assert str(second.counts()) == "5 planned = 0 accepted + 0 exhausted + 1 failed + 4 remaining"
    assert [one for one in second.notes if one.startswith("3 accepted images leave the plan since their values are gone")]
    second = drawn.render(job, skip_invalid=True)
    require_whole(second)
    assert str(second.counts()) == "5 planned = 3 accepted + 1 exhausted + 1 failed + 0 remaining"
    old, new = ([r for r in records(second) if forgotten(r) == gone] for gone in (True, False))
    assert len(old) == len(new) == 6 and not {r.image_id for r in old} & {r.image_id for r in new}
    assert {r.seed for r in new if r.outcome != "failed"} == {r.seed for r in records(first) if r.seed} | {r.seed for r in new if r.seed}
    size = second.writer.size
    assert farm.open_session(drawn.resolved(job, skip_invalid=True)).writer.size == size, "and then nothing changes any more"
    state = reading.read_state(second.storage)
    assert state.forgotten == 6 and state.superseded() and not state.changing and not state.unknown(), "nor is the manifest looked through"
    assert forget(second.storage) == 12 and reading.read_state(second.storage).unknown()


@pytest.mark.parametrize("part", range(4))
def test_a_row_may_be_forgotten_in_part(tmp_path: Path, part: int) -> None:
    """Of a row with three images one part's values go: what is left of the row keeps its salt, or the row gets another."""
    rows: list[dict[str, object]] = [{"id": "a", "prompt": "a mug", "images": 2}, {"id": "b", "prompt": "a rejected box", "images": 1}]
    job = drawn.make(tmp_path, rows, commit={"images": 1})
    first = drawn.render(job)
    forget(first.storage, slice(part, part + 1))
    again = drawn.render(job)
    require_whole(again)
    assert str(again.counts()) == "3 planned = 2 accepted + 1 exhausted + 0 failed + 0 remaining"


def test_the_salt_of_an_output_is_made_once_and_made_again_where_it_went(tmp_path: Path) -> None:
    job = drawn.make(tmp_path, ROWS)
    first = drawn.render(job)
    said = first.storage.get(SALT)
    assert farm.open_session(drawn.resolved(job)).writer.size == first.writer.size
    first.storage.delete(SALT)
    again = drawn.render(job)
    assert again.storage.get(SALT) != said and again.writer.size == first.writer.size + 1, "the plan is recorded anew"
    assert again.resolved.manifest_digest != first.resolved.manifest_digest and again.counts() == first.counts()
    require_whole(again)
    again.storage.put(SALT, b"pepper")
    with pytest.raises(JobError, match="holds no salt") as caught:
        farm.open_session(drawn.resolved(job))
    assert "take it away" in caught.value.remedy


class Late(LocalStorage):
    """A folder where another driver puts its salt just before this one does."""

    def put_new(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        if key == SALT:
            super().put_new(key, b"7" * 32 + b"\n")
            with pytest.raises(AlreadyStored):
                super().put_new(key, data)
        super().put_new(key, data, media_type)


def test_of_two_drivers_that_make_a_salt_both_take_the_first(tmp_path: Path) -> None:
    found = drawn.resolved(drawn.make(tmp_path, ROWS))
    session = farm.open_session(found, Late(Path(found.job.output.to), create=True))
    assert session.resolved.manifest_digest == salted_manifest_digest(found.manifest_digest, "7" * 32)
    assert session.resolved.plan_digest == plan_digest(session.resolved.manifest_digest, session.resolved.settings_digest, found.planned)
    assert hashlib.sha256(session.resolved.job_json).hexdigest() == session.resolved.settings_digest


def test_what_was_forgotten_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = drawn.render(drawn.make(tmp_path, ROWS))
    record = records(session)[0]
    assert forget(session.storage) == 5
    out, trust = str(tmp_path / "out"), str(tmp_path / "keys" / "trust")
    assert main(["identify", f"{out}/{record.object_key}", "--in", out, "--trust", trust]) == 0
    said = capsys.readouterr().out
    assert "prompt: forgotten" in said and "row forgotten index 0" in said and "seed forgotten" in said
    assert main(["reproduce", out, record.image_id or ""]) == 2
    assert "was forgotten" in capsys.readouterr().err
    assert main(["recheck", out, "--set", "checks.text.min_score=1"]) == 0
    assert "5 attempts stay as recorded" in "".join(capsys.readouterr())
    assert main(["report", out]) == 0
    page = "".join(path.read_text() for path in (tmp_path / "out" / "report").rglob("*.js"))
    assert "(forgotten)" in page and "red mug" not in page and "the-red-mug" not in page


# --- guessing ---

GUESSES = 10_000


def guesses(rows: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Candidate rows, the true ones among them."""
    for number in range(GUESSES - len(rows)):
        yield {"id": f"mug-{number}", "prompt": f"a mug number {number}", "images": 1}
    yield from rows


class Guesser:
    """Somebody with everything of an output but its values and its page, the manifest's other columns and the job included."""

    def __init__(self, session: farm.Session, folder: Path) -> None:
        away = (folder / "out" / VALUES, folder / "out" / "report")
        for path in away:
            shutil.rmtree(path, ignore_errors=True)
        self.storage = open_storage(str(folder / "out"))
        self.intent, self.key = session.resolved.intent, session.keys.mark_key
        self.records = [record for record in reading.records(self.storage) if record.kind == "attempt"]
        files = {stored.key: self.storage.get(stored.key) for stored in self.storage.list("")}
        self.names = "\n".join(files)
        told = b"\n".join(data for key, data in files.items() if key.startswith("provenance/") or key == JOB_FILE)
        self.windows = {told[at : at + 8] for at in range(len(told))}
        pictures = {record.object_key or "": files[record.object_key or ""] for record in self.records}
        self.xmp = b"".join(xmp.read(data) or b"" for data in pictures.values())
        found = [credential.read(data, "image/webp" if key.endswith("webp") else "image/png", None) for key, data in pictures.items()]
        self.prompt_digests = {finding.prompt_digest for finding in found}
        self.said = {str(value) for record in self.records for value in dataclasses.astuple(record)}
        self.said |= {record.watermark_payload or "" for record in self.records}
        self.manifests = {record.manifest_digest for record in reading.records(self.storage)}

    def confirms(self, raw: dict[str, object]) -> set[str]:
        """What this guess shows to be true."""
        row = PromptRow(**raw)  # type: ignore[arg-type]
        found = set()
        for salt in ("", SALT_A):  # without a salt, and with one of the guesser's own
            for image, key in zip(
                plan_row(row, manifest.row_digest(row), self.intent, salt), ImageIds(self.intent).of(raw, salt), strict=True
            ):
                ids = {image.image_id, key.hex(), record_id(image.image_id, 1), image.row_digest}
                seeds = {str(attempt_of(image, number).seed) for number in (1, 2)} | {str(first_seed(None, 0, row.id, image.index))}
                found |= {"image id"} if ids & self.said else set()
                found |= {"seed"} if seeds & self.said else set()
                bare = Record("attempt", salt=salt, row_id=row.id, prompt=row.prompt, negative_prompt="", seed=image.seed)
                found |= {"commitment"} if commitment(bare) in self.said else set()
                stated = {
                    credential.prompt_digest(row.prompt, str(record.image_id), self.key) for record in self.records
                } | {credential.salted_prompt_digest(row.prompt, salt)}  # fmt: skip
                found |= {"credential"} if stated & self.prompt_digests else set()
        for text in (row.id, row.prompt):
            digest = hashlib.sha256(text.encode())
            shapes = {digest.digest()[:8], digest.digest()[7::-1], digest.hexdigest()[:8].encode(), text.encode()[:8]}
            found |= {"name"} if f"/{row.id}/" in self.names else set()
            found |= {"value"} if text in self.said or text.encode() in self.xmp else set()
            found |= {"bytes"} if shapes & self.windows else set()
        return found


def with_a_snapshot(session: farm.Session) -> None:
    """What a long log would have: the state as a start takes it over."""
    key = SALTED_SNAPSHOT if session.state.salted else SNAPSHOT
    session.storage.put(key, snapshot.dump(session.state, session.writer._leaves, session.writer.origin, session.writer._signer))
    assert session.storage.stat(key) is not None


def test_nobody_confirms_a_guess_without_the_values(tmp_path: Path) -> None:
    session = drawn.render(drawn.make(tmp_path, ROWS))
    with_a_snapshot(session)
    guesser = Guesser(session, tmp_path)
    confirmed = {str(raw["id"]): found for raw in guesses(ROWS) if (found := guesser.confirms(raw))}
    assert confirmed == {}
    assert manifest.digest(session.job.manifest) not in guesser.manifests and len(guesser.records) == 5


def test_the_same_guesser_confirms_what_is_true_of_an_older_output(tmp_path: Path) -> None:
    session = drawn.render(drawn.make(tmp_path, ROWS), begin=begin_plain)
    require_whole(session)
    with_a_snapshot(session)
    assert {record.version for record in records(session)} == {PLAIN_VERSION}
    guesser = Guesser(session, tmp_path)
    confirmed = {str(raw["id"]): found for raw in guesses(ROWS) if (found := guesser.confirms(raw))}
    assert set(confirmed) == {row["id"] for row in ROWS}, "and no other"
    assert set.union(*confirmed.values()) >= {"image id", "seed", "credential", "name", "value", "bytes"}
    assert manifest.digest(session.job.manifest) in guesser.manifests
