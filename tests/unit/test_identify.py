"""Identify: copies of every kind lead to their record, and forged evidence is contradicted, and says why."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from renderfarm import keys
from renderfarm.audit.pictures import Beliefs
from renderfarm.credential import Claim, Ingredient, Issuer, claim_for
from renderfarm.errors import PictureError
from renderfarm.identify.contradictions import contradictions
from renderfarm.identify.evidence import gather
from renderfarm.identify.identify import Answer, identify, identify_all, pictures_in
from renderfarm.keys import KeySet, Trust
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.output import delivered_key, part_key
from renderfarm.pictures import Pixels, decode, encode, pdq
from renderfarm.pictures.fingerprints import signature
from renderfarm.pictures.registration import lay_over
from renderfarm.records.canonical import sealed
from renderfarm.records.tables import record_id
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage, Storage
from renderfarm.watermark import METHOD, VERSION, MarkKey, Payload, embed
from tests.salted import salted

SIDE = 320
COUNT = 4


def drawn(seed: int) -> Pixels:
    """A made-up scene with enough structure for PDQ: uint8 (SIDE, SIDE, 3)."""
    random = np.random.default_rng(seed)
    small = random.integers(40, 215, (6, 6, 3), dtype=np.uint8)
    image = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        centre = tuple(int(v) for v in random.integers(20, SIDE - 20, 2))
        colour = tuple(int(v) for v in random.integers(30, 225, 3))
        cv2.circle(image, centre, int(random.integers(8, 50)), colour, -1)
    return np.asarray(image, dtype=np.uint8)


@dataclass(frozen=True)
class Output:
    """A finished job in small: what `render` leaves behind, made by the same parts."""

    storage: Storage
    keys: KeySet
    trust: Trust
    pixels: list[Pixels]
    files: list[bytes]
    records: list[Record]


def id_of(number: int) -> str:
    return hashlib.sha256(f"image {number}".encode()).hexdigest()[:32]


@cache
def marked_picture(number: int, key: MarkKey) -> Pixels:
    return embed(drawn(number)[None], [Payload(1, record_id(id_of(number), 1))], key)[0]


def record_of(key_set: KeySet, number: int, marked: Pixels) -> Record:
    image_id = id_of(number)
    digest, quality = pdq.hash_of(marked)
    bare = Record(
        kind="attempt", job="mugs", image_id=image_id, row_id=f"row {number}", index=0, attempt=1, prompt=f"mug {number}",
        width=SIDE, height=SIDE, weights="test/model", weights_revision="1", outcome="accepted", watermark_method=METHOD,
        watermark_version=VERSION, watermark_key_id=key_set.mark_key.key_id, watermark_payload=record_id(image_id, 1),
        pdq=digest, pdq_quality=quality, signature=signature(marked), finished_us=1_800_000_000_000_000,
    )  # fmt: skip
    return salted(bare)


def build(folder: Path, key_set: KeySet, log: Signer | None = None) -> Output:
    storage = LocalStorage(folder, create=True)
    issuer = Issuer(key_set)
    writer = LogWriter.open(storage, "mugs", log or key_set.signer())
    writer.append([Record("plan", job="mugs", plan_digest="p", manifest_digest="m", settings_digest="s", planned=COUNT)])
    pixels, files, records = [], [], []
    for number in range(COUNT):
        marked = marked_picture(number, key_set.mark_key)
        record = record_of(key_set, number, marked)
        claim = claim_for(record, record.claim_digest or "", "ACME", key_set.mark_key)
        file = issuer.issue(encode(marked, "image/png"), "image/png", claim)
        digest = hashlib.sha256(file).hexdigest()
        record = dataclasses.replace(record, media_type="image/png", file_sha256=digest)
        record = dataclasses.replace(record, object_key=delivered_key(record, digest, "image/png"))
        storage.put_new(str(record.object_key), file, "image/png")
        writer.append([record])
        pixels.append(marked)
        files.append(file)
        records.append(record)
    return Output(storage, key_set, key_set.trust(), pixels, files, records)


@pytest.fixture(scope="module")
def key_set(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    return keys.init(tmp_path_factory.mktemp("keys") / "set")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, key_set: KeySet) -> Output:
    return build(tmp_path_factory.mktemp("output") / "out", key_set)


def check(answer: Answer, output: Output, number: int) -> None:
    assert answer.matches, answer.reason
    assert answer.matches[0].record == output.records[number], answer.reason


def test_the_file_itself_is_certain(output: Output) -> None:
    answer = identify(output.files[1], [output.storage], output.trust)
    check(answer, output, 1)
    assert (answer.sureness, answer.by, answer.trusted) == ("certain", "credential", True)
    assert "intact and trusted" in answer.reason
    assert answer.matches[0].log == "trusted" and answer.matches[0].distance == 0


def jpeg75(pixels: Pixels) -> Pixels:
    return decode(encode(pixels, "image/jpeg", quality=75))


def half(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.resize(pixels, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def mirrored(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, ::-1])


def cropped(pixels: Pixels) -> Pixels:
    return pixels[20 : SIDE - 28, 16 : SIDE - 32]


@pytest.mark.parametrize("copy", [jpeg75, half, mirrored, cropped])
def test_a_copy_without_credential_is_found_by_its_mark(output: Output, copy: Callable[[Pixels], Pixels]) -> None:
    data = encode(copy(output.pixels[2]), "image/jpeg", quality=90)
    answer = identify(data, [output.storage], output.trust)
    check(answer, output, 2)
    assert (answer.sureness, answer.by, answer.trusted) == ("strong", "watermark", True), answer.reason
    assert answer.finding and answer.finding.state == "absent"
    assert answer.reading and answer.reading.payload and answer.reading.payload.record == answer.matches[0].record.watermark_payload


def test_without_trust_a_copy_is_a_lead_and_the_file_is_not_trusted(output: Output) -> None:
    copy = encode(output.pixels[0], "image/jpeg")
    leads = identify(copy, [output.storage], None)
    check(leads, output, 0)
    assert (leads.sureness, leads.by) == ("lead", "likeness")
    assert "neither credential nor watermark" in leads.reason and leads.matches[0].colours is True
    file = identify(output.files[0], [output.storage], None)
    assert (file.sureness, file.trusted) == ("strong", False)
    assert "its signer is not trusted" in file.reason


def test_another_picture_is_not_identified(output: Output) -> None:
    answer = identify(encode(drawn(99), "image/png"), [output.storage], output.trust)
    assert not answer.identified and not answer.matches
    assert answer.reason == "no credential, no watermark under the keys at hand, and nothing that looks like it"


def test_a_file_that_is_no_picture_is_answered(output: Output) -> None:
    answer = identify(b"not a picture", [output.storage], output.trust)
    assert (answer.sureness, answer.matches) == ("none", ())
    assert "no picture that can be read" in answer.reason


def test_a_flipped_pixel_voids_the_credential_and_the_mark_still_leads(output: Output) -> None:
    """The credential's chunk is carried over to a file with one pixel changed."""
    plain = encode(output.pixels[3], "image/png")
    chunk = output.files[3][33 : 33 + len(output.files[3]) - len(plain)]
    pixels = output.pixels[3].copy()
    pixels[5, 5] ^= 1
    changed = encode(pixels, "image/png")
    answer = identify(changed[:33] + chunk + changed[33:], [output.storage], output.trust)
    check(answer, output, 3)
    assert answer.finding and answer.finding.state == "invalid" and "dataHash" in answer.finding.reason
    assert (answer.sureness, answer.by) == ("strong", "watermark")


def residue(output: Output, number: int) -> np.ndarray:
    """What the mark added to a picture, float (SIDE, SIDE, 3): more than a thief could win back."""
    return np.subtract(output.pixels[number], drawn(number), dtype=np.float32)


def lifted(output: Output, number: int) -> bytes:
    """The mark of one picture laid over another, then cut by 4 %, which voids its looks."""
    other = np.clip(drawn(70 + number) + 1.3 * residue(output, number), 0, 255).astype(np.uint8)
    return encode(other[13:-13, 13:-13], "image/png")


def signed(by: KeySet, output: Output, pixels: Pixels, number: int, kind: str = "image/jpeg") -> bytes:
    """Any pixels under the claim of a record of ours."""
    record = output.records[number]
    return Issuer(by).issue(encode(pixels, kind), kind, claim_for(record, record.claim_digest or "", "ACME", by.mark_key))


def by_a_camera(by: KeySet, pixels: Pixels) -> bytes:
    """A credential of somebody else's, which says that a camera took the picture."""
    captured = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    claim = Claim("ee" * 16, 1, "ee" * 32, "ee" * 32, "Camera", "camera", "1", 1_800_000_000_000_000, source_type=captured)
    return Issuer(by).issue(encode(pixels, "image/png"), "image/png", dataclasses.replace(claim, image_id="none"))


FORGERIES: dict[str, tuple[Callable[[Output, KeySet, int], bytes], str]] = {
    "a credential over another picture of ours": (
        lambda output, stranger, n: signed(output.keys, output, output.pixels[(n + 1) % COUNT], n),
        "and it carries",
    ),
    "a stranger's over another picture of ours": (
        lambda output, stranger, n: signed(stranger, output, output.pixels[(n + 1) % COUNT], n),
        "and it carries",
    ),
    "a camera's over a picture of ours": (
        lambda output, stranger, n: by_a_camera(stranger, output.pixels[n]),
        "says that a camera took it, and the picture carries our watermark",
    ),
    "a credential over a picture that is not ours": (
        lambda output, stranger, n: signed(output.keys, output, drawn(40 + n), n),
        "the credential names a record whose picture looks otherwise",
    ),
    "a credential over a file that was not recorded": (
        lambda output, stranger, n: signed(output.keys, output, output.pixels[n], n),
        "names this record, but the record's file is another one",
    ),
    "a stranger's over a copy": (
        lambda output, stranger, n: signed(stranger, output, output.pixels[n][4:, 4:], n, "image/webp"),
        "(untrusted) is intact and names this record, but the record's file is another one",
    ),
    "a mark over another picture": (
        lambda output, stranger, n: encode(
            embed(drawn(77 + n)[None], [Payload(1, str(output.records[n].watermark_payload))], output.keys.mark_key)[0], "image/png"
        ),
        "the mark may have been copied",
    ),
    "a mark lifted, laid over another picture and cut": (lambda output, stranger, n: lifted(output, n), "the mark may have been copied"),
}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    return keys.init(tmp_path_factory.mktemp("stranger") / "set")


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forgery_is_contradicted_and_says_why(output: Output, stranger: KeySet, kind: str) -> None:
    make, why = FORGERIES[kind]
    for number in range(COUNT):
        answer = identify(make(output, stranger, number), [output.storage], output.trust)
        assert (answer.sureness, answer.identified) == ("contradicted", False), (number, answer.reason)
        assert any(why in one for one in answer.contradictions) and answer.reason == "; ".join(answer.contradictions)
        assert answer.as_json()["contradictions"] == list(answer.contradictions)


def test_overlays_of_odd_pictures() -> None:
    """Blank shows blank, and nothing else; whatever the shape, there is an answer."""
    blank, scene = np.full((90, 120, 3), 128, np.uint8), drawn(5)
    assert lay_over(blank, blank + 20).shown and not lay_over(blank, scene).shown and not lay_over(scene, blank).shown
    assert lay_over(scene, scene).shown
    for shape in ((1, 1), (1, 400), (400, 1), (8, 640), (3, 3)):
        odd = np.random.default_rng(1).integers(0, 255, (*shape, 3), dtype=np.uint8)
        for one, other in ((odd, scene), (scene, odd)):
            for scale in (None, 0.001, 0.3, 0.999):
                assert not lay_over(one, other, scale).shown, (shape, scale)


def test_a_picture_that_a_review_moved_is_known_by_both_its_files(output: Output) -> None:
    picture = gather(output.files[1], "1", Beliefs.of(output.trust))
    (match,) = identify(output.files[1], [output.storage], output.trust).matches
    moved = dataclasses.replace(match, review=dataclasses.replace(match.record, file_sha256="ab" * 32))
    assert contradictions(picture, [moved]) == ()
    assert len(contradictions(dataclasses.replace(picture, digest="cd" * 32), [moved])) == 1


def test_what_was_changed_in_a_copy_is_shown(output: Output) -> None:
    pixels = output.pixels[2].copy()
    pixels[200:260, 60:140] = drawn(80)[200:260, 60:140]
    answer = identify(encode(pixels, "image/jpeg", quality=85), [output.storage], output.trust)
    check(answer, output, 2)
    assert answer.sureness == "strong" and "it differs in one place" in answer.reason
    (box,) = answer.matches[0].overlay.altered if answer.matches[0].overlay else ()
    assert np.allclose(box, (60 / SIDE, 200 / SIDE, 140 / SIDE, 260 / SIDE), atol=0.04)


def test_without_its_stored_picture_a_part_is_a_lead(output: Output, tmp_path: Path) -> None:
    shutil.copytree(str(output.storage.uri).removeprefix("file://"), tmp_path / "out")
    bare = LocalStorage(tmp_path / "out", create=False)
    (tmp_path / "out" / str(output.records[1].object_key)).unlink()
    part = identify(encode(cropped(output.pixels[1]), "image/png"), [bare], output.trust)
    assert part.sureness == "lead" and "the stored picture is not there to be compared" in part.reason
    assert identify(encode(jpeg75(output.pixels[1]), "image/png"), [bare], output.trust).sureness == "strong", "its hash is in the record"


def test_an_edit_by_another_program_leads_to_its_source(output: Output, tmp_path: Path) -> None:
    """The mark is painted over; what is left is the source's credential inside the editor's."""
    editor = keys.init(tmp_path / "editor")
    source = Ingredient("init", "ee" * 32, "image/png", output.files[2])
    claim = Claim("ee" * 16, 1, "ee" * 32, "ee" * 32, "Editor", "editor", "1", 1_800_000_000_000_000, ingredients=(source,))
    edited = Issuer(editor).issue(encode(drawn(66), "image/png"), "image/png", claim)
    answer = identify(edited, [output.storage], output.trust)
    check(answer, output, 2)
    assert (answer.sureness, answer.by) == ("lead", "source") and not answer.identified
    assert "(untrusted) made this picture out of this record's" in answer.reason


def test_a_log_signed_by_a_stranger_is_not_trusted(output: Output, key_set: KeySet, tmp_path: Path) -> None:
    stranger = keys.init(tmp_path / "stranger")
    other = build(tmp_path / "out", key_set, stranger.signer())
    answer = identify(other.files[0], [other.storage], output.trust)
    assert (answer.sureness, answer.trusted) == ("strong", False)
    assert "no trusted key signed the log" in answer.reason
    both = identify(other.files[0], [other.storage, output.storage], output.trust)
    assert both.matches[0].log == "trusted" and both.trusted, "the trusted log is preferred"


def test_colliding_payloads_are_told_apart_by_looks(key_set: KeySet, output: Output, tmp_path: Path) -> None:
    """Three records with one payload, as 44 bits allow: the whole copy is decided, the crop is not."""
    storage = LocalStorage(tmp_path / "out", create=True)
    writer = LogWriter.open(storage, "mugs", key_set.signer())
    payload = output.records[1].watermark_payload
    twins = [dataclasses.replace(record, watermark_payload=payload, claim_digest=None) for record in output.records[:3]]
    twins = [sealed(record) for record in twins]
    writer.append([Record("plan", job="mugs", plan_digest="p", manifest_digest="m", settings_digest="s", planned=3)])
    writer.append(twins)
    whole = identify(encode(jpeg75(output.pixels[1]), "image/png"), [storage], output.trust)
    assert whole.sureness == "strong" and whole.matches[0].record == twins[1]
    crop = identify(encode(cropped(output.pixels[1]), "image/png"), [storage], output.trust)
    assert crop.sureness == "lead" and "3 records with the same 44 bits" in crop.reason
    assert len(crop.matches) == 3


def test_the_same_shape_in_other_colours_is_said_to_be_so(output: Output) -> None:
    """PDQ sees luminance only: with red and blue chroma swapped it cannot tell the pictures apart, the colour thumbnail can."""
    swapped = cv2.cvtColor(output.pixels[0], cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    data = encode(np.asarray(cv2.cvtColor(np.ascontiguousarray(swapped), cv2.COLOR_YCrCb2RGB), dtype=np.uint8), "image/png")
    answer = identify(data, [output.storage], None)
    check(answer, output, 0)
    assert answer.sureness == "lead" and answer.matches[0].colours is False and "in other colours" in answer.reason


def test_a_damaged_part_is_noted_and_the_others_still_answer(output: Output, tmp_path: Path, key_set: KeySet) -> None:
    other = build(tmp_path / "out", key_set)
    broken = tmp_path / "out" / part_key(1)
    broken.write_bytes(b"PAR1 nothing PAR1")
    gone = identify(other.files[0], [other.storage], other.trust)
    assert not gone.identified and len(gone.notes) == 1 and "00000001.parquet" in gone.notes[0]
    check(identify(other.files[1], [other.storage], other.trust), other, 1)


def test_many_pictures_share_one_pass_and_keep_their_order(output: Output) -> None:
    pictures = [(f"{number}", data) for number, data in enumerate(output.files)]
    pictures.insert(2, ("junk", b"junk"))
    answers = list(identify_all(pictures, [output.storage], output.trust))
    assert [answer.picture for answer in answers] == ["0", "1", "junk", "2", "3"]
    assert [answer.sureness for answer in answers] == ["certain", "certain", "none", "certain", "certain"]


def test_answers_are_json_and_name_no_secret(output: Output) -> None:
    text = json.dumps(identify(output.files[0], [output.storage], output.trust).as_json())
    row = json.loads(text)
    assert row["identified"] is True and row["matches"][0]["record"]["prompt"] == "mug 0"
    assert row["credential"]["state"] == "trusted" and row["watermark"]["present"] is True and row["watermark"]["version"] == VERSION
    assert output.keys.mark_key.secret.hex() not in text


def test_pictures_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("b.PNG", "a/c.jpeg", "note.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in pictures_in(tmp_path)] == ["c.jpeg", "b.PNG"]
    with pytest.raises(PictureError, match="no such file"):
        list(pictures_in(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PictureError, match="no picture in this folder"):
        list(pictures_in(tmp_path / "empty"))
