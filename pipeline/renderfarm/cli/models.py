"""`models` and `model check`: what is known, and what a file of weights is, without loading it."""

from __future__ import annotations

import argparse
from pathlib import Path

from pydantic import ValidationError

from renderfarm.cli import logs
from renderfarm.cli.say import say, say_json
from renderfarm.errors import UserError
from renderfarm.job.model import ModelSettings
from renderfarm.models import describe


def models(args: argparse.Namespace) -> int:
    """The table of pipeline classes."""
    rows = describe.known()
    if args.json:
        say_json(rows)
        return 0
    say(f"{'class':<34} {'equal to diffusers':<30} {'refused':<24} LoRA  one file  sizes")
    for row in rows:
        if isinstance(row["refused"], str):
            say(f"{row['class']:<34} refused: {row['refused']}")
            continue
        equal, refused = (", ".join(map(str, _listed(row[name]))) for name in ("equal", "refused"))
        marks = ("yes" if row["adapters"] else "no", "yes" if row["single_file"] else "no")
        say(f"{row['class']:<34} {equal:<30} {refused:<24} {marks[0]:<5} {marks[1]:<9} x{row['size_multiple']}")
    say("every other class is refused by its name")
    return 0


def _listed(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def check(args: argparse.Namespace) -> int:
    """What weights are and how they would be loaded; 2 with the reason where they would not."""
    logs.configure(quiet=True)
    path = Path(args.weights).expanduser()
    if path.is_file() and path.suffix == ".safetensors" and args.config is None:
        facts = describe.file_facts(path)
        remedy = "name it under model.adapters" if facts["is"] == "an adapter" else "name a diffusers folder of its family with --config"
        if args.json:
            say_json(facts)
        else:
            say(f"{path}: {', '.join(f'{name} {value}' for name, value in facts.items())}")
            say(f"  to render with it, {remedy}")
        return 0
    adapters = {f"a{at}" if at else "adapter": {"path": str(file)} for at, file in enumerate(args.adapter)}
    given = {"weights": args.weights, "config": args.config, "revision": args.revision, "adapters": adapters, "accept_licence": True}
    try:
        settings = ModelSettings.model_validate(given)
    except ValidationError as error:
        raise UserError(
            error.errors()[0]["msg"].removeprefix("Value error, "), "model check", "see renderfarm model check --help"
        ) from None
    facts = describe.checked(settings)
    if args.json:
        say_json(facts)
    else:
        for line in describe.lines(facts):
            say(line)
    return 0
