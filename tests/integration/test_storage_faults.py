"""S3 over HTTP through a proxy that throttles, fails before or after the write, cuts connections, expires credentials, stays away."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from renderfarm.errors import AlreadyStored, StorageAway
from renderfarm.storage import S3Storage, list_inputs, put_if_absent_holds, stamp
from tests.integration.conftest import Farm
from tests.integration.proxy import KINDS, FaultyProxy
from tests.waiting import wait_until


@pytest.fixture
def proxy(s3_endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before the server, and the environment that leads to it."""
    with FaultyProxy(s3_endpoint, seed=7).running() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_is_retried_and_the_object_is_whole(kind: str, proxy: FaultyProxy, bucket: str) -> None:
    storage = S3Storage(f"s3://{bucket}/{kind}", budget_s=30)
    data = bytes(range(256)) * 40
    proxy.plan = [kind, kind]
    storage.put_new("a/b", data)
    proxy.plan = [kind]
    assert storage.get("a/b") == data
    proxy.plan = [kind]
    assert [found.key for found in storage.list("")] == ["a/b"]
    assert not proxy.plan
    assert proxy.happened[kind] >= 3
    with pytest.raises(AlreadyStored):
        storage.put_new("a/b", b"other")


def test_a_write_that_took_effect_without_an_answer_is_ours(proxy: FaultyProxy, bucket: str) -> None:
    storage = S3Storage(f"s3://{bucket}/late", budget_s=30)
    proxy.plan = ["late", "late", "late"]
    storage.put_new("part", b"mine")
    assert storage.get("part") == b"mine"


def test_a_hundred_writes_on_a_bad_day(proxy: FaultyProxy, bucket: str) -> None:
    storage = S3Storage(f"s3://{bucket}/bad-day", budget_s=60)
    proxy.chance = 0.25
    for number in range(100):
        storage.put_new(f"objects/{number:03}", f"{number}".encode() * 50)
    found = list(storage.list("objects/"))
    assert len(found) == 100
    assert all(storage.get(f"objects/{number:03}") == f"{number}".encode() * 50 for number in range(0, 100, 9))
    assert len(proxy.happened) > 5


def test_put_if_absent_is_found_to_hold_on_a_bad_day(proxy: FaultyProxy, bucket: str) -> None:
    proxy.chance, proxy.kinds = 0.2, ("throttle", "late", "after")
    assert put_if_absent_holds(S3Storage(f"s3://{bucket}/probe", budget_s=60))


def test_expired_credentials_are_read_anew(proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = before\naws_secret_access_key = x\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    storage = S3Storage(f"s3://{bucket}/expired", budget_s=30)
    path.write_text("[default]\naws_access_key_id = after\naws_secret_access_key = y\n")
    proxy.plan = ["expired"]
    storage.put_new("part", b"data")
    assert storage.client._request_signer._credentials.access_key == "after"


def test_a_bucket_that_stays_away_is_said_within_the_budget(proxy: FaultyProxy, bucket: str) -> None:
    storage = S3Storage(f"s3://{bucket}/away", budget_s=2)
    proxy.away = True
    begun = time.monotonic()
    with pytest.raises(StorageAway):
        storage.put_new("part", b"data")
    assert time.monotonic() - begun < 30


def test_a_bucket_that_stays_away_pauses_the_job_and_nothing_is_lost(farm: Farm, proxy: FaultyProxy, bucket: str, s3_endpoint: str) -> None:
    farm.manifest([{"id": f"row {n}", "prompt": "a red mug", "images": 4} for n in range(3)])
    job = farm.job(output={"to": f"s3://{bucket}/job", "patience_s": 2}, model={"batch": 2})
    proxy.chance, proxy.kinds = 0.05, ("throttle", "after", "late")
    process = farm.start("render", job, "--json")
    assert process.stderr is not None
    assert len(list(islice((line for line in process.stderr if "image.accepted" in line), 6))) == 6
    proxy.away = True
    _, err = process.communicate(timeout=240)
    assert process.returncode == 75, err
    assert "Traceback" not in err
    proxy.away = False
    told = farm.json("render", job)
    assert (told["accepted"], told["remaining"]) == (12, 0)
    audit = farm.json("audit", f"s3://{bucket}/job")
    assert audit["verdict"] == "passed"


def test_a_manifest_in_a_bucket_is_stamped_by_its_content_and_hidden_objects_are_none(bucket: str) -> None:
    """Two manifests of one size within one second: S3 tells times in whole seconds, and a copy may bear an old one."""
    import boto3

    client = boto3.client("s3")
    for key in ("m/b.parquet", "m/_temporary.parquet", "m/.c.parquet", "m/notes.txt", "mm/d.parquet"):
        client.put_object(Bucket=bucket, Key=key, Body=b"one")
    for uri, files in ((f"s3://{bucket}/m", ["m/b.parquet"]), (f"s3://{bucket}/m/b.parquet", ["m/b.parquet"])):
        before = stamp(uri, ".parquet")
        assert [file.uri for file in before] == list_inputs(uri, ".parquet") == [f"s3://{bucket}/{file}" for file in files]
        assert stamp(uri, ".parquet") == before
        client.put_object(Bucket=bucket, Key="m/b.parquet", Body=os.urandom(3))
        after = stamp(uri, ".parquet")
        assert after != before and after[0].size == before[0].size


def test_what_lay_there_already_gets_the_time_of_now(bucket: str) -> None:
    """Or gc would collect, as an old orphan, what a driver has just stored again and not committed yet."""
    storage = S3Storage(f"s3://{bucket}/out")
    storage.put_new("images/a.png", b"a picture", "image/png")
    before = storage.stat("images/a.png")
    assert before is not None
    wait_until(before.modified_s + 1.1)  # the server tells times in whole seconds
    storage.put_new("images/a.png", b"a picture", "image/png")
    assert storage.stat("images/a.png") == before, "a write of a moment ago is our own"
    storage.renew_after_s = 0.5
    storage.put_new("images/a.png", b"a picture", "image/png")
    after = storage.stat("images/a.png")
    assert after is not None and after.modified_s > before.modified_s
    with pytest.raises(AlreadyStored):
        storage.put_new("images/a.png", b"another")
