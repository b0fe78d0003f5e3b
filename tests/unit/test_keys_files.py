"""Key files: who may read them, what they may hold, and that no message repeats it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from renderfarm import keys
from renderfarm.errors import KeysError
from renderfarm.keys import KeySet, files
from tests import keysets


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    return keys.init(tmp_path_factory.mktemp("keys") / "set")


@pytest.fixture
def folder(made: KeySet, tmp_path: Path) -> Path:
    return keysets.copy(made, tmp_path / "set")


@pytest.mark.parametrize("name", [files.LOG_KEY, files.MARK_KEY, files.CHAIN, files.CHAIN_KEY])
def test_a_missing_file_is_named_with_a_remedy(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(KeysError, match="missing") as caught:
        keys.load(folder)
    assert caught.value.where == str(folder / name) and caught.value.remedy


@pytest.mark.parametrize("name", [files.LOG_KEY, files.MARK_KEY, files.CHAIN_KEY])
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o666])
def test_a_private_file_that_others_may_touch_is_refused(folder: Path, name: str, mode: int) -> None:
    (folder / name).chmod(mode)
    with pytest.raises(KeysError, match="others may read or change") as caught:
        keys.load(folder)
    assert f"chmod 600 '{folder / name}'" == caught.value.remedy
    (folder / name).chmod(0o440)  # as Kubernetes mounts a secret for a group
    keys.load(folder)


def test_a_new_file_is_private_whole_and_never_another_s(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        files.write(tmp_path / "secret", "a\n")
        files.write(tmp_path / "public", "b\n", 0o644)
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("secret", "public")] == [0o600, 0o644]
    with pytest.raises(FileExistsError):
        files.write(tmp_path / "secret", "b\n")
    assert files.read(tmp_path / "secret", private=True) == "a\n"


def test_a_folder_in_a_file_s_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="cannot be read: Is a directory"):
        files.read(tmp_path)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "binary": lambda data: bytes(range(256)),
    "other": lambda data: b"hello\n",
    "huge": lambda data: data * 20_000,
}


@pytest.mark.parametrize("name", [files.LOG_KEY, files.MARK_KEY, files.CHAIN, files.CHAIN_KEY])
@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_a_malformed_file_is_named_and_its_secret_is_not_repeated(made: KeySet, folder: Path, name: str, damage: str) -> None:
    path = folder / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(KeysError) as caught:
        keys.load(folder)
    message = str(caught.value)
    assert caught.value.what and caught.value.remedy
    assert caught.value.where == str(path), message
    for secret in keysets.secrets_of(made):
        assert secret not in message and secret[:20] not in message


@pytest.mark.parametrize(
    ("encoding", "form"),
    [(Encoding.PEM, PrivateFormat.PKCS8), (Encoding.PEM, PrivateFormat.TraditionalOpenSSL), (Encoding.DER, PrivateFormat.PKCS8)],
)
@pytest.mark.parametrize("password", [None, b"p"])
def test_a_certificate_s_key_is_read_as_openssl_writes_it(
    made: KeySet, folder: Path, encoding: Encoding, form: PrivateFormat, password: bytes | None
) -> None:
    """`openssl genpkey` writes the first form, `openssl ecparam -genkey` the second, which the C2PA library does not take."""
    key = serialization.load_pem_private_key(made.certificate_key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    (folder / files.CHAIN_KEY).write_bytes(key.private_bytes(encoding, form, how))
    if encoding == Encoding.PEM and password is None:
        assert keys.load(folder).certificate_key_pem == made.certificate_key_pem
        return
    with pytest.raises(KeysError, match=r"not readable|not text") as caught:
        keys.load(folder)
    assert caught.value.where == str(folder / files.CHAIN_KEY)
