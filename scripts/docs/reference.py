"""Prints docs/reference.md from the code: commands, exit codes, fields of a job file, columns of a manifest.

`scripts/reference` writes the page. What a table cannot say stands here as a remark; one on something that is gone ends this with an error.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from renderfarm.cli.options import EXIT_CODES
from renderfarm.cli.parser import build_parser
from renderfarm.job.describe import fields
from renderfarm.job.settings import JobSettings
from renderfarm.manifest.columns import REQUIRED, arrow_schema

HEAD = """\
# Reference

Commands, exit codes, fields of a job file, columns of a manifest. This page is made from the code by `scripts/reference`: do not edit
it. What a word means is in the [glossary](glossary.md); bytes and files are in [formats](formats.md).
"""

COMMANDS = """\
## Commands

`JOB` is a job file. `OUTPUT` is what a job writes: a folder or an `s3://bucket/prefix`. Results go to stdout (`--json`: one JSON
document, or JSON lines), progress and logs to stderr. `renderfarm COMMAND --help` says the same as this page. A mistake that you can
mend is one message with the place and the remedy.
"""

REMARKS: dict[str, str] = {
    "render": """\
The same command again goes on where the last one stopped: nothing accepted is rendered twice. With `--limit` exit 0 means that all this
call was asked for is accepted. SIGTERM or Ctrl-C drains: what was begun is finished and committed, exit 75; a second one leaves what is
in flight and commits what is stored. Which machines work: [farm.engine](#section-farm).""",
    "plan": """\
Images, batches, weights and their licence; hours, renderer hours and price at the job's own last rate, or else at the speed that this
machine's renderers measured with these weights at this size. Writes nothing.""",
    "preview": """\
The rows are taken evenly from the manifest and keep the seeds that the whole job will give them. The job's output is not touched.""",
    "schedule": "The [operator's page](operator.md#nights) says how windows, clock changes and restarts are handled.",
    "status": "From the log alone: images by state, last rate, time left, rejections by check and reason.",
    "report": "A run writes the sheet by itself when it ends, as long as the log has no more than 200,000 attempts.",
    "gc": """\
An orphan is a stored picture that no part records: what a crash left. With `--delete` the age is at least two hours, so that nothing
goes that a running job has stored and not committed yet.""",
    "audit": """\
The [auditor's page](auditor.md) walks through it; the [runbook](../infra/runbook.md#audit-findings) says what to do about each finding.""",
    "identify": """\
By the credential, else by the watermark, else by looks; the answer says how sure it is. Exit 5 when a picture is not identified.""",
    "reproduce": """\
Renders an accepted image in the batch that it was made in, where the log has all of it. Same bytes, or within two grey levels: exit 0;
else 5. The key of its mark comes from `--trust`, else the job's key set, else the user's; without it the answer is exit 2, never
"different".""",
    "recheck": "Renders nothing. What has no score (a check that did not look) is said.",
    "review": """\
The word is signed into the log. `--accept` publishes the kept picture byte for byte; it must have been kept as it would be delivered
(`output.kept: delivery`). `--reject` takes a delivered picture back, and it is rendered again; or it confirms a rejection.""",
    "evaluate": """\
Weights are safetensors on disk; nothing is fetched. Every figure has a 95 % interval. [Evaluation](evaluation.md) says what each figure is,
how sure it is, and what it cannot say.""",
    "provenance export": "One row for each record. In CSV a text that a spreadsheet would run is led by an apostrophe.",
    "provenance prove": "`ROW:INDEX` names the newest image of a row.",
    "provenance verify": "Needs neither the output nor a network. Exit 4 when the bundle does not prove what it says.",
    "manifest build": """\
[Briefs](briefs.md) has the sources, what columns may be called, and what becomes of other tools' syntax. A YAML template multiplies
lists ([`manifests/mockups.yaml`](../manifests/mockups.yaml) gives the example's rows). CSV takes `objects` as `mug:2; box:1` or
`2 mug, 1 box`, mixed too (`2 seater sofa` may mean two things and is refused), and tags as columns `tag.campaign`.""",
    "brief": """\
Size, seed, adapters, lettering and where that was read from, objects, tokens, checks that will run or not and why: a line for each row
on the page, and the sums with hours and cost in the terminal too. Renders nothing. [Briefs](briefs.md) has the sources and the options.""",
    "manifest check": """\
All faults and warnings, each with row, column and remedy. Exit 2 where there is a fault, with `--strict` also for a warning.""",
    "check": "Every check's score, also after a rejection: later checks still look.",
    "watermark embed": """\
A bad file is one line on stderr, the others go on, and the exit code is 2. Replaces no file: where one is there already, or two
pictures would get one name, nothing is written. `--method trustmark --weights DIR` takes TrustMark's files (`encoder_Q.onnx`,
`decoder_Q.onnx`) instead of the built-in method.""",
    "watermark read": "Needs neither the original nor its size. Several keys are tried in turn. Exit 5 when there is no mark.",
    "keys init": "The [security page](security.md#keys) says what production needs instead.",
}

JOB = """\
## Job file

YAML. [`jobs/mockups.yaml`](../jobs/mockups.yaml) is the example; paths are relative to the job file; `renderfarm job schema` prints
these tables (`--json`: a JSON Schema for editors). An unknown key is an error that names the nearest known one. Secrets are never
settings: S3 credentials and `AWS_ENDPOINT_URL` come from the environment, keys from a folder outside the output, and a field that ends
in `_env` takes the *name* of an environment variable. Required are `name`, `manifest` and `output` (short for `output.to`). `--set
key.path=value` changes a field for one call.
"""

SECTIONS: dict[str, str] = {
    "output": "With `kept: delivery` a person can accept what was rejected; `preview` keeps a small WebP that nobody can publish.",
    "model": """\
Weights are safetensors, never pickle, and no code of a repository is run. Their SHA-256 is in every record. A licence that forbids
commercial use needs `accept_licence: true`. What each mode costs and gains is on the [operator's page](operator.md#real-weights).""",
    "checks": """\
`ladder: [{after: 2, steps: 30, guidance: 8, negative_prompt: "…"}]` renders an image differently after so many rejections, never with
less than its row asks for; id and seeds stay, and the record says what was used. Objects are counted with the starter weights, or with
Grounding DINO or OWLv2 weights that `counts.weights` names. Hands are judged where five networks are installed: `scripts/setup` tries,
else `python -m renderfarm.people.weights`. `safety` and `score` (weights on disk) and `judge` (an OpenAI-compatible endpoint) are off by
default. A check of your own goes under `plugins`: [Python](python.md#a-check-of-your-own).""",
    "commit": "After a crash at most this much, and the units in flight, is rendered again.",
    "farm": """\
`auto` takes the local engine where there is at most one GPU and no `--address`: no cluster is started.
[Architecture](architecture.md#two-engines) says what each does.""",
    "schedule": 'Also as `cron: "0 22 * * 1-5"` with `window: "06:00"` or `8h`. See [nights](operator.md#nights).',
    "witness": "See [witnesses](auditor.md#witnesses). A change of it is no new plan.",
    "forbidden_words": """\
Brands, for example. Refused at `manifest check --job` and before anything renders, with row and column: whole words, whatever their
case, accents or form of Unicode. Negative prompts may name them.""",
}

MANIFEST = """\
## Manifest

A Parquet file, or a folder of them. Only `id` and `prompt` are required. `renderfarm manifest check` names every fault with its row and
column.
"""

COLUMNS: dict[str, str] = {
    "id": "unique, at most 200 characters; any text without control characters (`a/b` and `../x` are percent-encoded in names)",
    "prompt": "what the picture shows",
    "negative_prompt": "added to the job's",
    "seed": "used as it is for image 0, attempt 1; the others are derived from it",
    "width": "pixels; what is no multiple of 8 is drawn larger and cut",
    "height": "pixels, the same",
    "steps": "denoising steps",
    "guidance": "classifier-free guidance scale",
    "images": "pictures of this row",
    "text": 'the [lettering](wording.md#lettering) that the picture must show; absent: taken from the prompt; `""`: none wanted',
    "objects": "[what must be there](wording.md#objects), and how often: exactly, or at least (`mug:min`), or at most (`mug:max`)",
    "adapter": "LoRAs that the job names under `model.adapters`: `lcm`, or `lcm, style:0.8`; a column `adapters` may be a list of them",
    "init_image": "a picture to start from: an absolute path or `s3://` URI, only under the job's `inputs.allow`",
    "mask_image": "where it is drawn anew (white); read as `init_image` is",
    "strength": "how far the start picture may be left",
    "tags": "carried through to record and report (campaign, SKU)",
    "control_image": "edges, depth or a pose that guide it through the job's `model.controlnet`; read as `init_image` is",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def parsers(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, with its parser."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield path, parser
    for group in groups:
        for name, inner in group.choices.items():
            yield from parsers(inner, f"{path} {name}".strip())


def command(path: str, parser: argparse.ArgumentParser) -> str:
    """A command: its arguments, a remark, an example."""
    actions = [action for action in parser._actions if action.dest != "help"]
    places = [str(action.metavar) + ("…" if action.nargs in ("+", "*") else "") for action in actions if not action.option_strings]
    example = (parser.epilog or "").partition("example:\n")[2].partition("\n\n")[0]
    parts = [
        f"### {path}",
        f"`renderfarm {' '.join([path, *places])}`: {str(parser.description)[0].lower()}{str(parser.description)[1:]}",
        table(["argument", "meaning"], [[f"`{said(action)}`", meaning(action)] for action in actions]),
        REMARKS.get(path, ""),
        "```\n" + "\n".join(line.strip() for line in example.splitlines()) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part)


def said(action: argparse.Action) -> str:
    """An argument as it is written: `-o, --out FILE`."""
    value = str(action.metavar or "|".join(map(str, action.choices or ()))) if action.nargs != 0 else ""
    return " ".join(part for part in (", ".join(action.option_strings), value) if part)


def meaning(action: argparse.Action) -> str:
    """What it does, and whether it must be there."""
    needed = "required: " if action.required and action.option_strings else ""
    return needed + (action.help or "")


def exit_codes() -> str:
    """The table of exit codes."""
    found = re.findall(r"^  (\d+) +(.+)$", EXIT_CODES, re.M)
    rows = [*([f"`{code}`", text] for code, text in found), ["`130`", "Ctrl-C while it starts"]]
    after = "A service manager should count 0, 3 and 75 as success. The [runbook](../infra/runbook.md#exit-codes) says what to do at each."
    return f"## Exit codes\n\n{table(['code', 'meaning'], rows)}\n\n{after}"


def job_fields() -> Iterator[str]:
    """The job file, a table for each section."""
    yield JOB.rstrip()
    own: list[tuple[str, ...]] = []
    sections: list[tuple[str, ...]] = []
    for row in fields(JobSettings):
        (sections if re.search(r"[.\[]", row[0]) else own).append(row)
    head = ["field", "type", "default", "meaning"]
    yield table(head, [[f"`{name}`", *rest] for name, *rest in own])
    yield "\n\n".join(f"On `{name}`: {text[0].lower()}{text[1:]}" for name, text in SECTIONS.items() if name in {row[0] for row in own})
    for section, rows in groupby(sections, lambda row: row[0].partition(".")[0]):
        about = JobSettings.model_fields[section].description or ""
        yield f"### Section {section}\n\n{about[0].upper()}{about[1:]}. {SECTIONS.get(section, '')}".rstrip()
        yield table(head, [[f"`{name}`", *rest] for name, *rest in rows])


def manifest_columns() -> str:
    """The table of columns."""
    rows = []
    for field in arrow_schema():
        rows.append([f"`{field.name}`", str(field.type).replace("element: ", ""), COLUMNS[field.name]])
    assert {row[0].strip("`") for row in rows} == set(COLUMNS) and "id" in REQUIRED, "a column is gone, and its meaning is left"
    return f"{MANIFEST}\n{table(['column', 'type', 'meaning'], rows)}"


def page() -> str:
    """docs/reference.md."""
    commands = list(parsers(build_parser()))
    assert set(REMARKS) <= {path for path, _ in commands}, "a command is gone, and a remark on it is left"
    assert set(SECTIONS) <= set(JobSettings.model_fields), "a section is gone, and a remark on it is left"
    parts = [HEAD.rstrip(), COMMANDS.rstrip(), *(command(path, parser) for path, parser in commands)]
    return "\n\n".join([*parts, exit_codes(), *job_fields(), manifest_columns()]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
