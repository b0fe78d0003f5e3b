"""What is wrong with a row, or doubtful: where, what, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a manifest, which makes it refused: where (`row` None: the file), what, remedy.

    `row` counts from 0 over a whole manifest; of a source it is what people see beside the row, and `unit` says of what: row, line, entry.
    """

    row: int | None
    row_id: str | None
    column: str | None
    what: str
    remedy: str
    unit: str = "row"

    def __str__(self) -> str:
        place = "manifest" if self.row is None else f"{self.unit} {self.row}"
        if self.row_id:
            place += f" (id {self.row_id!r})"
        if self.column:
            place += f", column {self.column}"
        return f"{place}: {self.what}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Doubt(Fault):
    """A warning: what a person should see before money is spent. Refused only where `--strict` is given."""

    def __str__(self) -> str:
        return f"warning: {Fault.__str__(self)}"
