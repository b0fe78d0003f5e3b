"""The signed note of a statement, letters in the inbox, and keys of people: one spelling each, and nothing else is read."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfarm import keys, notes
from renderfarm.cli import main
from renderfarm.errors import AlreadyStored, KeysError, UserError
from renderfarm.notes import NoteMalformed, NoteUntrusted, Signer
from renderfarm.notes.statement import Statement, parse, person_key_name, person_name, sign, verify, words_commitment
from renderfarm.output import INBOX
from renderfarm.schema import Subject
from renderfarm.statements import inbox
from renderfarm.statements.reviews import require_speaker
from renderfarm.storage import LocalStorage
from tests.statements import letter, note, person

ADA, BOB = person("Ada Lovelace"), person("Bob")
KNOWN = {ADA.name: ADA.public_key}
SUBJECT = Subject("ab" * 16, "cd" * 32)
SAID = sign(Statement("renderfarm/mugs", "review", "", 1_790_000_000_000_000, "0a" * 16, words_commitment("0f" * 16, "legible"), (SUBJECT,),
                      (("attempt", 2), ("list", (1, "two", None, True)), ("outcome", "accepted"))), ADA)  # fmt: skip
TEXT = SAID.to_bytes().decode()
VECTOR = """\
renderfarm-statement/1
renderfarm/mugs
review
by renderfarm-person/Ada%20Lovelace+27c1a9b2
time 1790000000000000
nonce 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a
words {words}
subject abababababababababababababababab cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
attempt 2
list [1,"two",null,true]
outcome "accepted"
"""


def test_a_statement_reads_as_it_was_written() -> None:
    assert parse(SAID.to_bytes()) == SAID and verify(SAID, KNOWN) == ADA.name
    assert (SAID.speaker, SAID.get("attempt"), SAID.get("nothing")) == ("Ada Lovelace", 2, None)
    assert SAID.text().decode() == VECTOR.format(words=words_commitment("0f" * 16, "legible")).replace("27c1a9b2", SAID.signer[-8:])


def test_a_log_key_names_who_speaks_and_a_persons_key_is_believed_over_a_name() -> None:
    log_key = dataclasses.replace(ADA, name="renderfarm-development/1")
    assert note("review", log_key, by_name="Eve").speaker == "Eve"
    assert note("review", log_key).speaker == "renderfarm-development/1"
    assert note("review", ADA, by_name="Eve").speaker == "Ada Lovelace"


HOSTILE = {
    "no note": b"",
    "not signed": SAID.text(),
    "another magic": TEXT.replace("statement/1", "statement/2").encode(),
    "signed twice": (TEXT + TEXT.splitlines()[-1] + "\n").encode(),
    "a second signer": SAID.to_bytes() + note("review", BOB).to_bytes().splitlines()[-1] + b"\n",
    "another signer's line": TEXT.replace("by renderfarm-person/Ada%20Lovelace", "by renderfarm-person/Bob").encode(),
    "a type with capitals": TEXT.replace("\nreview\n", "\nReview\n").encode(),
    "a type too long": TEXT.replace("\nreview\n", f"\n{'r' * 41}\n").encode(),
    "no origin": TEXT.replace("renderfarm/mugs", "").encode(),
    "time 0": TEXT.replace("time 1790000000000000", "time 0").encode(),
    "time with a zero before it": TEXT.replace("time 1", "time 01").encode(),
    "17 digits of time": TEXT.replace("time 1", "time 11").encode(),
    "a short nonce": TEXT.replace("nonce 0a", "nonce ").encode(),
    "words that are none": TEXT.replace("words ", "words x").encode(),
    "a subject in capitals": TEXT.replace("subject ab", "subject AB").encode(),
    "a subject after fields": TEXT.replace("outcome", f"subject {'ab' * 16} {'cd' * 32}\noutcome").encode(),
    "fields not sorted": TEXT.replace("attempt 2", "zeal 2").encode(),
    "a field twice": TEXT.replace("attempt 2", "attempt 2\nattempt 3").encode(),
    "a field named as a line": TEXT.replace("attempt 2", "attempt 2\nby 3").encode(),
    "a value with blanks": TEXT.replace('[1,"two"', '[1, "two"').encode(),
    "a float": TEXT.replace("attempt 2", "attempt 2.0").encode(),
    "65 bits": TEXT.replace("attempt 2", f"attempt {1 << 63}").encode(),
    "400 digits": TEXT.replace("attempt 2", f"attempt {'9' * 400}").encode(),
    "5000 digits": TEXT.replace("attempt 2", f"attempt {'9' * 5000}").encode(),
    "a by_name that is a number": TEXT.replace("attempt 2", "attempt 2\nby_name 5").encode(),
    "4097 items": TEXT.replace("attempt 2", f"attempt [{','.join('1' * 4097)}]").encode(),
    "minus zero": TEXT.replace("attempt 2", "attempt -0").encode(),
    "NaN": TEXT.replace("attempt 2", "attempt NaN").encode(),
    "an object": TEXT.replace("attempt 2", 'attempt {"a":1}').encode(),
    "a list of lists": TEXT.replace("attempt 2", "attempt [[1]]").encode(),
    "a hundred thousand brackets": TEXT.replace("attempt 2", "attempt " + "[" * 100_000).encode(),
    "an escaped letter": TEXT.replace('"accepted"', '"\\u0061ccepted"').encode(),
    "half a pair": TEXT.replace('"accepted"', '"\\ud800"').encode(),
    "no value": TEXT.replace("attempt 2", "attempt").encode(),
    "a carriage return": TEXT.replace("attempt 2", "attempt 2\r").encode(),
    "not UTF-8": SAID.to_bytes() + b"\xff",
    "too large": TEXT.replace('"accepted"', json.dumps("a" * (1 << 20))).encode(),
    "too many subjects": TEXT.replace("attempt 2", "\n".join([f"subject {'ab' * 16} {'cd' * 32}"] * 4096) + "\nattempt 2").encode(),
    "too many fields": TEXT.replace("attempt 2", "\n".join(f"a{chr(97 + n // 26)}{chr(97 + n % 26)} 1" for n in range(70))).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_spelled_otherwise_is_malformed(name: str) -> None:
    with pytest.raises(NoteMalformed):
        parse(HOSTILE[name])


@given(place=st.integers(0, len(SAID.to_bytes()) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_leaves_a_good_statement(place: int, bit: int) -> None:
    data = bytearray(SAID.to_bytes())
    data[place] ^= 1 << bit
    with pytest.raises((NoteMalformed, NoteUntrusted)):
        verify(parse(bytes(data)), KNOWN)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXTS


@given(st.dictionaries(st.from_regex(r"f[a-z_]{1,38}", fullmatch=True), VALUES | st.lists(VALUES, max_size=4).map(tuple), max_size=5))
def test_every_field_comes_back(fields: dict[str, object]) -> None:
    said = note("sample", ADA, **fields)  # type: ignore[arg-type]
    assert parse(said.to_bytes()) == said and dict(said.fields) == fields


def test_what_would_not_be_read_is_not_signed() -> None:
    for wrong in (dataclasses.replace(SAID, kind="Review"), dataclasses.replace(SAID, fields=(("at", 0.5),))):  # type: ignore[arg-type]
        with pytest.raises(NoteMalformed):
            sign(wrong, ADA)


@pytest.mark.parametrize("known", [{}, {ADA.name: BOB.public_key}, {BOB.name: BOB.public_key}])
def test_only_known_people_count(known: dict[str, object]) -> None:
    with pytest.raises(NoteUntrusted, match="no known person's key"):
        verify(SAID, known)  # type: ignore[arg-type]


def test_a_signature_of_something_else_is_bad() -> None:
    other = dataclasses.replace(SAID, time_us=SAID.time_us + 1)
    with pytest.raises(NoteUntrusted, match="is bad"):
        verify(other, KNOWN)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_every_name_makes_a_key_name_and_comes_back(name: str) -> None:
    assert person_name(person_key_name(name)) == name and not set(person_key_name(name)) & set(" +\n\t")


def test_a_letter_is_put_once_however_often_it_is_put(tmp_path: Path) -> None:
    storage, one = LocalStorage(tmp_path, create=True), letter(note("review", ADA, words="legible"), "legible")
    for again in (one, one, dataclasses.replace(one, parts=(7,))):
        inbox.put(storage, again)
    (key,) = inbox.keys(storage)
    assert inbox.read(storage, key) == one and key == one.key and len(one.name) == 16
    assert inbox.read(storage, key.replace("1", "2")) is None
    storage.put(one.key, b"{}")
    with pytest.raises(AlreadyStored):
        inbox.put(storage, one)


ONE = letter(note("review", ADA, words="legible"), "legible")
CONTENT = json.loads(ONE.to_bytes())


@pytest.mark.parametrize(
    "changes",
    [
        {"note": 1}, {"note": "hello"}, {"note": "\ud800"}, {"words": "illegible"}, {"words": None}, {"words": "\ud800"},
        {"words": "w" * 40_000}, {"salt": None}, {"salt": "0f" * 15}, {"salt": "0F" * 16}, {"parts": None}, {"parts": [-1]},
        {"parts": [True]}, {"parts": [10**9]}, {"more": 1},
    ],
)  # fmt: skip
def test_a_letter_that_is_not_its_own_is_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(NoteMalformed):
        inbox.parse(ONE.key, json.dumps({**CONTENT, **changes}).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"[" * 100_000, b" " * (3 << 20)])
def test_what_is_no_letter_is_malformed(data: bytes) -> None:
    with pytest.raises(NoteMalformed):
        inbox.parse(ONE.key, data)


def test_a_letter_under_another_name_is_malformed() -> None:
    with pytest.raises(NoteMalformed, match="its name"):
        inbox.parse(f"{INBOX}{1:016d}-{'0' * 16}.json", ONE.to_bytes())


def test_a_persons_key_is_made_once_and_trusted_by_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = keys.init(tmp_path / "keys")
    assert main(["keys", "person", "Ada Lovelace", "-o", str(tmp_path / "people")]) == 0
    private, public = (tmp_path / "people" / f"Ada%20Lovelace{suffix}" for suffix in (".skey", ".person"))
    assert (os.stat(private).st_mode & 0o777, os.stat(public).st_mode & 0o777) == (0o600, 0o644)
    (made.folder / "trust" / public.name).write_bytes(public.read_bytes())
    trust, signer = made.trust(), keys.load_person(private)
    assert isinstance(signer, Signer) and verify(note("review", signer), trust.people) == "renderfarm-person/Ada%20Lovelace"
    assert set(trust.people) == {made.log_name, signer.name} and set(trust.person_keys) == {signer.name}
    assert main(["keys", "person", "Ada Lovelace", "-o", str(tmp_path / "people")]) == 2
    assert "there is a key of this name already" in capsys.readouterr().err
    for name in ("", " Ada", "A\x1b[31m", "a" * 121):
        with pytest.raises(KeysError, match="not a usable name"):
            keys.make_person(tmp_path / "people", name)


def test_a_person_may_not_be_named_as_a_log(tmp_path: Path) -> None:
    made = keys.init(tmp_path / "keys")
    trust = made.folder / "trust"
    (trust / "eve.person").write_bytes((trust / "log.vkey").read_bytes())
    with pytest.raises(KeysError, match="are both named"):
        made.trust()


def test_a_person_may_change_their_key_and_what_the_old_one_signed_still_counts(tmp_path: Path) -> None:
    made, new = keys.init(tmp_path / "keys"), dataclasses.replace(BOB, name=ADA.name)
    for name, one in (("ada", ADA), ("ada-2027", new), ("ada-again", new)):
        (made.folder / "trust" / f"{name}.person").write_text(notes.verifier_key(one.name, one.public_key) + "\n")
    people = made.trust().people
    assert len(people) == 3
    for one in (ADA, new):
        assert verify(note("review", one), people) == ADA.name
    with pytest.raises(NoteUntrusted, match="no known person's key"):
        verify(note("review", dataclasses.replace(person("Eve"), name=ADA.name)), people)


ODD_NAMES = ["%41da", "%FF", "A%0Ad", "%7f", "A%C2%85", "Ada%2fx", "Ada%", ""]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_person_has_one_key_name(tmp_path: Path, name: str) -> None:
    odd = dataclasses.replace(BOB, name=f"renderfarm-person/{name}")
    with pytest.raises(NoteMalformed, match="not how a person's key is named"):
        note("review", odd)
    made = keys.init(tmp_path / "keys")
    (made.folder / "trust" / "odd.person").write_text(notes.verifier_key(odd.name, odd.public_key) + "\n")
    with pytest.raises(KeysError, match="not how a person's key is named"):
        made.trust()


@pytest.mark.parametrize("by", ["Ada Lovelace", "ada  lovelace", "\uff21da Lovelace"])
def test_another_key_does_not_speak_as_a_person_who_has_one(by: str) -> None:
    log_key = dataclasses.replace(BOB, name="renderfarm-development/1")
    with pytest.raises(UserError, match="has a key of their own"):
        require_speaker(note("review", log_key, by_name=by), {**KNOWN, log_key.name: log_key.public_key})
    require_speaker(note("review", log_key, by_name="Grace"), KNOWN)
    require_speaker(SAID, KNOWN)
