"""What a job adds to the doubts about a row: words that its model does not read, and sizes by its defaults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from renderfarm.brief.doubtful import too_small
from renderfarm.errors import WeightsError
from renderfarm.job import JobSettings
from renderfarm.job.model import STARTER
from renderfarm.manifest import Reason, Warner
from renderfarm.models.layout import read_parts
from renderfarm.models.prompts import Reader, reader_of
from renderfarm.models.resolve import locate
from renderfarm.schema import PromptRow


def of_job(job: JobSettings) -> list[Warner]:
    """The warners that know a job's model. Weights that are not on this machine are not fetched for it: then nobody counts words."""
    reader = None if job.model.long_prompts == "chunk" else _reader(job)

    def sizes(row: PromptRow) -> Iterator[Reason]:
        if (row.width is None or row.height is None) and not job.mark.allow_unmarked:
            yield from too_small(replace(row, width=row.width or job.defaults.width, height=row.height or job.defaults.height))

    def long_prompts(row: PromptRow) -> Iterator[Reason]:
        assert reader
        negative = ", ".join(part for part in (job.negative_prompt, row.negative_prompt) if part)
        for column, text in (("prompt", row.prompt), ("negative_prompt", negative)):
            if lost := reader.lost(text):
                shown = lost if len(lost) <= 200 else f"{lost[:199]}…"
                yield (
                    column,
                    f"longer than the model reads ({reader.tokens_max} tokens): lost are {shown!r}",
                    "say it in fewer words, or set model.long_prompts",
                )

    return [sizes, long_prompts] if reader else [sizes]


def _reader(job: JobSettings) -> Reader | None:
    if job.model.weights != STARTER and not Path(job.model.weights).expanduser().is_dir():
        return None
    try:
        _, folder = locate(job.model)
        return reader_of(folder, read_parts(folder)[0])
    except WeightsError:
        return None  # a render refuses them, with what is wrong
