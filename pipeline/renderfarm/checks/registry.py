"""Builds the checks that a job asks for, and runs them: cheap ones first, and a rejection skips the dearer ones.

A check that raises, in `prepare` or in `check`, becomes a `not_run` verdict with the reason: never an acceptance, never a dead worker.
Near-duplicates are not here: they depend on what is accepted already, so the committer asks `duplicates.DuplicateIndex` in log order.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence

from renderfarm.checks.base import Check, Image, not_run
from renderfarm.checks.counts import ObjectCounter
from renderfarm.errors import JobError
from renderfarm.job.checks import ChecksSettings, CountsSettings
from renderfarm.logs import get_logger
from renderfarm.schema import PromptRow, Verdict

ENTRY_POINTS = "renderfarm.checks"
REJECTED_EARLIER = "rejected earlier"

log = get_logger()


class Unavailable:
    """Stands in for a check that could not be prepared: every image gets `not_run` with the reason."""

    def __init__(self, name: str, cost: int, reason: str) -> None:
        self.name = name
        self.cost = cost
        self.reason = reason

    def prepare(self) -> None:
        """Nothing to load."""

    def check(self, image: Image, row: PromptRow) -> Verdict:
        """`not_run`, with the reason that `prepare` gave."""
        return not_run(self.name, self.reason)


def build(settings: ChecksSettings, starter: bool = False) -> list[Check]:
    """The enabled checks, cheapest first, not yet prepared. `starter`: whether the starter weights made the pictures.

    Raises:
        JobError: a plug-in is not installed, cannot be loaded, refuses its options, or takes the name of another check.
    """
    checks = [*_own(settings, starter), *(_plugin(name, options) for name, options in settings.plugins.items())]
    names = [check.name for check in checks]
    twice = sorted({name for name in names if names.count(name) > 1} | ({"duplicates", "best"} & set(names)))
    if twice:
        raise JobError(f"check name taken twice: {', '.join(twice)}", "checks.plugins", "rename the plug-in's check")
    return sorted(checks, key=lambda check: check.cost)


def _own(settings: ChecksSettings, starter: bool) -> Iterable[Check]:
    from renderfarm.checks.broken import BrokenCheck
    from renderfarm.checks.copies import CopiesCheck
    from renderfarm.checks.counts import CountsCheck
    from renderfarm.checks.hands import HandsCheck
    from renderfarm.checks.reader import LetterReader
    from renderfarm.checks.text import TextCheck

    reader = LetterReader()  # one reading of a picture for all that ask
    if settings.broken.enabled:
        yield BrokenCheck(settings.broken)
    if settings.text.enabled:
        yield TextCheck(settings.text, reader)
    if settings.copies.enabled:
        yield CopiesCheck(settings.copies, reader)
    if settings.counts.enabled:
        yield CountsCheck(settings.counts, list(_detectors(settings.counts, starter)))
    if settings.hands.enabled:
        yield HandsCheck(settings.hands)
    if settings.safety.enabled:
        from renderfarm.checks.safety import SafetyCheck

        yield SafetyCheck(settings.safety)
    if settings.score.enabled and settings.score.weights is not None:
        from renderfarm.checks.score import ScoreCheck

        yield ScoreCheck(settings.score)
    if settings.judge.enabled:
        from renderfarm.checks.judge import JudgeCheck

        yield JudgeCheck(settings.judge)


def _detectors(settings: CountsSettings, starter: bool) -> Iterable[ObjectCounter]:
    """The job's own weights first: they know every class. The starter's counter means nothing on other pictures."""
    from renderfarm.checks.openvocabulary import OpenVocabulary
    from renderfarm.checks.starterscene import StarterScene

    if settings.weights is not None:
        yield OpenVocabulary(settings.weights, settings.confidence)
    elif starter:
        yield StarterScene()


def _plugin(name: str, options: dict[str, object]) -> Check:
    installed = importlib.metadata.entry_points(group=ENTRY_POINTS)
    if name not in installed.names:
        have = ", ".join(sorted(installed.names)) or "none"
        raise JobError(f"no check plug-in {name!r} is installed (installed: {have})", f"checks.plugins.{name}", "install it")
    try:
        check: object = installed[name].load()(**options)
    except Exception as error:
        raise JobError(f"the plug-in cannot be built: {error}", f"checks.plugins.{name}", "see the plug-in's options") from error
    if not isinstance(check, Check):
        raise JobError("the plug-in has no name, cost, prepare and check", f"checks.plugins.{name}", "see renderfarm.checks.base")
    return check


def prepare(checks: Sequence[Check]) -> list[Check]:
    """Loads every check's models, once per worker; one that fails is replaced by one that says why, in the same place."""
    ready: list[Check] = []
    for check in checks:
        try:
            check.prepare()
            ready.append(check)
        except Exception as error:  # a missing model must not stop the worker: it becomes a counted verdict
            log.warning("check_not_prepared", check=check.name, error=str(error), kind=type(error).__name__)
            ready.append(Unavailable(check.name, check.cost, f"could not be loaded: {_line(error)}"))
    return ready


def run(checks: Sequence[Check], image: Image, row: PromptRow) -> tuple[Verdict, ...]:
    """One verdict per check, in the given order; after a rejection the others are `not_run: rejected earlier`.

    image: uint8 (H, W, 3), sRGB.
    """
    verdicts: list[Verdict] = []
    rejected = False
    for check in checks:
        if rejected:
            verdicts.append(not_run(check.name, REJECTED_EARLIER))
            continue
        verdict = _judged(check, image, row)
        rejected = verdict.outcome == "rejected"
        verdicts.append(verdict)
    return tuple(verdicts)


def _judged(check: Check, image: Image, row: PromptRow) -> Verdict:
    try:
        verdict: object = check.check(image, row)
    except Exception as error:  # counted: the verdict says that nobody looked, and why
        log.warning("check_crashed", check=check.name, row=row.id, error=str(error), kind=type(error).__name__)
        return not_run(check.name, f"the check crashed: {_line(error)}")
    if not isinstance(verdict, Verdict) or verdict.check != check.name:
        log.warning("check_answered_nonsense", check=check.name, row=row.id, answer=repr(verdict)[:200])
        return not_run(check.name, "the check did not answer with its own verdict")
    return verdict


def _line(error: Exception) -> str:
    """One line of at most 200 characters: reasons are shown in tables."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else text[:199] + "…"
