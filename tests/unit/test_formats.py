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
from renderfarm.log import parts, values
from renderfarm.log.parts import PartFile
from renderfarm.log.proofs import prove
from renderfarm.log.writer import LogWriter
from renderfarm.records.canonical import sealed
from renderfarm.records.tables import OF_VALUES, arrow_schema, as_dict, from_dict, values_schema, view_schema
from renderfarm.schema import Adapter, Box, Input, ObjectCount, Record, Verdict, record_fields
from renderfarm.storage import LocalStorage
from tests.formats import (
    DOCS,
    EXAMPLES,
    JOB_JSON,
    MANIFEST,
    MANIFEST_4,
    PAGES,
    PLAN_2,
    RECORDS,
    RECORDS_4,
    SALT,
    SALTS,
    SETTINGS,
    SIGNER,
    VECTORS,
    VKEY,
    WEIGHTS,
    forget,
    grown,
    made_vectors,
    values_beside,
    verify,
    verify_each,
    write_example,
    write_example_4,
)
from tests.older import KEYS, OUTPUTS


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outputs of the examples, made anew: `output`, `output4`."""
    folder = tmp_path_factory.mktemp("formats")
    write_example(folder / "output")
    write_example_4(folder / "output4")
    return folder


# The page and the vectors.


def test_the_vectors_are_what_the_code_gives(examples: Path) -> None:
    said, made = json.loads(VECTORS.read_text("utf-8")), made_vectors(examples / "output", examples / "output4")
    assert said.keys() == made.keys()
    for name, value in made.items():
        assert said[name] == value, name


COUNTS = {
    "output": "3 planned = 2 accepted + 0 exhausted + 0 failed + 1 remaining",
    "output4": "3 planned = 3 accepted + 0 exhausted + 0 failed + 0 remaining",
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_example_output_is_the_one_of_the_vectors(name: str, examples: Path) -> None:
    """Parquet bytes may differ from one version of Arrow to the next; what they say may not."""
    lying = {folder: sorted(p.relative_to(folder / name).as_posix() for p in (folder / name).rglob("*") if p.is_file())
             for folder in (examples, EXAMPLES)}  # fmt: skip
    assert lying[examples] == lying[EXAMPLES]
    for key in lying[EXAMPLES]:
        ours, theirs = ((folder / name / key).read_bytes() for folder in (examples, EXAMPLES))
        number = output.part_number(key)
        if number is not None:
            one, two = (parts.read_part(PartFile(data, None), number) for data in (ours, theirs))
            assert one.footer == two.footer and one.table.equals(two.table)
        elif key.startswith(output.VALUES) and key != output.SALT:
            footer, _ = values_beside(LocalStorage(EXAMPLES / name, create=False), int(key.rpartition("/")[2][:8]))
            one_, two_ = (values.read(data, footer.number, footer.row_root, footer.rows) for data in (ours, theirs))
            assert one_.equals(two_)
        else:
            assert ours == theirs, key
    report = audit(LocalStorage(EXAMPLES / name, create=False), keys.load_trust(EXAMPLES / "trust"), quick=True)
    assert report.ok and str(report.counts) == COUNTS[name], report.text()


def test_the_records_of_the_vectors_read_back() -> None:
    said = json.loads(VECTORS.read_text("utf-8"))["records"]
    for name, record in (RECORDS | RECORDS_4).items():
        read = from_dict(said[name]["record"])
        assert as_dict(read) == said[name]["record"] and (record.version < 3 or read == record), name


def blocks(kind: str) -> list[tuple[str, str]]:
    """Fenced blocks of the pages whose info string begins with this word: the rest of that string, and what stands inside."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    return re.findall(rf"^```{kind}(?: (.*))?\n((?:.*\n)*?)```$", text, re.MULTILINE)


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


def said_fields(text: str) -> list[tuple[str, str, bool, int]]:
    """Name, kind, whether it may be null, and since which version."""
    found = [re.fullmatch(r"(\w+):(\w+)(\??)(?:@(\d))?", item) for item in text.split()]
    return [(match[1], match[2], bool(match[3]), int(match[4] or 1)) for match in found if match is not None]


def arrow_of(kind: str, members: dict[str, str]) -> pa.DataType:
    """The Arrow type of what the page calls by this name."""
    plain = {"text": pa.string(), "int": pa.int64(), "float": pa.float64()}
    if kind in plain:
        return plain[kind]
    inside = [pa.field(name, arrow_of(of, members), nullable=null) for name, of, null, _ in said_fields(members[kind])]
    if kind == "tags":
        return pa.map_(inside[0].type, inside[1])
    return pa.list_(pa.field("element", inside[0].type if kind == "strings" else pa.struct(inside), nullable=False))


def test_the_page_names_the_fields_of_every_version() -> None:
    (_, until_3), (_, of_4), (_, beside), (_, listed) = blocks("fields")
    members = dict(line.split(" = ") for line in listed.splitlines())
    for version in (1, 2, 3):
        assert [name for name, _, _, since in said_fields(until_3) if since <= version] == list(record_fields(version))
    assert [name for name, *_ in said_fields(of_4)] == list(record_fields(4))
    assert [name for name, *_ in said_fields(beside)] == list(OF_VALUES)
    for text, schema in ((until_3, arrow_schema(3)), (of_4, arrow_schema(4)), (beside, values_schema())):
        assert len(said_fields(text)) == len(text.split())
        for name, kind, null, _ in said_fields(text):
            field = schema.field(name)
            assert (arrow_of(kind, members), null) == (field.type, field.nullable), name
    evidence = (EXAMPLES / "evidence.py").read_text("utf-8")
    for name, text in (("FIELDS", until_3), ("FIELDS_4", of_4), ("VALUES", beside)):
        assert text.split() == re.search(rf'^{name} = """(.*?)"""', evidence, re.DOTALL | re.MULTILINE)[1].split()  # type: ignore[index]
    assert all(f'"{name}": "{text}"' in evidence for name, text in members.items())


def test_the_page_names_every_entry_of_a_footer_and_stays_short() -> None:
    beside = (values.VERSION_KEY, values.PART_KEY, values.ROOT_KEY)
    text, derived = (page.read_text("utf-8") for page in PAGES)
    assert all(f"`{key.decode()}`" in text for key in (*parts.FOOTER_KEYS, parts.INDEX_KEY, *beside))
    for page in (text, derived):
        assert page.count("\n") <= 500 and max(map(len, page.splitlines())) <= 140


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
    row = digest('{"id":"mug-1","prompt":"a red mug"}').hex()
    assert row == said["row_digests"]["plain"]
    salted, salt = said["salted"], SALTS["plain"]
    assert (
        digest(plain.replace("image 1", "image 2").replace('"scheduler"', f'"salt":"{salt}","scheduler"')).hex()[:32]
        == (salted["image_ids"]["plain"][0])
    )
    assert digest(f'["renderfarm row 2",["{salt}","{row}"]]').hex() == salted["row_digests"]["plain"]
    assert digest(f'["renderfarm manifest 2",["{SALT}","{MANIFEST}"]]').hex() == salted["manifest_digest"] == MANIFEST_4
    assert digest(f'["renderfarm invalid row 2",["{salt}","mug-9",4,"{"0" * 64}"]]').hex()[:32] == salted["invalid_image_id"]
    prompt = hashlib.sha256(b"renderfarm prompt/1\n" + bytes.fromhex(salt) + b"a red mug").hexdigest()
    assert prompt == salted["prompt_digest"]
    assert digest(f"renderfarm-words/1\n{SALTS['own seed']}reads well enough").hex() == salted["words"]


# The verifier.


def test_the_verifier_derives_the_vectors() -> None:
    assert verify("vectors", VECTORS) == (0, "verified: 21 records and 6 parts are as the vectors say\n")


def test_the_verifier_names_nothing_of_ours() -> None:
    for path in EXAMPLES.glob("*.py"):
        imported = set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text("utf-8"), re.MULTILINE))
        assert not imported & {"renderfarm", "pyarrow", "numpy"}, path


def test_the_commands_of_the_page_work() -> None:
    begins = "python docs/examples/verify.py "
    commands = [line.removeprefix(begins).split() for line in PAGES[0].read_text("utf-8").splitlines() if line.startswith(begins)]
    run = [[str(DOCS.parent / word) if word.startswith("docs/") else word for word in words] for words in commands]
    answers = verify_each(*run)
    assert [code for code, _ in answers] == [0] * len(run), answers
    said = {Path(words[1]).name: said for words, (_, said) in zip(run, answers, strict=True)}
    assert set(said) == {"vectors.json", "output", "output4", "proof4.json"}
    assert said["output"].startswith("verified: renderfarm/mugs: 3 parts, 11 records, root "), said["output"]
    assert "2 attempt accepted" in said["output"] and "5 pictures have their recorded bytes" in said["output"]
    others = verify_each(*(("bundle", EXAMPLES / name, "--key", EXAMPLES / "trust") for name in ("proof.json", "growth.json")))
    assert [code for code, _ in others] == [0, 0], others
    assert "3 statements by renderfarm-person/Ada" in said["output4"] and "3 records whose values are not there" in said["output4"]


@pytest.mark.parametrize("name", sorted(folder.name for folder in OUTPUTS.glob("v*")))
def test_outputs_of_earlier_versions_verify(name: str) -> None:
    """Real ones, as the versions of their time wrote them."""
    folder = OUTPUTS / name
    trust = ("--key", folder / KEYS / "trust")
    whole = ("log", folder / "output", *trust, "--since", folder / "kept.checkpoint", "--pictures")
    answers = verify_each(whole, *(("bundle", folder / file, *trust) for file in ("bundle.json", "consistency.json")))
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

    def boxes() -> tuple[Box, ...]:
        return tuple(Box(*(number_of(64) for _ in range(4))) for _ in range(rng.randrange(3)))

    def verdict() -> Verdict:
        return Verdict(text(), text(), text(), rng.choice((None, real())), rng.choice((None, real())), boxes())  # type: ignore[arg-type]

    def pairs() -> tuple[tuple[str, str], ...]:
        return tuple((text(), text()) for _ in range(rng.randrange(3)))

    fields: dict[str, Any] = {}
    kinds = {pa.string(): text, pa.int64(): lambda: number_of(64), pa.float64(): real}
    for name in {*record_fields(4), *OF_VALUES} - {"claim_digest", "watermark_payload", "commitment", "salt", "statement", "signed"}:
        field = view_schema().field(name) if name in view_schema().names else None
        if field is not None and field.nullable and rng.random() < 0.5:
            fields[name] = kinds[field.type]()
    fields |= {"verdicts": tuple(verdict() for _ in range(rng.randrange(4))), "batch": tuple(text() for _ in range(rng.randrange(3)))}
    fields |= {"tags": pairs(), "settings": pairs(), "texts": pairs(), "crop": boxes()}
    fields["objects"] = (ObjectCount(text(), number_of(64)),) * rng.randrange(2)
    fields["adapters"] = (Adapter(text(), text(), real()),) * rng.randrange(3)
    fields["inputs"] = tuple(Input(text(), text(), rng.choice((None, text(), text())), boxes()) for _ in range(rng.randrange(3)))
    fields |= {"image_id": f"{number:032x}", "row_id": f"row {number}", "index": 0, "attempt": 1, "outcome": "accepted"}
    fields["pdq"] = f"{number:064x}"
    return sealed(Record("attempt", 4, job="mugs", finished_us=number_of(64), salt=f"{rng.getrandbits(128):032x}", **fields))


def test_a_freshly_written_log_of_odd_and_of_many_records(tmp_path: Path) -> None:
    storage, rng = LocalStorage(tmp_path, create=True), random.Random(15)
    writer = LogWriter.open(storage, "mugs", SIGNER)
    storage.put(output.JOB_FILE, JOB_JSON)
    writer.append([Record("plan", job="mugs", plan_digest=PLAN_2, settings_digest=SETTINGS, planned=20_000)])
    writer.append([random_record(number, rng) for number in range(200)])
    many = [Record("superseded", job="mugs", plan_digest=PLAN_2, image_id=f"{number:032x}") for number in range(10_050)]
    writer.append(many)  # two row groups
    long = [f"{rng.getrandbits(8000):x}" for _ in range(600)]  # the dictionary of their column overflows
    failed = Record("attempt", job="mugs", attempt=1, outcome="failed", salt="5a" * 16)
    writer.append([sealed(dataclasses.replace(failed, image_id=f"{number:032x}", prompt=text)) for number, text in enumerate(long)])
    (tmp_path / "proof.json").write_bytes(prove(storage, f"{7:032x}"))
    (tmp_path / "growth.json").write_bytes(grown(storage))
    bundles = [("bundle", tmp_path / name, "--key", VKEY) for name in ("proof.json", "growth.json")]
    log = ("log", tmp_path, "--key", VKEY)
    (code, said), *proven = verify_each(log, *bundles)
    assert code == 0 and said.startswith("verified: renderfarm/mugs: 4 parts, 10851 records") and "values" not in said, said
    assert [code for code, _ in proven] == [0, 0]
    forget(storage, 1, range(0, 200, 2))
    forget(storage, 3, None)
    (tmp_path / "proof.json").write_bytes(prove(storage, f"{8:032x}"))
    (code, said), (proven_still, of) = verify_each(log, bundles[0])
    assert code == 0 and "700 records whose values are not there" in said, said
    assert proven_still == 0 and "its values are not there" in of, of
