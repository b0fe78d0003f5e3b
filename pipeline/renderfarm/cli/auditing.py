"""The arguments of what an auditor, and who judges pictures, calls."""

from __future__ import annotations

from pathlib import Path

from renderfarm.cli.options import (
    Subparsers,
    add_command,
    bounded,
    cluster_option,
    command_group,
    json_option,
    output_argument,
    trust_option,
)


def add_audit(commands: Subparsers) -> None:
    example = "renderfarm audit outputs/mockups --trust ~/.config/renderfarm/keys/trust"
    parser = add_command(commands, "audit", "audit:audit", "re-derive every claim of an output, name each finding", example)
    output_argument(parser)
    trust_option(parser)
    parser.add_argument("--quick", action="store_true", help="signatures, tree, counts and presence; no object is opened")
    parser.add_argument("--sample", metavar="N", type=bounded(0, 1 << 40), help="open only N objects, drawn at random")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="seed of the sample")
    parser.add_argument("--since", metavar="CHECKPOINT", type=Path, help="a checkpoint kept from before: catches a rewritten history")
    parser.add_argument(
        "--witness", metavar="KEY", action="append", default=[], help="a witness that must have cosigned: its public key, or a file of them"
    )
    cluster_option(parser)
    json_option(parser)


def add_identify(commands: Subparsers) -> None:
    parser = add_command(
        commands, "identify", "audit:identify", "any copy of an image → its record", "renderfarm identify stray.jpg --in outputs/mockups"
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="a picture, or a folder of them")
    parser.add_argument(
        "--in", metavar="OUTPUT", action="append", required=True, dest="outputs", help="an output to look in; may be repeated"
    )
    trust_option(parser)
    cluster_option(parser)
    json_option(parser)


def add_reproduce(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "reproduce",
        "audit:reproduce",
        "render an image again from its record and compare",
        "renderfarm reproduce outputs/mockups IMAGE_ID",
    )
    output_argument(parser)
    parser.add_argument("image_id", metavar="IMAGE_ID", help="32 hex digits, or the row id and index as ROW:INDEX")
    what = "folder with the key of its watermark; default: the job's key set where it can be read, and the user's configuration"
    parser.add_argument("--trust", metavar="DIR", type=Path, help=what)
    json_option(parser)


def add_recheck(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "recheck",
        "review:recheck",
        "judge the recorded scores by other thresholds: what would change (exit 0: nothing, 5: something)",
        "renderfarm recheck outputs/mockups --set checks.text.min_score=.8",
    )
    output_argument(parser)
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], dest="overrides", help="one setting of the checks; may be repeated"
    )
    json_option(parser)


def add_review(commands: Subparsers) -> None:
    parser = add_command(
        commands,
        "review",
        "review:review",
        "a person's word on an attempt: accept or reject it, or list what waits for one",
        'renderfarm review outputs/mockups --list\n  renderfarm review outputs/mockups IMAGE_ID --attempt 2 --accept --by "Ada Lovelace"',
    )
    output_argument(parser)
    parser.add_argument("image_id", metavar="IMAGE_ID", nargs="?", help="32 hex digits, or the row id and index as ROW:INDEX")
    parser.add_argument("--attempt", metavar="K", type=bounded(1, 1 << 20), help="which attempt of the image")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--accept", action="store_const", const="accepted", dest="outcome", help="deliver this attempt's picture")
    what.add_argument("--reject", action="store_const", const="rejected", dest="outcome", help="take it back, or confirm that it is bad")
    what.add_argument("--list", action="store_true", help="exhausted images that wait for a person, with their attempts")
    parser.add_argument("--by", metavar="NAME", help="who says so, where the log's own key signs it; the name goes into the signed log")
    parser.add_argument("--key", metavar="FILE", type=Path, help="a person's own key, which signs it and says who (`keys person`)")
    parser.add_argument("--note", metavar="TEXT", default="", help="why")
    parser.add_argument("--keys", metavar="DIR", type=Path, help="key set of the log, in place of the job's own or the user's")
    json_option(parser)


def add_provenance(commands: Subparsers) -> None:
    group = command_group(commands, "provenance", "the log for others: export, prove, verify")
    parser = add_command(
        group,
        "export",
        "audit:export",
        "the records as Parquet, CSV or JSON lines",
        "renderfarm provenance export outputs/mockups -o log.csv --tag campaign=spring",
    )
    output_argument(parser)
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, required=True, help="a .parquet, .csv or .jsonl file")
    parser.add_argument("--tag", metavar="KEY=VALUE", action="append", default=[], help="only records with this tag")
    parser.add_argument("--outcome", choices=("accepted", "rejected", "failed"), help="only attempts with this outcome")
    parser.add_argument("--rejected-for", metavar="CHECK", help="only attempts that this check rejected")
    parser.add_argument("--weights", metavar="NAME", help="only attempts that this model rendered")
    parser.add_argument("--from", metavar="DATE", dest="since", help="only attempts finished from then on (YYYY-MM-DD or ISO 8601, UTC)")
    parser.add_argument("--until", metavar="DATE", help="only attempts finished before then")
    prove = add_command(
        group,
        "prove",
        "audit:prove",
        "a bundle that proves one image's records, or that the log continues a checkpoint",
        "renderfarm provenance prove outputs/mockups IMAGE_ID -o proof.json",
    )
    output_argument(prove)
    what = prove.add_mutually_exclusive_group(required=True)
    what.add_argument("image_id", metavar="IMAGE_ID", nargs="?", help="32 hex digits, or the row id and index as ROW:INDEX")
    what.add_argument("--since", metavar="CHECKPOINT", type=Path, help="prove that the log begins with the log of this checkpoint")
    prove.add_argument("-o", "--out", metavar="FILE", type=Path, help="where to write it; default: stdout")
    verify = add_command(
        group, "verify", "audit:verify", "check a bundle without the output", "renderfarm provenance verify proof.json --trust trust/"
    )
    verify.add_argument("bundle", metavar="BUNDLE", type=Path, help="what `prove` wrote")
    trust_option(verify)
