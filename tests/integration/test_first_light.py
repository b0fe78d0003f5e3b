"""One job from manifest to audit, on a folder and on S3; an edited row; what a flipped byte does."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from renderfarm.log import reading
from renderfarm.storage import S3Storage, open_storage, put_if_absent_holds
from tests.integration.conftest import Farm

HOSTILE_ID = "../../etc/passwd"
ROWS: list[dict[str, object]] = [
    {"id": "mug", "prompt": "a red mug", "images": 2, "tags": [("campaign", "spring")]},
    {"id": HOSTILE_ID, "prompt": "<script>alert(1)</script>"},
    {"id": "sign", "prompt": 'a sign that says "ZYXWV"'},
    {"id": "a/b", "prompt": "a blue lamp", "seed": 7},
]
PLANNED = 5


def written(farm: Farm, rows: list[dict[str, object]] = ROWS) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("prompt", pa.string()),
            ("images", pa.int32()),
            ("seed", pa.int64()),
            ("tags", pa.map_(pa.string(), pa.string())),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), farm.folder / "rows.parquet")


def counts(answer: dict[str, int]) -> tuple[int, ...]:
    return tuple(answer[name] for name in ("planned", "accepted", "exhausted", "failed", "remaining"))


def test_a_job_on_a_folder_end_to_end(farm: Farm) -> None:
    written(farm)
    job, out = farm.job(), farm.folder / "out"

    first = farm.json("render", job, "--limit", "2")
    assert counts(first) == (PLANNED, 2, 0, 0, 3)
    done = farm.json("render", job, expect=3)
    assert counts(done) == (PLANNED, 4, 1, 0, 0)
    assert done["rejects"] == {"text": 2}
    before = sorted(path.name for path in (out / "images").rglob("*.png"))
    again = farm.json("render", job, expect=3)
    assert again["attempts"] == 0
    assert sorted(path.name for path in (out / "images").rglob("*.png")) == before

    status = farm.json("status", out)
    assert counts(status) == (PLANNED, 4, 1, 0, 0)
    audit = farm.json("audit", out)
    assert (audit["verdict"], audit["objects_read"], audit["orphans"]) == ("passed", 6, 0)
    assert not list(farm.folder.rglob("*passwd*")), "a row id names no file"
    assert all(path.parent.name == path.name[:2] for path in (out / "images").rglob("*.png"))
    assert "<script>alert" not in (out / "report" / "index.html").read_text()

    picture = out / next(key for (row, _), key in delivered(out).items() if row == "mug")
    stray = farm.folder / "stray.jpg"
    Image.open(picture).convert("RGB").save(stray, quality=75)
    answer = farm.json("identify", stray, "--in", out)
    assert (answer["identified"], answer["matches"][0]["record"]["row_id"]) == (True, "mug")
    other = farm.folder / "other.png"
    Image.effect_noise((300, 300), 40).save(other)
    farm.run("identify", other, "--in", out, expect=5)

    written(farm, [*ROWS[:3], {**ROWS[3], "prompt": "a green lamp"}, {"id": "none", "prompt": ""}])
    assert "row 4 (id 'none'), column prompt" in farm_error(farm, "render", job)
    edited = farm.json("render", job, "--skip-invalid", expect=3)
    assert (counts(edited), edited["attempts"]) == ((PLANNED + 1, 4, 1, 1, 0), 1), "its image is superseded, and nothing else is rendered"
    assert farm.json("audit", out)["verdict"] == "passed"

    data = bytearray(picture.read_bytes())
    data[len(data) // 2] ^= 1
    picture.write_bytes(data)
    found = farm.json("audit", out, expect=4)
    assert {finding["name"] for finding in found["findings"]} >= {"object-altered"}
    assert all(picture.name in finding["where"] for finding in found["findings"])


def delivered(output: Path | str) -> dict[tuple[str, int], str]:
    """Where each accepted picture lies, by row and index."""
    kept = (record for record in reading.records(open_storage(str(output))) if record.outcome == "accepted")
    return {(str(record.row_id), record.index or 0): str(record.object_key) for record in kept}


def test_a_job_on_s3_over_http(farm: Farm, s3_env: dict[str, str], bucket: str) -> None:
    written(farm)
    uri = f"s3://{bucket}/renders"
    farm.env |= s3_env
    storage = S3Storage(uri)
    assert put_if_absent_holds(storage)
    storage_in = S3Storage(f"s3://{bucket}")
    storage_in.put("in/rows.parquet", (farm.folder / "rows.parquet").read_bytes())
    job = farm.job(output={"to": uri, "format": "jpeg"}, manifest=f"s3://{bucket}/in/rows.parquet")
    assert counts(farm.json("render", job, expect=3)) == (PLANNED, 4, 1, 0, 0)
    audit = farm.json("audit", uri)
    assert (audit["verdict"], audit["objects_read"]) == ("passed", 6)
    key = delivered(uri)["a/b", 0]
    picture = Image.open(io.BytesIO(storage.get(key)))
    assert (picture.format, picture.size) == ("JPEG", (256, 256))
    storage.delete(key)
    found = farm.json("audit", uri, "--quick", expect=4)
    assert [finding["name"] for finding in found["findings"]] == ["object-missing"]


def farm_error(farm: Farm, *args: str | Path) -> str:
    process = farm.start(*args)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2
    return err


@pytest.mark.parametrize("credentials", [{"AWS_ACCESS_KEY_ID": "x"}, {}])
def test_a_bucket_that_does_not_exist_is_one_clear_message(farm: Farm, s3_env: dict[str, str], credentials: dict[str, str]) -> None:
    farm.env |= s3_env | credentials
    farm.manifest([{"id": "a", "prompt": "a red mug"}])
    message = farm_error(farm, "render", farm.job(output="s3://absent-bucket/x"))
    assert "the bucket does not exist" in message
    assert "test-secret" not in message
