"""docs/formats.md holds: its vectors are what the code gives, and a verifier written from it alone, importing nothing of ours, accepts
what the code writes, now and in earlier versions.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from renderfarm import keys, output
from renderfarm.audit.audit import audit
from renderfarm.log import parts
from renderfarm.log.proofs import prove
from renderfarm.log.record import arrow_schema, from_dict
from renderfarm.log.writer import LogWriter
from renderfarm.schema import ADDED, RECORD_VERSION, Box, ObjectCount, Record, Verdict, record_fields
from renderfarm.storage import LocalStorage
from tests.formats import (
    EXAMPLES,
    JOB_JSON,
    MANIFEST,
    PAGE,
    PLAN_2,
    RECORDS,
    SETTINGS,
    SIGNER,
    VECTORS,
    VKEY,
    WEIGHTS,
    finished,
    grown,
    made_vectors,
    verify,
    verify_each,
    write_example,
)
from tests.older import KEYS, OUTPUTS


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats") / "output"
    write_example(folder)
    return folder


# The page and the vectors.


def test_the_vectors_are_what_the_code_gives(example: Path) -> None:
    said, made = json.loads(VECTORS.read_text("utf-8")), made_vectors(example)
    assert said.keys() == made.keys()
    for name, value in made.items():
        assert said[name] == value, name


def test_the_example_output_is_the_one_of_the_vectors(example: Path) -> None:
    """Parquet bytes may differ from one version of Arrow to the next; what they say may not."""
    for path in sorted(path for path in (EXAMPLES / "output").rglob("*") if path.is_file()):
        key = path.relative_to(EXAMPLES / "output").as_posix()
        number = output.part_number(key)
        if number is None:
            assert path.read_bytes() == (example / key).read_bytes(), key
        else:
            ours, theirs = (parts.read_part((folder / key).read_bytes(), number) for folder in (example, EXAMPLES / "output"))
            assert ours.footer == theirs.footer and ours.table.equals(theirs.table)
    trust = keys.load_trust(EXAMPLES / "trust")
    report = audit(LocalStorage(EXAMPLES / "output", create=False), trust, quick=True)
    assert report.ok and str(report.counts) == "3 planned = 2 accepted + 0 exhausted + 0 failed + 1 remaining", report.text()
    assert from_dict(json.loads(VECTORS.read_text("utf-8"))["records"]["accepted-1"]["record"]) == RECORDS["accepted-1"]


def blocks(kind: str) -> list[tuple[str, str]]:
    """Fenced blocks of the page whose info string begins with this word: the rest of that string, and what stands inside."""
    return re.findall(rf"^```{kind}(?: (.*))?\n((?:.*\n)*?)```$", PAGE.read_text("utf-8"), re.MULTILINE)


def test_the_pages_vectors_are_those_of_the_file() -> None:
    """A `vector NAME` block is one value, wrapped if it is long; a line of a `vectors` block is a name, two spaces or more, a value."""
    document, found = json.loads(VECTORS.read_text("utf-8")), blocks("vector")
    found += [(name, value) for _, content in blocks("vectors") for name, value in re.findall(r"(.+?)  +(\S+)\n", content)]
    assert len(found) >= 20
    for name, content in found:
        value = document
        for step in name.split("/"):
            value = value[int(step)] if isinstance(value, list) else value[step]
        assert (content if "\n" in str(value) else re.sub(r"\s", "", content)) == str(value), name


def test_the_page_names_the_fields_of_every_version() -> None:
    (_, fields), (_, members) = blocks("fields")
    said = [re.fullmatch(r"(\w+):(\w+)(\??)(?:@(\d))?", item) for item in fields.split()]
    assert [match and match[1] for match in said] == list(record_fields(RECORD_VERSION))
    assert {match[1]: int(match[4]) for match in said if match and match[4]} == ADDED
    schema, kinds = arrow_schema(), {"text": pa.string(), "int": pa.int64(), "float": pa.float64()}
    for match in said:
        assert match is not None
        field = schema.field(match[1])
        assert field.nullable == bool(match[3]) and kinds.get(match[2], field.type) == field.type, match[0]
    evidence = (EXAMPLES / "evidence.py").read_text("utf-8")
    assert fields.split() == re.search(r'FIELDS = """(.*?)"""', evidence, re.DOTALL)[1].split()  # type: ignore[index]
    assert all(f'"{line.partition(" ")[0]}": "{line.partition(" = ")[2]}"' in evidence for line in members.splitlines())


def test_the_page_names_every_entry_of_a_footer_and_stays_short() -> None:
    text = PAGE.read_text("utf-8")
    assert all(f"`{key.decode()}`" in text for key in parts.FOOTER_KEYS)
    assert text.count("\n") <= 500 and max(map(len, text.splitlines())) <= 140


def test_ids_and_seeds_derive_as_the_page_says() -> None:
    """The page's JSON, written out by hand, against the code."""

    def digest(text: str) -> bytes:
        return hashlib.sha256(text.encode()).digest()

    said = json.loads(VECTORS.read_text("utf-8"))
    first = said["seeds"]["job 7, row mug-1, index 0"]
    plain = (
        '["renderfarm image 1",{"adapter":null,"guidance":7.5,"index":0,"init":null,"mask":null,"negative_prompt":"blurry",'
        f'"prompt":"a red mug","row":"mug-1","scheduler":"ddim","seed":{first},"size":[512,512],"steps":20,"strength":null,'
        f'"weights":"{WEIGHTS}"}}]'
    )
    assert digest(plain).hex()[:32] == said["image_ids"]["plain"][0]
    for origin, name in (('["job",7,"mug-1",0]', "job 7, row mug-1, index 0"), ('["row",41,1]', "row seed 41, index 1")):
        assert int.from_bytes(digest(f'["renderfarm seed 1",{origin}]')[:6], "big") == said["seeds"][name]
    assert digest(f'["renderfarm plan 1",["{MANIFEST}","{SETTINGS}",3]]').hex() == said["plan_digest"]
    assert digest('{"id":"mug-1","prompt":"a red mug"}').hex() == said["row_digests"]["plain"]


# The verifier.


def test_the_verifier_derives_the_vectors() -> None:
    assert verify("vectors", VECTORS) == (0, "verified: 11 records and 3 parts are as the vectors say\n")


def test_the_verifier_names_nothing_of_ours() -> None:
    for path in EXAMPLES.glob("*.py"):
        imported = set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text("utf-8"), re.MULTILINE))
        assert not imported & {"renderfarm", "pyarrow", "numpy"}, path


def test_the_commands_of_the_page_work() -> None:
    trust = EXAMPLES / "trust"
    code, said = verify("log", EXAMPLES / "output", "--key", trust, "--witness", trust, "--pictures")
    assert code == 0 and said.startswith("verified: renderfarm/mugs: 3 parts, 11 records, root "), said
    assert "2 attempt accepted" in said and "5 pictures have their recorded bytes" in said
    for name in ("proof.json", "growth.json"):
        assert verify("bundle", EXAMPLES / name, "--key", trust)[0] == 0


@pytest.mark.parametrize("version", [1, 2, 3])
def test_outputs_of_earlier_versions_verify(version: int) -> None:
    """Real ones, as the versions of their time wrote them."""
    folder = OUTPUTS / f"v{version}"
    trust = ("--key", folder / KEYS / "trust")
    whole = ("log", folder / "output", *trust, "--since", folder / "kept.checkpoint", "--pictures")
    answers = verify_each(whole, *(("bundle", folder / name, *trust) for name in ("bundle.json", "consistency.json")))
    assert [code for code, _ in answers] == [0, 0, 0], answers


def test_a_key_that_is_none_is_a_wrong_argument() -> None:
    wrong = ("x", f"{VKEY[:-4]}AAAA", EXAMPLES / "verify.py", EXAMPLES / "output")
    assert [code for code, _ in verify_each(*(("log", EXAMPLES / "output", "--key", key) for key in wrong))] == [2] * 4


def random_record(number: int, rng: random.Random) -> Record:
    """An attempt with whatever the columns hold: nulls, empty lists, long and odd texts, extreme numbers."""

    def text() -> str:
        return "".join(rng.choices("aZ0 \n\0\u00e9\u2615\U0001f600\u202e", k=rng.choice((0, 1, 7, 300))))

    def number_of(bits: int) -> int:
        return rng.getrandbits(bits) - (1 << bits - 1)

    def real() -> float:
        return rng.choice((0.0, -0.0, 7.1, 1e-300, float("inf"), -1.5e308))

    def verdict() -> Verdict:
        boxes = tuple(Box(*(number_of(64) for _ in range(4))) for _ in range(rng.randrange(3)))
        return Verdict(text(), text(), text(), rng.choice((None, real())), rng.choice((None, real())), boxes)  # type: ignore[arg-type]

    fields: dict[str, Any] = {}
    for field in arrow_schema():
        if field.nullable and rng.random() < 0.5 and field.name not in ("claim_digest", "watermark_payload"):
            kinds = {pa.string(): text, pa.int64(): lambda: number_of(64), pa.float64(): real}
            fields[field.name] = kinds[field.type]()
    fields |= {"verdicts": tuple(verdict() for _ in range(rng.randrange(4))), "batch": tuple(text() for _ in range(rng.randrange(3)))}
    fields["tags"] = tuple((text(), text()) for _ in range(rng.randrange(3)))
    fields["objects"] = (ObjectCount(text(), number_of(64)),) * rng.randrange(2)
    fields |= {"image_id": f"{number:032x}", "row_id": f"row {number}", "index": 0, "attempt": 1, "outcome": "accepted"}
    fields["pdq"] = f"{number:064x}"
    return finished(Record("attempt", job="mugs", finished_us=number_of(64), **fields))


def test_a_freshly_written_log_of_odd_and_of_many_records(tmp_path: Path) -> None:
    storage, rng = LocalStorage(tmp_path, create=True), random.Random(15)
    writer = LogWriter.open(storage, "mugs", SIGNER)
    storage.put(output.JOB_FILE, JOB_JSON)
    writer.append([Record("plan", job="mugs", plan_digest=PLAN_2, settings_digest=SETTINGS, planned=20_000)])
    writer.append([random_record(number, rng) for number in range(200)])
    many = [Record("superseded", job="mugs", plan_digest=PLAN_2, image_id=f"{number:032x}") for number in range(10_050)]
    writer.append(many)  # two row groups
    long = [f"{rng.getrandbits(8000):x}" for _ in range(600)]  # the dictionary of their column overflows
    failed = Record("attempt", job="mugs", attempt=1, outcome="failed")
    writer.append([finished(dataclasses.replace(failed, image_id=f"{number:032x}", prompt=text)) for number, text in enumerate(long)])
    code, said = verify("log", tmp_path, "--key", VKEY)
    assert code == 0 and said.startswith("verified: renderfarm/mugs: 4 parts, 10851 records"), said
    (tmp_path / "proof.json").write_bytes(prove(storage, f"{7:032x}"))
    (tmp_path / "growth.json").write_bytes(grown(storage))
    bundles = [("bundle", tmp_path / name, "--key", VKEY) for name in ("proof.json", "growth.json")]
    assert [code for code, _ in verify_each(*bundles)] == [0, 0]
