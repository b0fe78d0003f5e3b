"""What a scheduler remembers on its host, per output: who schedules it, whether a run is alive, and how this window's run went.

    <job>-<output>.scheduler   locked while a scheduler has this output; a second one on this host is refused
    <job>-<output>.run         locked by a run, not by its scheduler: it inherits the lock and keeps it when the scheduler is killed,
                               so that the next scheduler waits for it instead of starting another. Holds the run's identity
    <job>-<output>.json        the window that was begun last, and how its run ended; written whole or not at all
    <job>-<output>.out         what the run printed

The kernel frees a lock with the last process that holds it, however that ends: nothing is ever stale. All of it may be deleted while
nothing runs; then a window that was begun counts as not begun. Other hosts do not see it: there the log's put-if-absent fences (exit 6).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from renderfarm.cache import home
from renderfarm.errors import Fenced, UserError
from renderfarm.farm.leftovers import identity


def default_folder() -> Path:
    """renderfarm/schedule under $XDG_STATE_HOME or ~/.local/state (XDG Base Directory Specification 0.8)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if os.path.isabs(base) else (home() or Path(os.devnull)) / ".local" / "state") / "renderfarm" / "schedule"


@dataclass(frozen=True, slots=True)
class Memory:
    """How the run of one window stands. `opens`: the window, ISO 8601; `over`: nothing more is started in it; `code`: the last exit;
    `committed`: records that its runs committed."""

    opens: str = ""
    starts: int = 0
    crashes: int = 0
    over: bool = False
    code: int | None = None
    again_at: str = ""
    committed: int = 0

    def of(self, opens: dt.datetime) -> bool:
        """Whether this is about the window that opened then."""
        return self.opens == moment(opens)


def moment(time: dt.datetime) -> str:
    """A moment as it is remembered."""
    return time.astimezone(dt.UTC).isoformat()


class Place:
    """The files of one output on this host."""

    def __init__(self, folder: Path, job: str, output: str) -> None:
        self.folder = folder
        self._stem = folder / f"{job}-{hashlib.sha256(output.encode()).hexdigest()[:12]}"
        self._scheduler: int | None = None

    def _path(self, suffix: str) -> Path:
        return self._stem.with_name(self._stem.name + suffix)

    @property
    def printed(self) -> Path:
        """Where a run's stdout goes."""
        return self._path(".out")

    def claim(self) -> None:
        """Be the scheduler of this output until this process ends. Raises: Fenced, UserError (the folder cannot be written)."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._scheduler = _locked(self._path(".scheduler"))
        except OSError as error:
            remedy = "make it writable, or name another folder with XDG_STATE_HOME"
            raise UserError(f"the scheduler cannot keep its state: {error.strerror}", str(self.folder), remedy) from error
        if self._scheduler is None:
            raise Fenced(
                f"another scheduler on this host has this output ({self._path('.scheduler')} is locked): end it, or leave the job to it"
            )

    def release(self) -> None:
        """Let another scheduler have it."""
        if self._scheduler is not None:
            os.close(self._scheduler)
            self._scheduler = None

    def lock_run(self) -> int | None:
        """A descriptor for a run to inherit; None while a run is alive. Raises: OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _locked(self._path(".run"))

    def name_run(self, pid: int) -> None:
        """Say which process the run is. A crash before it: the run cannot be asked to drain, only waited for."""
        self._path(".run").write_text(f"{identity(pid) or pid}\n")

    def run_pid(self) -> int | None:
        """The process of a run that is alive; ask only while `lock_run` gives None. None where that cannot be told from here: the run is
        in another container or on another host that shares this folder, or was never named, and its number may be anybody's."""
        with contextlib.suppress(OSError, ValueError):
            written = self._path(".run").read_text().strip()
            pid = int(written.partition(":")[0])
            return pid if written == (identity(pid) or str(pid)) else None
        return None

    def recall(self) -> Memory:
        """What is remembered; nothing where the file is missing or damaged."""
        try:
            return Memory(**json.loads(self._path(".json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return Memory()

    def remember(self, memory: Memory) -> None:
        """Replace what is remembered. Raises: OSError."""
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".")
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(memory), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, self._path(".json"))


def _locked(path: Path) -> int | None:
    """An open descriptor that holds the file's lock, or None when someone else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
