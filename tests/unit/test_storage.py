"""Storage on a folder: put-if-absent under races, names that cannot leave the root."""

from __future__ import annotations

import datetime as dt
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfarm.errors import AlreadyStored, NotStored, StorageAway, StorageRefused
from renderfarm.storage import LocalStorage, S3Storage, Storage, list_inputs, open_input, open_storage, put_if_absent_holds, segment
from renderfarm.storage.base import SEGMENT_BYTES_MAX, Stored


@pytest.fixture
def folder(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "out", create=True)


def test_put_new_takes_the_same_bytes_again_and_refuses_others(folder: LocalStorage) -> None:
    folder.put_new("a/b", b"one")
    folder.put_new("a/b", b"one")
    with pytest.raises(AlreadyStored, match="a/b"):
        folder.put_new("a/b", b"two")
    with pytest.raises(AlreadyStored):
        folder.put_new("a/b", b"on")
    assert folder.get("a/b") == b"one"


def test_exactly_one_of_eight_racers_wins_and_the_probe_cleans_up(folder: LocalStorage) -> None:
    assert all(put_if_absent_holds(folder) for _ in range(5))
    assert list(folder.list("")) == []


class _ChecksThenWrites(LocalStorage):
    """A server that looks first and writes then, as some do."""

    def put_new(self, key: str, data: bytes, media_type: str = "") -> None:
        self.put(key, data)


def test_the_probe_sees_through_a_storage_that_lets_several_win(tmp_path: Path) -> None:
    assert not put_if_absent_holds(_ChecksThenWrites(tmp_path, create=True))


def test_listing_is_sorted_as_s3_sorts_and_hides_temporary_files(folder: LocalStorage) -> None:
    for key in ("b/2", "b/10", "b-", "a", "b/1/x"):
        folder.put(key, b".")
    (folder.root / "b" / ".crash.tmp").write_bytes(b"half")
    assert [stored.key for stored in folder.list("")] == sorted(["b/2", "b/10", "b-", "a", "b/1/x"])
    assert [stored.key for stored in folder.list("b/1")] == ["b/1/x", "b/10"]
    assert list(folder.list("nothing/here")) == []


def test_get_stat_delete_and_what_is_absent(folder: LocalStorage) -> None:
    folder.put("k", b"12345")
    assert folder.get("k", bytes_max=2) == b"123"
    found = folder.stat("k")
    assert isinstance(found, Stored)
    assert found.size == 5
    folder.delete("k")
    folder.delete("k")
    assert folder.stat("k") is None
    with pytest.raises(NotStored):
        folder.get("k")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a\x00b", "..\\x"])
def test_keys_that_could_leave_the_root_are_refused(folder: LocalStorage, key: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        folder.get(key)


@given(st.lists(st.text(min_size=1, max_size=250).filter(lambda t: t.isprintable()), min_size=2, max_size=6, unique=True))
def test_segments_are_safe_short_and_never_collide(ids: list[str]) -> None:
    made = [segment(text) for text in ids]
    assert len(set(made)) == len(made)
    for name in made:
        assert name not in ("", ".", "..")
        assert not name.startswith(".")
        assert "/" not in name
        assert len(name.encode()) <= SEGMENT_BYTES_MAX
        assert name.isascii()


def test_hostile_ids_stay_readable() -> None:
    assert segment("../../etc/passwd") == "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd"
    assert segment("a/b") == "a%2Fb"
    assert segment("..") == "%2E%2E"


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for uri, what in ((str(tmp_path / "file"), "is a file"), (str(tmp_path / "absent"), "no such folder"), ("ftp://x", "no such kind")):
        with pytest.raises(StorageRefused, match=what) as caught:
            open_storage(uri)
        assert caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageRefused, match="cannot"):
        open_storage(str(tmp_path / "out"), create=True)


def test_local_storage_keeps_the_protocol(folder: LocalStorage) -> None:
    assert isinstance(folder, Storage)


def test_inputs_are_listed_sorted_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", "_meta.parquet", ".x.parquet", "c.txt"):
        (tmp_path / name).write_bytes(b"data")
    assert [Path(uri).name for uri in list_inputs(str(tmp_path), ".parquet")] == ["a.parquet", "b.parquet"]
    with open_input(str(tmp_path / "a.parquet")) as file:
        assert file.seekable()
        assert file.read() == b"data"
    with pytest.raises(NotStored):
        list_inputs(str(tmp_path / "none"), ".parquet")
    with pytest.raises(NotStored):
        open_input(str(tmp_path / "none"))


def test_a_path_that_the_system_refuses_is_one_message(tmp_path: Path) -> None:
    for uri in (str(tmp_path / ("x" * 300)), "a\0b", "~no-such-user/x"):
        for create in (True, False):
            with pytest.raises(StorageRefused):
                open_storage(uri, create=create)
        with pytest.raises(StorageRefused):
            open_input(uri)


def test_an_endpoint_that_nobody_answers_at_is_away_and_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "x"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageAway, match="Could not connect"):
        S3Storage("s3://bucket/x", budget_s=0.1)
    with pytest.raises(StorageRefused, match="no valid bucket or key"):
        S3Storage("s3://no bucket!/x", budget_s=0.1)


def test_a_folder_that_a_console_drew_is_no_object_of_a_bucket() -> None:
    found = [("x/inbox/", 0), ("x/inbox/a", 0), ("x/inbox/odd/", 3)]
    contents = [{"Key": key, "Size": size, "LastModified": dt.datetime.now(dt.UTC), "ETag": "-"} for key, size in found]
    storage = object.__new__(S3Storage)
    storage.bucket, storage.prefix, storage.uri, storage.budget_s = "bucket", "x/", "s3://bucket/x", 0.0
    storage.client = SimpleNamespace(list_objects_v2=lambda **asked: {"Contents": contents})
    assert [(stored.key, stored.size) for stored in storage.list("inbox/")] == [("inbox/a", 0), ("inbox/odd/", 3)]
