"""What the manifest's readers and builders hand to each other: rules, shards, bad rows, reports. No files here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from renderfarm.manifest.faults import Doubt, Fault
from renderfarm.schema import PromptRow

Reason = tuple[str, str, str]
"""(column, what is wrong or doubtful, remedy)"""

Warner = Callable[[PromptRow], Iterable[Reason]]
"""What a person should see of a row; of a bad one only its texts. One that remembers rows is made anew for each pass."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a row must keep to beyond its types; the job narrows it. Sizes are pixels.

    `adapters` None: any name passes (the job is not known yet); `control` says whether the job has a ControlNet,
    None: not known either. `forbidden_words` are matched as whole words in the
    prompt and in the wanted text, whatever their case, accents or form of Unicode; negative prompts may name them.
    """

    adapters: frozenset[str] | None = None
    forbidden_words: tuple[str, ...] = ()
    control: bool | None = None
    size_min: int = 64
    size_max: int = 4096
    steps_max: int = 1000
    images_max: int = 1000
    prompt_chars_max: int = 10_000


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be rendered, with every reason.

    `row_id` is the row's own id where that is legal, else `row-<row>-<12 hex of digest>`. `digest` is 64 hex digits
    over what the row says; rows that share an id also count their place among each other, so that equal twins differ.
    """

    row: int
    row_id: str
    digest: str
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """A slice of the manifest in its order: what can be rendered, what cannot, and what warners said.

    Numbers count from 0 without gaps.
    """

    number: int
    rows: tuple[PromptRow, ...]
    bad: tuple[BadRow, ...]
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What `build` wrote: `rows` in the new manifest, or 0 and all `faults` when nothing was written.

    `warnings` come in either case; `notes` say in a line each how the source was understood; `seen`: rows that the source has;
    `places`: of each written row the number of its `unit` (row, line, entry) there. `faults_more`, `warnings_more`: how many there are
    beyond those that were kept.
    """

    rows: int
    faults: tuple[Fault, ...]
    warnings: tuple[Doubt, ...] = ()
    notes: tuple[str, ...] = ()
    seen: int = 0
    unit: str = "row"
    places: Sequence[int] = field(default=(), compare=False, repr=False)
    faults_more: int = 0
    warnings_more: int = 0

    @property
    def counts(self) -> str:
        """Of all faults and warnings, in words."""
        faults, warnings = len(self.faults) + self.faults_more, len(self.warnings) + self.warnings_more
        return f"{faults} fault(s)" + (f", {warnings} warning(s)" if warnings else "") if faults or warnings else "no fault"
