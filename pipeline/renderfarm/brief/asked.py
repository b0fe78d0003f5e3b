"""Warnings about what a row asks of its picture: lettering that may mean two things or that nobody here can read, counts that disagree."""

from __future__ import annotations

from collections.abc import Iterator

from renderfarm.manifest.types import Reason
from renderfarm.schema import PromptRow
from renderfarm.wording import reading
from renderfarm.wording.objects import contradicted
from renderfarm.wording.scripts import unread


def lettering(row: PromptRow) -> Iterator[Reason]:
    """What may mean lettering or none, with both readings."""
    said = reading(row.text, row.prompt)
    for question in said.doubts:
        column = "prompt" if row.text is None else "text"
        stands = "no lettering is asked for" if said.text is None else f"{said.text!r} is asked for" if said.text else "none is wanted"
        yield column, str(question), f'say in the column `text` which words must be seen, or "" for none; as it stands, {stands}'


def scripts(row: PromptRow) -> Iterator[Reason]:
    """Lettering in letters that no reader on this machine knows: such pictures are flagged, and a person has to look."""
    from renderfarm.checks.reader import model_of, models_folder

    wanted = reading(row.text, row.prompt).text or ""
    strange = unread(wanted)
    if strange and (len(strange) > 1 or model_of(strange[0], models_folder()) is None):
        what = f"{wanted!r} is wanted, and no text reader on this machine reads {' and '.join(strange)}"
        yield "prompt" if row.text is None else "text", what, "every such picture is flagged: plan for a person who reads it"


def objects(row: PromptRow) -> Iterator[Reason]:
    """A prompt that says two where the column says three."""
    things = dict.fromkeys(one.thing for one in row.objects)
    for thing in things:
        of_thing = [one for one in row.objects if one.thing == thing]
        highs = [one.high for one in of_thing if one.high is not None]
        said = contradicted(row.prompt, thing, max(one.low for one in of_thing), min(highs, default=None))
        if said is not None:
            what = f"{' and '.join(map(str, of_thing))} wanted, and the prompt speaks of {said}"
            yield "objects", what, "make them agree: the model draws the prompt, the check counts the column"
