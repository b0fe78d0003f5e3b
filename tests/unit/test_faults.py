"""Permanent or passing: each fault ends as what it is. What a person must mend is exit 2, with the cause in the words of whoever refused
and a remedy; what may pass is exit 75; what heals is nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from renderfarm.errors import PAUSED, AlreadyStored, RenderfarmError, StorageAway, StorageRefused, UserError
from renderfarm.run import opening
from renderfarm.run.engine import no_worker
from renderfarm.storage import LocalStorage, Probe, S3Storage, leftovers, probe, put_if_absent_holds
from renderfarm.storage.local import rename_exclusively
from tests.stores import Said, Store, serving

MEND, PASS, HEAL = UserError.exit_code, PAUSED, 0
OK = Said(200)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store()
    with serving(made) as url:
        settings = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield made


def outcome(call: Callable[[], object]) -> tuple[int, str]:
    """The exit code that a run would end with, and what is said."""
    try:
        call()
    except RenderfarmError as error:
        assert not isinstance(error, UserError) or error.remedy, "what to do"
        return error.exit_code, str(error)
    return HEAL, ""


STORES = [
    ("it knows no If-None-Match (Backblaze B2)", [Said(501, "NotImplemented", "A header you provided")], MEND, "A header you provided"),
    ("a method is not allowed (a web server)", [Said(405, "MethodNotAllowed", "not here")], MEND, "not here"),
    ("the quota of a user (Ceph)", [Said(403, "QuotaExceeded", "user quota")], MEND, "user quota"),
    ("full (507)", [Said(507, "InsufficientStorage", "no disk left")], MEND, "no disk left"),
    ("full (MinIO)", [Said(507, "XMinioStorageFull", "minimum free drive")], MEND, "minimum free drive"),
    ("the policy refuses", [Said(403, "AccessDenied", "explicit deny in a policy")], MEND, "explicit deny in a policy"),
    ("an unknown key", [Said(403, "InvalidAccessKeyId", "does not exist in our records")], MEND, "our records"),
    ("a wrong secret", [Said(403, "SignatureDoesNotMatch", "check your key")], MEND, "check your key"),
    ("the wrong region", [Said(400, "AuthorizationHeaderMalformed", "expecting 'eu-central-1'")], MEND, "eu-central-1"),
    ("another region's bucket", [Said(301, "PermanentRedirect", "must be addressed using")], MEND, "redirect|region|elsewhere"),
    ("the bucket is gone", [Said(404, "NoSuchBucket", "The specified bucket")], MEND, "The specified bucket"),
    ("the account is closed", [Said(403, "AccountProblem", "payment")], MEND, "payment"),
    ("a disabled encryption key", [Said(400, "KMS.DisabledException", "key is disabled")], MEND, "key is disabled"),
    ("whatever else it refuses", [Said(400, "InvalidStorageClass", "not valid here")], MEND, "not valid here"),
    ("a version of HTTP that it does not speak", [Said(505, "x", "HTTP version")], MEND, "HTTP version"),
    ("a clock that stays off", [Said(403, "RequestTimeTooSkewed", "difference is too large")], MEND, "difference is too large"),
    ("a clock that is being set", [Said(403, "RequestTimeTooSkewed", "too large"), OK], HEAL, ""),
    ("throttled once", [Said(503, "SlowDown", "reduce"), OK], HEAL, ""),
    ("an internal error once", [Said(500, "InternalError", "again"), OK], HEAL, ""),
    ("a conflict once", [Said(409, "ConditionalRequestConflict", "again"), OK], HEAL, ""),
    ("a gateway that is away", [Said(502, "BadGateway", "upstream")], PASS, "upstream"),
    ("throttled all the time", [Said(503, "SlowDown", "reduce your rate")], PASS, "reduce your rate"),
    ("an internal error all the time", [Said(500, "InternalError", "we are sorry")], PASS, "we are sorry"),
    ("a token that is not renewed", [Said(400, "ExpiredToken", "has expired")], PASS, "has expired"),
    ("too many requests", [Said(429, "TooManyRequests", "later")], PASS, "later"),
]


@pytest.mark.parametrize(("says", "code", "words"), [entry[1:] for entry in STORES], ids=[entry[0] for entry in STORES])
def test_what_a_store_answers_to_a_write(store: Store, says: list[Said], code: int, words: str) -> None:
    import re

    found = S3Storage("s3://bucket/x", budget_s=20.0 if code == HEAL else 0.3)
    store.says["PUT"] = says
    ended, said = outcome(lambda: found.put_new("provenance/a", b"one"))
    assert ended == code, said
    assert re.search(words, said)
    assert code != MEND or len(store.asked) <= 4 or "clock" in said, "what no further try changes is not tried again"


def test_a_redirect_without_a_region_is_one_message(store: Store) -> None:
    for method in ("GET", "HEAD"):
        store.says[method] = [Said(301, "PermanentRedirect", "must be addressed using another endpoint")]
    ended, said = outcome(lambda: S3Storage("s3://bucket/x", budget_s=0.3))
    assert ended == MEND and "AWS_REGION" in said


@pytest.mark.parametrize("wants", ["content-md5", "x-amz-checksum-crc32", "x-amz-checksum-sha256"])
def test_a_bucket_with_object_lock_gets_the_checksum_that_it_wants(store: Store, wants: str) -> None:
    store.wants = (wants,)
    found = S3Storage("s3://bucket/x", budget_s=0.5)
    found.put_new("a", b"one")
    found.put_new("b", b"two")
    assert found.checksums[0] == {"content-md5": "md5"}.get(wants, wants.removeprefix("x-amz-checksum-"))
    assert store.objects == {"/bucket/x/a": b"one", "/bucket/x/b": b"two"}
    with pytest.raises(AlreadyStored):
        found.put_new("a", b"other")


def test_a_checksum_that_the_job_names_is_the_only_one(store: Store) -> None:
    store.wants = ("content-md5",)
    assert outcome(lambda: S3Storage("s3://bucket/x", checksum="none").put_new("a", b"one"))[0] == MEND
    S3Storage("s3://bucket/x", checksum="md5").put_new("a", b"one")


def failing(code: int) -> Callable[..., None]:
    """A system call that answers this."""

    def call(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


SYSTEM = [
    *((name, MEND) for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "ENAMETOOLONG", "ELOOP")),
    *((name, PASS) for name in ("EIO", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "ENOTCONN", "EBUSY", "EMFILE", "ENOMEM")),
]


@pytest.mark.parametrize(("name", "code"), SYSTEM)
def test_what_the_system_answers_to_a_write(tmp_path: Path, name: str, code: int) -> None:
    number = getattr(errno, name)
    ended, said = outcome(lambda: LocalStorage(tmp_path, create=True, fsync=failing(number)).put_new("a/b", b"one"))
    assert ended == code and os.strerror(number) in said
    assert not list(tmp_path.rglob("*.tmp")), "nothing half-written stays"


@pytest.mark.parametrize("answer", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_where_there_are_no_hard_links_a_rename_that_replaces_nothing_is_as_exclusive(tmp_path: Path, answer: int) -> None:
    mount = LocalStorage(tmp_path, create=True, link=failing(answer))
    assert put_if_absent_holds(mount)
    mount.put_new("a", b"one")
    mount.put_new("a", b"one")
    with pytest.raises(AlreadyStored):
        mount.put_new("a", b"two")
    assert mount.get("a") == b"one" and not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EINVAL])
def test_a_mount_that_can_do_neither_is_refused_and_says_so(tmp_path: Path, answer: int) -> None:
    mount = LocalStorage(tmp_path, create=True, link=failing(errno.EPERM), rename_new=failing(answer))
    with pytest.raises(StorageRefused, match="no hard links") as caught:
        mount.put_new("a", b"one")
    assert "s3://bucket/prefix" in caught.value.remedy and list(mount.list("")) == []


def test_a_rename_never_replaces(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    with pytest.raises(FileExistsError):
        rename_exclusively(tmp_path / "a", tmp_path / "b")
    rename_exclusively(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "b").read_text() == "two" and (tmp_path / "c").read_text() == "one"


def test_what_a_crash_left_half_written_is_found_once_it_is_old(tmp_path: Path) -> None:
    folder = LocalStorage(tmp_path, create=True)
    folder.put("images/row/kept.png", b"1")
    (tmp_path / "images" / "row" / ".0123456789abcdef.tmp").write_bytes(b"half")
    (found,) = leftovers(folder, before_s=4e9)
    assert found.key == "images/row/.0123456789abcdef.tmp" and found.size == 4
    assert list(leftovers(folder, before_s=0.0)) == []
    folder.delete(found.key)
    assert list(leftovers(folder, before_s=4e9)) == [] and folder.get("images/row/kept.png") == b"1"


@pytest.mark.parametrize(
    ("why", "code"),
    [
        ("ModuleNotFoundError: No module named 'diffusers'", MEND),
        ("ImportError: cannot import name 'Renderer' from 'renderfarm.render'", MEND),
        ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory", MEND),
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040)", MEND),
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device", MEND),
        ("PermissionError: [Errno 13] Permission denied: '/home/nobody/.cache'", MEND),
        ("OSError: [Errno 30] Read-only file system: '/home'", MEND),
        ("OSError: [Errno 28] No space left on device", MEND),
        ("exit -9", PASS),
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", PASS),
        ("the actor died because its node has died", PASS),
    ],
)
def test_why_no_worker_starts(why: str, code: int) -> None:
    error = no_worker("no worker can render", why)
    assert error.exit_code == code and why in str(error)
    assert not isinstance(error, UserError) or error.remedy


def test_there_are_more_than_thirty_kinds() -> None:
    assert len(STORES) + len(SYSTEM) >= 30
    assert {StorageAway.exit_code, StorageRefused.exit_code} == {PASS, MEND}


def test_the_probe_races_under_every_prefix_and_says_what_cannot_be_removed(store: Store) -> None:
    found = S3Storage("s3://bucket/x", budget_s=5.0)
    assert probe(found, ("provenance/", "images/")) == Probe(fences=True)
    assert store.objects == {}
    tried = {key.rsplit("/", 1)[0] for method, key in store.asked if method == "PUT"}
    assert tried == {"/bucket/x/provenance", "/bucket/x/images"}
    store.says["DELETE"], store.versioned = [Said(403, "AccessDenied", "explicit deny")], True
    assert probe(found) == Probe(fences=True, deletes=False, versioned=True)
    assert len(store.objects) == 1


def test_a_prefix_that_may_not_be_written_is_said_before_anything_renders(store: Store) -> None:
    store.says["PUT"] = [*[OK] * 8, Said(403, "AccessDenied", "explicit deny for images")]
    found = S3Storage("s3://bucket/x", budget_s=5.0)
    with pytest.raises(StorageRefused, match="explicit deny for images"):
        probe(found, ("provenance/", "images/"))


def test_a_store_is_probed_once_for_each_credential(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    written = []
    for key_id in ("a", "a", "other"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key_id)
        store.asked.clear()
        assert opening.probed(S3Storage("s3://bucket/x", budget_s=5.0), []).fences
        written.append(sum(method == "PUT" for method, _ in store.asked))
    assert written[0] >= 5 * 8 and written[1] == 0 and written[2] >= 5 * 8
