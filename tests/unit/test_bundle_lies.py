"""What a log's holder wrote wrongly and signed well: the program and the verifier of docs/examples both refuse its proof."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from renderfarm.log.proofs import prove, verify_any
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer, key_id
from renderfarm.notes.note import Signature, to_bytes
from renderfarm.notes.statement import parse, sign
from renderfarm.records import canonical
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage
from tests.formats import ADA, EXAMPLES, OTHER, PARTS_4, RECORDS_4, SIGNER, VKEY, verify_each

REVIEW, AGAIN = RECORDS_4["review-4"], RECORDS_4["again-4"]
KEYS, PEOPLE = {SIGNER.name: SIGNER.public_key}, {ADA.name: ADA.public_key}


def sealed(record: Record, **fields: Any) -> Record:
    return canonical.sealed(dataclasses.replace(record, **fields))


def restated(by: Signer = ADA, **fields: Any) -> str:
    return sign(dataclasses.replace(parse(str(REVIEW.signed).encode()), **fields), by).to_bytes().decode()


def spelled(*lines: str, name: str = ADA.name) -> Record:
    """The review with a note of these further fields, under this key's name, as who reads no page signs it."""
    identity = key_id(name, ADA.public_key)
    plain = dataclasses.replace(parse(str(REVIEW.signed).encode()), signer=f"{name}+{identity.hex()}").text()
    text = plain + "".join(f"{line}\n" for line in lines).encode()
    signed = to_bytes(text, [Signature(name, identity, ADA.sign(text))]).decode()
    return sealed(REVIEW, signed=signed, reviewer=unquote(name.removeprefix("renderfarm-person/")))


def named(by: object) -> Record:
    """The review with a name that it gives itself."""
    statement = parse(str(REVIEW.signed).encode())
    text = statement.text().replace(b"\noutcome", f"\nby_name {json.dumps(by)}\noutcome".encode())
    line = Signature(ADA.name, key_id(ADA.name, ADA.public_key), ADA.sign(text))
    return sealed(REVIEW, signed=to_bytes(text, [line]).decode())


LIES: dict[str, tuple[str, Record]] = {
    "nothing": ("", REVIEW),
    "a claim digest that is none": ("again-4", dataclasses.replace(AGAIN, claim_digest="0" * 64)),
    "a payload of another attempt": ("again-4", sealed(AGAIN, watermark_payload="00000000000")),
    "a review turned round": ("review-4", sealed(REVIEW, outcome="rejected")),
    "another reviewer": ("review-4", sealed(REVIEW, reviewer="Bob")),
    "other words": ("review-4", sealed(REVIEW, reason="reads badly")),
    "words dropped": ("review-4", sealed(REVIEW, reason=None)),
    "empty words": ("review-4", sealed(REVIEW, reason="")),
    "no note": ("review-4", sealed(REVIEW, signed=None)),
    "a note in an attempt": ("again-4", sealed(AGAIN, signed=REVIEW.signed)),
    "a note for another log": ("review-4", sealed(REVIEW, signed=restated(origin="renderfarm/cups"))),
    "a stranger in Ada's name": ("review-4", sealed(REVIEW, signed=restated(Signer.of(ADA.name, OTHER)))),
    "an edited note": ("review-4", sealed(REVIEW, signed=str(REVIEW.signed).replace("nonce d", "nonce e"))),
    "an attempt that is true": ("review-4", sealed(REVIEW, signed=restated(fields=(("attempt", True), ("outcome", "accepted"))))),
    "characters that are no letters": ("review-4", spelled('text "\x7f\x85\u2028"', "whole [-9223372036854775808,9223372036854775807]")),
    "an int of 65 bits": ("review-4", spelled("whole 9223372036854775808")),
    "an int of 400 digits": ("review-4", spelled("whole " + "9" * 400)),
    "an int of 5000 digits": ("review-4", spelled("whole " + "9" * 5000)),
    "4097 items": ("review-4", spelled(f"some [{','.join('1' * 4097)}]")),
    "a by_name that is a number": ("review-4", named(5)),
    **{f"a key named {name}": ("review-4", spelled(name=f"renderfarm-person/{name}")) for name in ("%41da", "%FF", "A%0Ad", "A%C2%85", "")},
}
GOOD = ("nothing", "characters that are no letters")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, tuple[int, str]]]:
    """Of each lie its proof, and what the other verifier says of it."""
    base, files = tmp_path_factory.mktemp("lies"), dict[str, Path]()
    writer = LogWriter.open(LocalStorage(base / "begun", create=True), "mugs", SIGNER)
    for number, names in enumerate(PARTS_4):
        shutil.copytree(base / "begun", base / f"begun-{number}")
        writer.append([RECORDS_4[name] for name in names])
    for number, (name, (place, lie)) in enumerate(LIES.items()):
        first = next((number for number, names in enumerate(PARTS_4) if place in names), len(PARTS_4) - 1)
        shutil.copytree(base / f"begun-{first}", base / str(number))
        storage = LocalStorage(base / str(number), create=False)
        writer = LogWriter.open(storage, "mugs", SIGNER)
        names = PARTS_4[first]  # what comes behind the lie is left out: its own part is enough to prove it
        writer.append([lie if one == place else RECORDS_4[one] for one in names])
        files[name] = base / f"{number}.json"
        files[name].write_bytes(prove(storage, str(lie.image_id)))
    said = verify_each(*(("bundle", file, "--key", VKEY, "--person", EXAMPLES / "trust") for file in files.values()))
    return {name: (file.read_bytes(), answer) for (name, file), answer in zip(files.items(), said, strict=True)}


@pytest.mark.parametrize("name", LIES)
def test_both_verifiers_say_the_same_of_a_proof(name: str, bundles: dict[str, tuple[bytes, tuple[int, str]]]) -> None:
    bundle, (code, said) = bundles[name]
    found = verify_any(bundle, KEYS, PEOPLE)
    assert (found.ok, code) == ((True, 0) if name in GOOD else (False, 1)), (str(found), said)
    assert found.ok or found.reason.startswith("not proven: "), found.reason


def test_who_signed_is_only_judged_where_people_are_trusted(bundles: dict[str, tuple[bytes, tuple[int, str]]]) -> None:
    assert verify_any(bundles["a stranger in Ada's name"][0], KEYS).ok and not verify_any(bundles["other words"][0], None).holds
