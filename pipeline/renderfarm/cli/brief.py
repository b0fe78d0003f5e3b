"""`brief`: what a source will become, before a cent is spent: on the terminal, and as a page for who signs it off."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from renderfarm import brief as briefs
from renderfarm.api import Job, Plan
from renderfarm.cli import logs
from renderfarm.cli.manifest import reading_of, rules_of, say_report
from renderfarm.cli.say import say
from renderfarm.errors import ManifestError, UserError
from renderfarm.explain import Explainer, RowLine, Sums, fit, write_page
from renderfarm.job import load_job
from renderfarm.manifest import BuildReport
from renderfarm.manifest.faults import Fault
from renderfarm.models import resolve as resolve_weights
from renderfarm.sources.opening import SUFFIXES

CAMPAIGNS_SHOWN, FAULTS_SHOWN = 20, 1000
TOLD_MAX = 250_000
"""Warnings that the page can hold: two and a half of each of a hundred thousand rows."""


def run(args: argparse.Namespace) -> int:
    """Explain a source; 2 where rows have faults, or with --strict warnings. The page is written in any case."""
    logs.configure(quiet=True)
    settings = load_job(args.job, args.overrides)
    rules, reading = rules_of(settings), reading_of(args, settings)
    if args.out is not None:
        _refuse_page(args.out)
    with tempfile.TemporaryDirectory(prefix="renderfarm-brief-") as folder:
        rows = Path(folder) / "rows.parquet"
        report = briefs.build(args.source, rows, rules, skip_invalid=True, reading=reading, job=settings, told_max=TOLD_MAX)
        if not report.rows:
            say_report(report, args.source, sys.stderr)
            raise ManifestError("no row of it can be rendered", args.source, "mend what is named above")
        weights = resolve_weights(settings.model)
        fitting = fit(rows, rules, settings, weights, report.places, report.unit)
        report = replace(report, rows=len(fitting.places), faults=tuple(sorted([*report.faults, *fitting.faults], key=_place)))
        if not report.rows:
            say_report(report, args.source, sys.stderr)
            raise ManifestError("no row of it can be rendered", args.source, "mend what is named above")
        plan = Job(settings.model_copy(update={"manifest": str(fitting.drawn)})).plan()
        explainer, sums = Explainer(settings, weights), Sums()
        warnings: dict[str, list[str]] = defaultdict(list)
        for doubt in report.warnings:
            warnings[doubt.row_id or ""].append(f"{doubt.column}: {doubt.what}; {doubt.remedy}")

        def lines() -> Iterator[tuple[RowLine, list[str]]]:
            for line in explainer.lines(str(fitting.rows), rules, fitting.places):
                sums.add(line)
                yield line, warnings.get(line.row_id, [])

        def about() -> dict[str, Any]:
            return _about(Path(args.source).name, report, plan, explainer, sums)

        if args.out is not None:
            write_page(args.out, settings.name, lines(), about)
        else:
            for _ in lines():
                pass
        said = about()
    say_report(report, args.source, sys.stderr)
    say(*said["totals"], *(f"check {text}" for text in said["checks"]), *(f"campaign {text}" for text in said["campaigns"]))
    if args.out is not None:
        say(f"page: {args.out}")
    return UserError.exit_code if report.faults or (report.warnings and args.strict) else 0


def _refuse_page(path: Path) -> None:
    """Raises: UserError for a place where no page can be written, before the work for it is done."""
    if path.suffix.lower() in SUFFIXES:
        raise UserError("this is the name of a source and no page", str(path), "name a file that ends in .html")
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise UserError("no page can be written there", str(path), "name a file in a folder that exists")


def _place(fault: Fault) -> int:
    return fault.row or 0


def _about(source: str, report: BuildReport, plan: Plan, explainer: Explainer, sums: Sums) -> dict[str, Any]:
    """What stands above the rows."""
    return {
        "source": source,
        "unit": report.unit,
        "totals": _totals(report, plan, sums),
        "checks": [f"{one.name}: {f'will not run: {one.away}' if one.away else 'runs'}" for one in explainer.checks],
        "campaigns": [_campaign(name, count, plan, sums) for name, count in sums.campaigns.most_common(CAMPAIGNS_SHOWN)],
        "sizes": [f"{size}: {count} images" for size, count in sums.sizes.most_common(CAMPAIGNS_SHOWN)],
        "notes": [*report.notes, *plan.resolved.notes],
        "warnings": [f"{doubt.what}; {doubt.remedy}" for doubt in report.warnings if doubt.row is None],
        "faults": [str(fault) for fault in report.faults[:FAULTS_SHOWN]],
    }


def _campaign(name: str, images: int, plan: Plan, sums: Sums) -> str:
    """Its share by images of what all of them take."""
    hours, per_hour, cost = plan.estimate.renderer_hours, plan.resolved.job.cost.per_hour, ""
    share = None if hours is None or not sums.images else hours * images / sums.images
    if share is not None and per_hour is not None:
        cost = f", {share * per_hour:.2f} {plan.resolved.job.cost.currency}"
    return f"{name}: {images} images" + (f", about {share:.2f} renderer hours{cost}" if share is not None else "")


def _totals(report: BuildReport, plan: Plan, sums: Sums) -> list[str]:
    found = plan.estimate
    time = f"about {found.hours} hours, {found.renderer_hours} of renderers, {found.rate_from}" if found.hours is not None else ""
    return [
        f"{sums.rows} rows of {report.seen}, {sums.images} images, {plan.batches} batches",
        f"{sums.lettered} rows with lettering, {sums.counted} with objects to count",
        report.counts,
        time or "no rate was measured yet for these weights: render some with --limit 8",
        *([f"cost {found.cost}"] if found.cost else []),
    ]
