"""Log lines of a program that uses the package: warnings on stderr, or wherever its own structlog sends them."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from renderfarm.logs import get_logger

log = get_logger()


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Structlog as a program finds it, and afterwards as it was."""
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    yield
    structlog.reset_defaults() if before is None else structlog.configure(**before)


def test_warnings_go_to_what_stderr_is_at_that_moment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    log.warning("disk.full")
    log.info("image.accepted")
    out, err = capsys.readouterr()
    assert "disk.full" in err and "image.accepted" not in err and out == ""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    log.warning("disk.full")
    assert "disk.full" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_a_program_that_set_structlog_up_gets_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.warning("before")
    capsys.readouterr()
    with structlog.testing.capture_logs() as lines:
        structlog.configure(processors=structlog.get_config()["processors"])
        log.info("image.accepted", row="a")
    assert lines == [{"event": "image.accepted", "row": "a", "log_level": "info"}] and capsys.readouterr() == ("", "")


def test_using_the_interface_sets_nothing_up_for_the_whole_process() -> None:
    code = "import structlog, renderfarm; renderfarm.Job, renderfarm.Output; print(structlog.is_configured())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
