"""A row of a manifest → what a person should know of it: size, seed, adapters, lettering and where that was read, checks, tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from renderfarm import manifest
from renderfarm.checks.registry import Unavailable, build, prepare
from renderfarm.job import JobSettings
from renderfarm.job.model import STARTER
from renderfarm.manifest import Rules, adapters
from renderfarm.models import Resolved
from renderfarm.models.prompts import Reader, reader_of
from renderfarm.plan import first_seed
from renderfarm.schema import PromptRow
from renderfarm.wording import reading

NO_CAMPAIGN = "(no campaign)"


@dataclass(frozen=True, slots=True)
class CheckState:
    """A check of the job. `away`: why it will not run on any picture; empty where it will."""

    name: str
    away: str = ""


@dataclass(frozen=True, slots=True)
class RowLine:
    """One row, as it will be rendered and checked.

    `lettering` None: nothing is said. `read_from`: the words that say so. `unchecked`: (check, why it will not run on this row).
    `tokens`: of the prompt; `tokens_max`: that the model reads, 0 where that is not known.
    """

    row: int
    row_id: str
    prompt: str
    size: str
    images: int
    seed: str
    adapter: str
    lettering: str | None
    read_from: str
    objects: str
    checks: tuple[str, ...]
    unchecked: tuple[tuple[str, str], ...]
    tokens: int
    tokens_max: int
    tags: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Sums:
    """Over all lines."""

    rows: int = 0
    images: int = 0
    lettered: int = 0
    counted: int = 0
    campaigns: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)

    def add(self, line: RowLine) -> None:
        """One more line."""
        self.rows += 1
        self.images += line.images
        self.lettered += bool(line.lettering)
        self.counted += bool(line.objects)
        self.campaigns[dict(line.tags).get("campaign", NO_CAMPAIGN)] += line.images
        self.sizes[line.size] += line.images


class Explainer:
    """Explains the rows of one job. Its checks are loaded once, to know which of them can run on this machine."""

    def __init__(self, job: JobSettings, weights: Resolved) -> None:
        self._job = job
        self._reader: Reader | None = reader_of(Path(weights.path), weights.pipeline_class)
        ready = prepare(build(job.checks, starter=job.model.weights == STARTER))
        self.checks = tuple(CheckState(check.name, check.reason if isinstance(check, Unavailable) else "") for check in ready)

    def lines(self, uri: str, rules: Rules, places: Sequence[int] = ()) -> Iterator[RowLine]:
        """The good rows of a manifest. `places`: the number of each where people see it. Raises: ManifestError."""
        number = 0
        for shard in manifest.read(uri, rules):
            for row in shard.rows:
                yield self._line(row, places[number] if places else number)
                number += 1

    def _line(self, row: PromptRow, place: int) -> RowLine:
        defaults, said = self._job.defaults, reading(row.text, row.prompt)
        width, height = row.width or defaults.width, row.height or defaults.height
        unchecked = tuple((check.name, why) for check in self.checks if (why := check.away or _idle(check.name, row, said.text)))
        idle = {name for name, _ in unchecked}
        derived = first_seed(row.seed, self._job.seed, row.id, 0)
        return RowLine(
            row=place,
            row_id=row.id,
            prompt=row.prompt,
            size=f"{width}x{height}",
            images=row.images if row.images is not None else defaults.images,
            seed=f"{derived} (of the row)" if row.seed is not None else f"{derived} (derived)",
            adapter=adapters.chosen(row.adapter, defaults.adapter, defaults.adapters) or "",
            lettering=said.text,
            read_from="the column text" if said.source == "text" else f"the prompt: {said.where}" if said.where else "",
            objects="; ".join(map(str, row.objects)),
            checks=tuple(check.name for check in self.checks if check.name not in idle),
            unchecked=unchecked,
            tokens=len(self._reader.tokenizer.encode(row.prompt, add_special_tokens=False).ids) if self._reader else 0,
            tokens_max=self._reader.tokens_max if self._reader else 0,
            tags=row.tags,
        )


def _idle(check: str, row: PromptRow, lettering: str | None) -> str:
    """Why a check has nothing to look at in this row's pictures."""
    if check == "text" and lettering is None:
        return "the row neither asks for text nor forbids it"
    if check == "counts" and not row.objects:
        return "the row asks for no objects"
    return ""
