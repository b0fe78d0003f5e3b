"""A pid in a shared folder may be anybody's: it names no file of ours, and what it names is signalled only when it is known."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from renderfarm.brief import build
from renderfarm.farm import leftovers
from renderfarm.schedule.serve import Adopted
from renderfarm.schedule.state import Place


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_a_run_is_named_by_its_identity_and_found_by_it(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    place = Place(tmp_path, "demo", "out")
    place.name_run(stranger.pid)
    assert place.run_pid() == stranger.pid
    if (said := leftovers.identity(stranger.pid)) is not None:
        assert place._path(".run").read_text() == f"{said}\n"
    assert place.lock_run() is not None
    Adopted(Place(tmp_path, "demo", "out"), stranger.pid).drain()
    assert stranger.wait(10) < 0


@pytest.mark.skipif(leftovers.identity(1) is None, reason="no /proc of this process's namespaces on this system")
@pytest.mark.parametrize("where", ["another namespace", "an earlier start", "an earlier version"])
def test_a_number_that_is_anothers_here_is_never_signalled(tmp_path: Path, stranger: subprocess.Popen[bytes], where: str) -> None:
    """A container's run beside a shared folder, a pid that came round again, and a file of a version that wrote the number alone."""
    pid, began, namespaces = str(leftovers.identity(stranger.pid)).split(":", 2)
    said = {"another namespace": f"{pid}:{began}:pid:[1]time:[1]", "an earlier start": f"{pid}:1:{namespaces}", "an earlier version": pid}
    place = Place(tmp_path, "demo", "out")
    place._path(".run").write_text(said[where] + "\n")
    assert place.lock_run() is not None
    assert place.run_pid() is None
    adopted = Adopted(Place(tmp_path, "demo", "out"), stranger.pid)
    assert adopted.poll() is None
    adopted.drain()
    adopted.kill()
    with pytest.raises(subprocess.TimeoutExpired):
        stranger.wait(0.3)


def test_two_builders_with_one_pid_in_two_containers_write_two_files(tmp_path: Path) -> None:
    (tmp_path / "source.csv").write_text("id,prompt\na,a mug\n")
    theirs = tmp_path / f".out.parquet.{os.getpid()}.tmp"
    theirs.write_bytes(b"half of another builder's manifest")
    assert build(tmp_path / "source.csv", tmp_path / "out.parquet").rows == 1
    assert theirs.read_bytes() == b"half of another builder's manifest"
