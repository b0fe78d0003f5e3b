"""What is told about a job, and to whom: one JSON message at the end, at a pause, at a failure, when a budget is crossed.

The message has a `text` that chat services show as it is. A message that does not arrive is a log line: it ends no run and changes no exit
code.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from renderfarm import web
from renderfarm.errors import INCOMPLETE, PAUSED, RenderfarmError, Undelivered
from renderfarm.job import JobSettings
from renderfarm.job.operations import Event
from renderfarm.logs import get_logger
from renderfarm.run import notify
from renderfarm.run.budget import Crossed
from renderfarm.run.session import RunResult
from renderfarm.version import __version__

log = get_logger()

REASON_MAX = 2000


class Teller:
    """Tells of one job by its settings."""

    def __init__(self, job: JobSettings) -> None:
        self._job = job
        self._threads: list[threading.Thread] = []

    def warn_early(self) -> None:
        """A variable that is not set is said when a run begins, not when it has ended."""
        for name in (self._job.notify.webhook_env, self._job.notify.token_env):
            try:
                notify.secret(name)
            except Undelivered as error:
                log.warning("notify.not_set", job=self._job.name, reason=str(error))

    def tell(self, event: Event, text: str, **facts: object) -> None:
        """Post and run what the job names for this event; returns when that has ended."""
        settings = self._job.notify
        if event not in settings.events or not (settings.webhook_env or settings.command):
            return
        message = {
            "text": f"{self._job.name}: {text}",
            "event": event,
            "job": self._job.name,
            "output": self._job.output.to,
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "renderfarm": __version__,
            **facts,
        }
        body = json.dumps(message, ensure_ascii=False).encode(errors="replace")
        for way, deliver in (("webhook", self._post), ("command", self._run)):
            try:
                deliver(event, body)
            except Undelivered as error:
                log.warning("notify.undelivered", job=self._job.name, told=event, way=way, reason=str(error))
            except Exception as error:  # whatever a library does: a run is worth more than a message
                log.warning("notify.undelivered", job=self._job.name, told=event, way=way, reason=type(error).__name__)

    def _post(self, event: Event, body: bytes) -> None:
        settings = self._job.notify
        url = notify.secret(settings.webhook_env)
        if url is not None:
            token = notify.secret(settings.token_env)
            web.post(url, body, token=token, timeout_s=settings.timeout_s, retries=settings.retries)

    def _run(self, event: Event, body: bytes) -> None:
        settings = self._job.notify
        if settings.command:
            environment = {"RENDERFARM_EVENT": event, "RENDERFARM_JOB": self._job.name}
            notify.run_command(settings.command, body, timeout_s=settings.timeout_s, env=environment)

    def beside(self, event: Event, text: str, **facts: object) -> None:
        """Tell, and return at once; `join` waits for it."""
        thread = threading.Thread(target=self.tell, args=(event, text), kwargs=facts, daemon=True)
        self._threads.append(thread)
        thread.start()

    def crossed(self, found: Crossed) -> None:
        """Tell of a budget beside the run."""
        then = "the run drains and pauses" if self._job.budget.then == "pause" else "the run goes on"
        self.beside("budget", f"{found}; {then}", budget=asdict(found))

    def ended(self, result: RunResult, reason: str = "") -> None:
        """Tell how a run ended."""
        counts, tally, code = result.counts, result.tally, result.exit_code
        event: Event = "paused" if code == PAUSED else "done"
        head = {0: "done", INCOMPLETE: "finished with losses", PAUSED: "paused"}.get(code, f"exit {code}")
        because = f" ({reason})" if reason else ""
        self.join()
        facts: Mapping[str, object] = {
            "exit_code": code,
            "reason": reason or None,
            **asdict(counts),
            "attempts": tally.attempts_now,
            "rejects": dict(tally.reasons),
            "seconds": round(tally.elapsed_s, 1),
        }
        self.tell(event, f"{head}{because}: {counts}", **facts)

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Tell of what ends a run by an exception, which goes on its way."""
        try:
            yield
        except BaseException as error:
            self.join()
            code = error.exit_code if isinstance(error, RenderfarmError) else 130 if isinstance(error, KeyboardInterrupt) else 1
            said = str(error) if isinstance(error, RenderfarmError) else type(error).__name__
            event: Event = "paused" if code == PAUSED else "failed"
            self.tell(event, f"{event}: {said[:REASON_MAX]}", exit_code=code, reason=said[:REASON_MAX])
            raise

    def join(self) -> None:
        """Wait for what is being told, as long as its time-outs allow."""
        settings = self._job.notify
        for thread in self._threads:
            thread.join((settings.retries + 1) * (2 * settings.timeout_s + 4))
        self._threads.clear()
