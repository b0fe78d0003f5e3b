"""A folder as storage. A put makes each step durable before the next one:

    1. the bytes, in a hidden temporary file (`.….tmp`)
    2. the names of folders that are new
    3. a hard link under the final name, and then that name

So whatever has its final name is whole, and lies in folders that a power cut keeps. A hard link fails when the name is taken, which is
put-if-absent on any POSIX file system that has links; where there are none, a rename that replaces nothing (Linux) does the same, and a
mount that has neither is refused. A crash before the link leaves a temporary file, which no listing shows and nothing reads, and which
`leftovers` finds.

What a person must mend (no permission, no space, a quota, a read-only mount) is refused; what may pass (a network mount that is away, an
I/O error) is away.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from renderfarm.errors import NotStored, StorageAway, StorageRefused
from renderfarm.storage.base import Stored, checked_key, same_bytes_or_raise

TEMPORARY_SUFFIX = ".tmp"

MENDED = {
    errno.EACCES: "give this user the right to read and write there",
    errno.EPERM: "give this user the right to read and write there",
    errno.EROFS: "mount it for writing",
    errno.ENOSPC: "free space there, then run the same command again",
    errno.EDQUOT: "free space there or raise the quota, then run the same command again",
    errno.EFBIG: "raise the limit on the size of files",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOTDIR: "remove the file that lies where a folder must be",
    errno.EISDIR: "remove the folder that lies where a file must be",
    errno.ELOOP: "mend the symbolic links on the way",
}
"""What does not pass by itself, and what a person does about it."""
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EXDEV})
"""What mounts without hard links, or without renames that replace nothing, answer (rclone, CIFS, gcsfuse, s3fs, exFAT)."""
RENAME_NOREPLACE = 1

FOLDERS_KEPT = 10_000
"""Folders remembered as durable, a few megabytes. One more forgets them all: one fsync for each that is written to again."""


class LocalStorage:
    """A folder on this machine (or a shared mount with hard links)."""

    def __init__(
        self,
        root: Path,
        *,
        create: bool,
        fsync: Callable[[int], None] = os.fsync,
        link: Callable[[Path, Path], None] = os.link,
        rename_new: Callable[[Path, Path], None] | None = None,
    ) -> None:
        """Raises: StorageRefused when the folder is missing (and not to be created), is a file, or cannot be written.

        `fsync` makes durable what an open descriptor stands for; `link` and `rename_new` give a file its final name unless that is taken.
        """
        self._fsync, self._link, self._rename_new = fsync, link, rename_new or rename_exclusively
        try:
            self.root = root.expanduser().absolute()
        except RuntimeError as error:
            raise StorageRefused("no such home folder", str(root), "check the path") from error
        self.uri = str(self.root)
        if _kind(self.root) == "file":
            raise StorageRefused("the output is a file, not a folder", self.uri, "name a folder")
        if create:
            try:
                make_folder(self.root, fsync)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise StorageRefused(f"cannot make the folder: {why}", self.uri, "choose a folder that you may write") from error
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise StorageRefused("the folder cannot be written", self.uri, "choose a folder that you may write")
        elif _kind(self.root) is None:
            raise StorageRefused("no such folder", self.uri, "check the path; `renderfarm render` makes it")
        self._kept = {self.root}

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _stage(self, path: Path, data: bytes) -> Path:
        """The data durably beside its final place. A crash after this leaves only a hidden temporary file."""
        unsure = self._folders(path.parent)
        temporary = path.parent / f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                self._fsync(file.fileno())
        except OSError:  # half of it on a full disk is of no use
            temporary.unlink(missing_ok=True)
            raise
        for folder in unsure:
            sync(folder.parent, self._fsync)
            self._kept.add(folder)
        if len(self._kept) > FOLDERS_KEPT:
            self._kept = {self.root}
        return temporary

    def _folders(self, folder: Path) -> list[Path]:
        """Makes a folder and what is missing above it; returns those whose names a power cut might forget, the highest first.

        One that was there is among them until this process has synced it: another may have made it, and died before it did.
        """
        if folder in self._kept and folder.is_dir():
            return []
        above = [] if folder == self.root else self._folders(folder.parent)
        folder.mkdir(exist_ok=True)
        return [*above, folder]

    def put_new(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        path = self._path(key)
        try:
            temporary = self._stage(path, data)
            try:
                self._give_name(temporary, path)
            except FileExistsError:
                same_bytes_or_raise(self, key, data)
                os.utime(path)
                sync(path, self._fsync)  # whoever wrote them may have died, or a tool copied them here, before they were synced
            finally:
                temporary.unlink(missing_ok=True)
            sync(path.parent, self._fsync)
        except OSError as error:
            raise _sorted(error, f"{self.uri}/{key}") from error

    def _give_name(self, temporary: Path, path: Path) -> None:
        """Raises: FileExistsError when the name is taken; StorageRefused where the mount has no exclusive way to give one; OSError."""
        try:
            self._link(temporary, path)
            return
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            without = error
        try:
            self._rename_new(temporary, path)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            what = f"this mount cannot keep two drivers apart: no hard links ({without.strerror}), no exclusive renames ({error.strerror})"
            raise StorageRefused(what, self.uri, "name the bucket as s3://bucket/prefix, or a folder on another mount") from error

    def leftovers(self, before_s: float) -> Iterator[Stored]:
        """Temporary files that crashes left, last modified before `before_s` (seconds since 1970 UTC). Raises: StorageAway."""
        yield from (found for found in _walk(self.root, self.root, temporary=True) if found.modified_s < before_s)

    def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        path = self._path(key)
        try:
            os.replace(self._stage(path, data), path)
            sync(path.parent, self._fsync)
        except OSError as error:
            raise _sorted(error, f"{self.uri}/{key}") from error

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        try:
            with open(self._path(key), "rb") as file:
                return file.read() if bytes_max is None else file.read(bytes_max + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotStored(key) from error
        except OSError as error:
            raise _sorted(error, f"{self.uri}/{key}") from error

    def stat(self, key: str) -> Stored | None:
        try:
            status = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _sorted(error, f"{self.uri}/{key}") from error
        return Stored(key, status.st_size, status.st_mtime)

    def list(self, prefix: str) -> Iterator[Stored]:
        base = self.root / prefix.rpartition("/")[0]
        yield from (stored for stored in _walk(base, self.root) if stored.key.startswith(prefix))

    def delete(self, key: str) -> None:
        try:
            self._path(key).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise _sorted(error, f"{self.uri}/{key}") from error


def _kind(root: Path) -> Literal["folder", "file"] | None:
    """What lies there. Raises: StorageRefused where that cannot be asked: no permission on the way, a name that is too long."""
    try:
        return "folder" if root.is_dir() else "file" if root.exists() else None
    except (OSError, ValueError) as error:
        raise StorageRefused(f"cannot be reached: {error}", str(root), "check the path and its permissions") from error


def _sorted(error: OSError, where: str) -> StorageAway | StorageRefused:
    """What the system says, as what a person must mend, or as what may pass."""
    remedy = MENDED.get(error.errno or 0)
    return StorageAway(f"{where}: {error}") if remedy is None else StorageRefused(error.strerror or str(error), where, remedy)


def rename_exclusively(old: Path, new: Path) -> None:
    """renameat2(2) with RENAME_NOREPLACE. Raises: FileExistsError when the name is taken; OSError (ENOSYS where there is no such call)."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    at_cwd = -100
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(at_cwd, os.fsencode(old), at_cwd, os.fsencode(new), RENAME_NOREPLACE):
        raise OSError(code := ctypes.get_errno(), os.strerror(code), str(new))


def _walk(folder: Path, root: Path, *, temporary: bool = False) -> Iterator[Stored]:
    """Objects below `folder`, or temporary files, sorted by key as S3 sorts: a folder's name counts with its slash."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name + ("/" if entry.is_dir(follow_symlinks=False) else ""))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _sorted(error, str(folder)) from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), root, temporary=temporary)
        elif entry.is_file(follow_symlinks=False) and temporary == (entry.name.startswith(".") and entry.name.endswith(TEMPORARY_SUFFIX)):
            status = entry.stat(follow_symlinks=False)
            yield Stored(entry.path[len(str(root)) + 1 :], status.st_size, status.st_mtime)


def make_folder(folder: Path, fsync: Callable[[int], None] = os.fsync) -> None:
    """Makes a folder and what is missing above it; a power cut keeps what it made. Raises: OSError, ValueError (no path)."""
    if not folder.exists():
        make_folder(folder.parent, fsync)
        folder.mkdir(exist_ok=True)
        sync(folder.parent, fsync)


def sync(path: Path, fsync: Callable[[int], None] = os.fsync) -> None:
    """Makes durable a file's bytes, or the names in a folder: without it a power cut may forget a link though the data is there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder may be written without being read
        os.sync()
        return
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)
