"""Key files: who may read them, what they may hold, and that no message repeats it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
    assert caught.value.where in (str(path), str(folder / files.CHAIN)), message  # a key that is wrong is seen with its chain
    for secret in keysets.secrets_of(made):
        assert secret not in message and secret[:20] not in message
