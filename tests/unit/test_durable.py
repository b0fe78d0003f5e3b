"""What promises to be durable is durable when the call returns: a power cut keeps the bytes and every name on the way to them.

Two views of the same promise. In the first each sync is seen, and the order is asserted. In the second a power cut is played: a disk that
keeps of a file what it held, and of a folder the names that it held, when they were last synced, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from renderfarm import keys
from renderfarm.errors import KeysError, StorageAway, StorageRefused
from renderfarm.storage import LocalStorage
from renderfarm.storage.local import FOLDERS_KEPT, TEMPORARY_SUFFIX, sync

KEY = "images/row/0-abc.png"


class Disk:
    """An `fsync` that remembers what a disk would keep below `base`; `breaks`: the number of the call that fails, from 1."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.said: list[tuple[str, bool]] = []
        """What was synced, temporary files all as `temporary`, and whether the final file was visible then."""
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, dict[str, int]] = {base.stat().st_ino: {}}
        self.breaks = 0

    def __call__(self, descriptor: int) -> None:
        self.breaks -= 1
        if self.breaks == 0:
            raise OSError(5, "the disk broke")
        found = os.fstat(descriptor)
        path = next(path for path in (self.base, *self.base.rglob("*")) if path.lstat().st_ino == found.st_ino)
        name = "temporary" if path.name.endswith(TEMPORARY_SUFFIX) else str(path.relative_to(self.base))
        self.said.append((name, (self.base / "new" / "out" / KEY).exists()))
        if stat.S_ISDIR(found.st_mode):
            self.folders[found.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self.files[found.st_ino] = path.read_bytes()

    def kept(self, path: Path) -> bytes | None:
        """What a power cut leaves under a path: the bytes of a file; None where a name on the way is forgotten, or the bytes are."""
        at = self.base.stat().st_ino
        for name in path.relative_to(self.base).parts:
            if name not in self.folders.get(at, {}):
                return None
            at = self.folders[at][name]
        return self.files.get(at)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.fixture
def storage(disk: Disk) -> LocalStorage:
    return LocalStorage(disk.base / "new" / "out", create=True, fsync=disk)


def test_a_new_output_lies_in_folders_that_are_kept(storage: LocalStorage, disk: Disk) -> None:
    assert [name for name, _ in disk.said] == [".", "new"]


def test_a_file_is_synced_then_the_folders_above_it_then_its_name(storage: LocalStorage, disk: Disk) -> None:
    """Before its name appears, the bytes are whole and the folders are kept; only the name itself is synced after it."""
    disk.said.clear()
    storage.put_new(KEY, b"a picture")
    assert disk.said == [("temporary", False), ("new/out", False), ("new/out/images", False), ("new/out/images/row", True)]
    disk.said.clear()
    storage.put_new("images/row/1-def.png", b"another")
    assert [name for name, _ in disk.said] == ["temporary", "new/out/images/row"], "what is known to be kept is not synced again"
    disk.said.clear()
    storage.put_new("images/next/0-ghi.png", b"another row's")
    assert [name for name, _ in disk.said] == ["temporary", "new/out/images", "new/out/images/next"]


@pytest.mark.parametrize("key", [KEY, "job.json", "provenance/parts/00000000.parquet"])
@pytest.mark.parametrize("put", ["put", "put_new"])
def test_a_power_cut_keeps_what_was_put(storage: LocalStorage, disk: Disk, key: str, put: str) -> None:
    getattr(storage, put)(key, b"first")
    assert disk.kept(storage.root / key) == b"first"
    storage.put(key, b"second, and longer")
    assert disk.kept(storage.root / key) == b"second, and longer"


@pytest.mark.parametrize("put", ["put", "put_new"])
@pytest.mark.parametrize("broken", range(1, 6))
def test_a_put_that_failed_is_durable_when_it_is_done_again(storage: LocalStorage, disk: Disk, put: str, broken: int) -> None:
    """Whichever sync fails: what the first call left visible is not taken for durable by the second."""
    disk.breaks = broken
    if broken < 5:
        with pytest.raises(StorageAway, match="the disk broke"):
            getattr(storage, put)(KEY, b"a picture")
        assert disk.kept(storage.root / KEY) is None
    disk.breaks = 0
    getattr(storage, put)(KEY, b"a picture")
    assert disk.kept(storage.root / KEY) == b"a picture"


def test_what_another_process_left_unsynced_is_synced(storage: LocalStorage, disk: Disk) -> None:
    """It made the folders, or wrote the same file, and died, or has not come so far: neither is durable because it is visible."""
    (storage.root / KEY).parent.mkdir(parents=True)
    storage.put_new("images/row/1-def.png", b"ours")
    assert disk.kept(storage.root / "images/row/1-def.png") == b"ours"
    (storage.root / KEY).write_bytes(b"the same")
    storage.put_new(KEY, b"the same")
    assert disk.kept(storage.root / KEY) == b"the same"


def test_folders_that_somebody_removed_are_made_and_synced_again(storage: LocalStorage, disk: Disk) -> None:
    storage.put_new(KEY, b"a picture")
    for gone in (storage.root / "images", storage.root):
        shutil.rmtree(gone)
        sync(gone.parent, disk)
        assert disk.kept(storage.root / KEY) is None
        storage.put_new(KEY, b"a picture again")
        assert disk.kept(storage.root / KEY) == b"a picture again"


def test_more_folders_than_are_remembered(storage: LocalStorage, disk: Disk) -> None:
    storage._kept.update(storage.root / str(number) for number in range(FOLDERS_KEPT))
    storage.put_new(KEY, b"a picture")
    assert len(storage._kept) <= FOLDERS_KEPT
    storage.put_new("images/row/1-def.png", b"another")
    assert disk.kept(storage.root / "images/row/1-def.png") == b"another"


def test_an_output_whose_folder_cannot_be_synced_is_refused(tmp_path: Path, disk: Disk) -> None:
    disk.breaks = 1
    with pytest.raises(StorageRefused, match="the disk broke"):
        LocalStorage(tmp_path / "new" / "out", create=True, fsync=disk)


def test_a_key_set_and_the_folders_made_for_it_are_kept(tmp_path: Path, disk: Disk) -> None:
    folder = tmp_path / "new" / "config" / "keys"
    keys.init(folder, disk)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} > {"log.skey", "watermark.key", "anchors.pem"}
    assert {path: disk.kept(path) for path in files} == {path: path.read_bytes() for path in files}
    assert [name for name, _ in disk.said[:2]] == [".", "new"] and disk.said[-1][0] == "new/config"
    syncs = len(disk.said)
    for broken in range(1, syncs + 1):
        shutil.rmtree(tmp_path / "new")
        disk.breaks = broken
        with pytest.raises(KeysError, match="cannot make a key set here: the disk broke"):
            keys.init(folder, disk)


@pytest.mark.skipif(os.getuid() != 0, reason="needs another user: only root becomes one")
def test_a_folder_that_may_be_written_but_not_read_takes_an_output() -> None:
    """Nobody but root can open such a folder to sync it: then everything is synced."""
    with tempfile.TemporaryDirectory() as dropbox:
        Path(dropbox).chmod(0o733)
        code = f"""
import os
from pathlib import Path
from renderfarm.storage.local import make_folder
os.setuid(65534)
make_folder(Path({dropbox!r}) / "out")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert (Path(dropbox) / "out").stat().st_uid == 65534
