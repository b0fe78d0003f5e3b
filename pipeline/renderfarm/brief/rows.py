"""One row of a source → rows of the manifest: syntax is understood, sizes and numbers are read, ids are made, variants counted.

In this order: settings out of a pasted block; the style around the prompt; variants; then for each of them flags, adapters, size, numbers.
Every row of the source becomes rows of the manifest or has a fault; nothing is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from renderfarm.brief import ids, sizes, styles, syntax, variants
from renderfarm.brief.numbers import fraction, whole
from renderfarm.errors import ManifestError, NotUnderstood
from renderfarm.manifest.adapters import parse, spelled
from renderfarm.manifest.cells import NO_TEXT, TAG_PREFIX, convert, known_key
from renderfarm.manifest.columns import FRACTIONS, LIST_OF_ADAPTERS, WHOLES
from renderfarm.manifest.types import Reason
from renderfarm.sources import headers
from renderfarm.sources.shown import Number
from renderfarm.sources.types import Brief, ReadAs, SourceRow, Unreadable
from renderfarm.wording import reading


@dataclass(slots=True)
class Made:
    """One row of the manifest as plain values for Arrow, and what is wrong or doubtful about it."""

    place: int
    values: dict[str, Any]
    reasons: list[Reason] = field(default_factory=list)
    doubts: list[Reason] = field(default_factory=list)
    broken: str = ""


@dataclass(slots=True)
class _Row:
    cells: dict[str, Any]
    reasons: list[Reason] = field(default_factory=list)
    doubts: list[Reason] = field(default_factory=list)

    def take(self, name: str, value: str, said: str) -> None:
        """A cell that syntax speaks of. Where the row has a column of its own that says otherwise, nobody knows what is meant."""
        own = self.cells.get(name)
        if own is None or own == "":
            self.cells[name] = value
        elif _plain(own) != _plain(value):
            self.reasons.append((name, f"the column says {_plain(own)!r} and {said} {value!r}", "keep one of them"))


class Maker:
    """Makes the rows of one source; `notes` says what was done, when all rows were made."""

    def __init__(self, reading: ReadAs, source: Brief) -> None:
        """Raises: ManifestError for styles or wildcards that cannot be read."""
        self._reading, self._source = reading, source
        self._styles = styles.read_styles(reading.styles) if reading.styles else None
        if reading.wildcards and not reading.wildcards.is_dir():
            raise ManifestError("no such folder of lists", str(reading.wildcards), "name the folder: --wildcards DIR")
        self._wildcards = variants.Wildcards(reading.wildcards)
        self._extra = 0
        self._counts: dict[str, int] = {}
        self._first_id = ""
        self._repeated = ids.Repeated()
        self._joined = [_meant(name, reading) for name in reading.id_from.split(",")] if "," in reading.id_from else []

    def rows(self, row: SourceRow) -> Iterator[Made]:
        """What becomes of one row of the source. Raises: ManifestError where all rows together make too many."""
        if row.broken:
            yield Made(row.place, {"id": None}, broken=row.broken)
            return
        begun = self._begun(row)
        prompts = self._prompts(begun, row.place)
        for prompt in prompts:
            cells = begun.cells if prompt is None else {**begun.cells, "prompt": prompt}
            one = _Row(dict(cells), list(begun.reasons), list(begun.doubts))
            self._finish(one)
            row_id = self._id(one.cells, row.place)
            if prompt is not None and len(prompts) > 1 and isinstance(one.cells.get("id"), str):
                row_id = ids.variant_id(one.cells["id"], prompt)
            values, reasons = convert(one.cells if row_id is None else {**one.cells, "id": row_id})
            yield Made(row.place, values, [*one.reasons, *reasons], one.doubts)

    def notes(self) -> list[str]:
        """A line for each thing that was done to rows."""
        made = [f"{count} {what}" for what, count in self._counts.items()]
        if self._first_id:
            made.append(f"ids are made of what each row says, such as {self._first_id!r}; --id-from COLUMN names a column instead")
        return made

    def _begun(self, row: SourceRow) -> _Row:
        """The row with unreadable cells named, and with what a pasted block and a style say."""
        begun = _Row({})
        for name, value in row.cells.items():
            if isinstance(value, Unreadable):
                begun.reasons.append((_column(name), value.what, value.remedy))
            elif value is not None:
                begun.cells[name] = value
        self._take_block(begun)
        self._take_style(begun)
        return begun

    def _take_block(self, row: _Row) -> None:
        block = row.cells.pop(headers.INFOTEXT, None)
        prompt = row.cells.get("prompt")
        text = block if block is not None else prompt
        if isinstance(text, dict):
            row.reasons.append(("prompt", "settings that are no text", "map their parts to columns"))
        if not isinstance(text, str):
            return
        found = syntax.infotext(text)
        if found is None:
            if block is not None:
                row.take("prompt", block, "the block")
            elif syntax.workflow(text):
                remedy = "paste the prompt itself, or export prompts from the program"
                row.reasons.append(("prompt", "holds a program's document (a workflow?) and no prompt", remedy))
            return
        if block is None:
            del row.cells["prompt"]
        for name, value in found.items():
            row.take(name, value, "the pasted block")
        self._count("pasted block(s) of settings were taken apart into columns")

    def _take_style(self, row: _Row) -> None:
        named = row.cells.pop(headers.STYLE, None)
        if named is None or not str(named).strip():
            return
        if self._styles is None:
            remedy = "give the list: --styles FILE; or keep the column as a tag: --map style=tag.style"
            row.reasons.append(("prompt", f"the style {str(named)!r} is of no list", remedy))
            return
        around = styles.chosen(str(named), self._styles)
        if around is None:
            row.reasons.append(("prompt", f"{self._reading.styles} has no style {str(named)!r}", "check its name"))
        for style in around or ():
            prompt, negative = style.around(_plain(row.cells.get("prompt", "")), _plain(row.cells.get("negative_prompt", "")))
            row.cells |= {"prompt": prompt} | ({"negative_prompt": negative} if negative else {})
        self._count("row(s) got a style of the list")

    def _prompts(self, row: _Row, place: int) -> list[str | None]:
        """The prompts that this row stands for; [None] where it is as it stands. Raises: ManifestError where they are too many."""
        prompt = row.cells.get("prompt")
        if not isinstance(prompt, str) or not variants.HAS.search(prompt):
            return [None]
        try:
            words = variants.parsed(prompt, self._wildcards)
            number = variants.count(words)
        except variants.NoVariants as error:
            row.reasons.append(("prompt", error.what, error.remedy))
            return [None]
        wanted = number if self._reading.variants is None else min(number, self._reading.variants)
        self._extra += wanted - 1
        if self._extra > self._reading.rows_made_max:
            what = f"up to {self._source.unit} {place} variants make {self._extra} rows more than there are ({number} of this one)"
            remedy = f"take some at random: --variants N; or say that it is meant: --variant-rows-max {self._extra}"
            raise ManifestError(what, "prompt", remedy)
        if wanted > 1:
            self._count("row(s) were made of variants", wanted)
        if self._reading.variants is None or wanted == number:
            return list(dict.fromkeys(variants.every(words)))
        return list(variants.some(words, wanted, f"{self._reading.variants_seed} {row.cells.get('id') or prompt}"))

    def _finish(self, row: _Row) -> None:
        """Flags, adapters, size, numbers and texts of one row."""
        prompt = row.cells.get("prompt")
        if isinstance(prompt, str):
            self._take_syntax(row, prompt)
        self._take_size(row)
        for name, value in list(row.cells.items()):
            try:
                row.cells[name] = self._cell(name, value)
            except NotUnderstood as error:
                row.reasons.append((_column(name), error.what, error.remedy))
                del row.cells[name]

    def _take_syntax(self, row: _Row, prompt: str) -> None:
        found = syntax.flags(prompt)
        angles = syntax.angles(found.prompt)
        if found.prompt != prompt:
            self._count("prompt(s) had flags (--ar, --no, --seed), which are columns now")
        if "adapter" in angles.cells:
            self._count("prompt(s) named adapters (<lora:…>), which are a column now")
        row.cells["prompt"] = angles.prompt
        row.reasons += [*found.reasons, *angles.reasons]
        row.doubts += [*found.doubts, *angles.doubts]
        for name, value in found.cells.items():
            if name == "negative_prompt" and row.cells.get(name):
                row.cells[name] = f"{_plain(row.cells[name])}, {value}"
            elif name == "text":
                self._take_no_text(row, found.prompt)
            else:
                row.take(name, value, "the prompt")
        if adapter := angles.cells.get("adapter"):
            self._add_adapters(row, adapter)

    def _take_no_text(self, row: _Row, prompt: str) -> None:
        """`--no text` forbids lettering, unless the row asks for some."""
        if wanted := reading(None, prompt).text:
            what = f"the prompt asks for the words {wanted!r} and says --no text"
            row.doubts.append(("prompt", what, 'say in the column `text` which words must be seen, or "" for none'))
        else:
            row.cells.setdefault("text", NO_TEXT)

    def _add_adapters(self, row: _Row, named: str) -> None:
        own = row.cells.pop(LIST_OF_ADAPTERS, row.cells.get("adapter", ""))
        try:
            both = [*parse(", ".join(map(str, own)) if isinstance(own, list) else str(own)), *parse(named)] if own else list(parse(named))
            if len({name for name, _ in both}) < len(both):
                raise ValueError("the column `adapter` and the prompt name the same")
            row.cells["adapter"] = spelled(both)
        except ValueError as error:
            row.reasons.append(("adapter", str(error), "name each once"))

    def _take_size(self, row: _Row) -> None:
        """`size` and `aspect` → width and height."""
        for name in (headers.SIZE, headers.ASPECT):
            said = row.cells.pop(name, None)
            text = _plain(said).strip() if said is not None else ""
            if not text:
                continue
            try:
                width, height = self._size(row, text, name == headers.ASPECT)
            except (ValueError, NotUnderstood) as error:
                what = error.what if isinstance(error, NotUnderstood) else str(error)
                row.reasons.append(("width", what, "say the size in one way"))
                continue
            row.take("width", str(width), f"{name} {text!r} means")
            row.take("height", str(height), f"{name} {text!r} means")

    def _size(self, row: _Row, text: str, aspect: bool) -> tuple[int, int]:
        """The size that a text means beside the sides that the row says: an aspect gives the other side, or agrees within 3 %.

        Raises: ValueError in words, NotUnderstood.
        """
        width, height = (whole(row.cells[side]) if row.cells.get(side) not in (None, "") else None for side in ("width", "height"))
        if aspect and (isinstance(width, int) or isinstance(height, int)):
            wide, high = sizes.ratio(text)
            if isinstance(width, int) and isinstance(height, int):
                if height > 0 and abs(width * high / (height * wide) - 1) < 0.03:
                    return width, height
            elif isinstance(width, int):
                return width, round(width * high / wide / 8) * 8
            elif isinstance(height, int):
                return round(height * wide / high / 8) * 8, height
        return sizes.size_of(text, self._reading.pixels)

    def _cell(self, name: str, value: Any) -> Any:
        """One value as its column has it: numbers read, a spreadsheet's numbers as shown in texts. Raises: NotUnderstood."""
        if isinstance(value, Number) and value.is_date and name in (*WHOLES, *FRACTIONS, "objects"):
            what = f"{value.text!r} is a date; the spreadsheet made it of what was written there"
            raise NotUnderstood(what, "format the column as text, and write it anew")
        if name in WHOLES:
            number = whole(value)
            # Other tools draw a seed of their own for -1.
            return None if name == "seed" and number == -1 else number
        if name in FRACTIONS:
            return fraction(value, self._source.decimal_comma)
        if isinstance(value, Number):
            return value.text
        if name == "id" and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if name == "text" and isinstance(value, list) and all(isinstance(line, str) for line in value):
            return "\n".join(value)
        if name.startswith(TAG_PREFIX) and not isinstance(value, str):
            return json.dumps(value, ensure_ascii=False, default=str)
        return value

    def _id(self, cells: dict[str, Any], place: int) -> str | None:
        """The id that is made for a row; None where it brings its own, or its column of ids is empty there."""
        if self._source.ids and not self._reading.id_from:
            return None
        if self._joined:
            parts = [_plain(cells.get(target, "")).strip() for target in self._joined]
            return "-".join(parts) if all(parts) else ""
        if (own := cells.pop("id", None)) is not None:
            cells.setdefault(f"{TAG_PREFIX}id", str(own))
        made = self._repeated.told_apart(ids.made_id(cells, self._reading.id_from, place))
        self._first_id = self._first_id or made
        return made

    def _count(self, what: str, number: int = 1) -> None:
        self._counts[what] = self._counts.get(what, 0) + number


def _meant(name: str, reading: ReadAs) -> str:
    """What a column of `--id-from` means. Raises: ManifestError for one that is not known."""
    target = headers.meaning(name, reading.meanings)
    if target is None or target == headers.IGNORE:
        raise ManifestError(
            f"--id-from names a column {name.strip()!r} that means nothing",
            "--id-from",
            f"keep it: --map {name.strip()}=tag.{headers.plain(name)}",
        )
    return target


def _plain(value: Any) -> str:
    return value.text if isinstance(value, Number) else str(value)


def _column(name: str) -> str:
    """The manifest's column that a fault names."""
    if name.startswith(TAG_PREFIX):
        return "tags"
    return name if known_key(name) else {headers.SIZE: "width", headers.ASPECT: "width"}.get(name, "prompt")
