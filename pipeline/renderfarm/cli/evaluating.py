"""The arguments of `evaluate`."""

from __future__ import annotations

from pathlib import Path

from renderfarm.cli.options import Subparsers, add_command, bounded, json_option


def add_evaluate(commands: Subparsers) -> None:
    example = "renderfarm evaluate outputs/mockups --reference photos/ --features clip/ --by tag.sku -o mockups.html"
    parser = add_command(commands, "evaluate", "evaluate:evaluate", "how good an output's pictures are, with intervals", example)
    what = "an output (a folder, s3://bucket/prefix) or a folder of pictures; with --fragility where to render, default a temporary one"
    parser.add_argument("output", metavar="OUTPUT", nargs="?", help=what)
    parser.add_argument(
        "--reference", metavar="DIR", help="pictures that they should be like: a folder, an output, or a file that --keep wrote"
    )
    parser.add_argument("--against", metavar="OUTPUT", help="a second output: what both are, and their difference, row by row")
    parser.add_argument(
        "--features", metavar="WEIGHTS", type=Path, help="a folder with CLIP, SigLIP, DINOv2 or another image encoder, as safetensors"
    )
    parser.add_argument("--by", metavar="TAG", help="how far pictures that share a tag differ, such as tag.sku")
    parser.add_argument("--boxes", metavar="FILE.jsonl", type=Path, help="boxes of a detector: what GenEval calls right")
    parser.add_argument(
        "--fragility", metavar="JOB", type=Path, help="render rows of this job, paraphrased and edited by one word, with the same noise"
    )
    parser.add_argument("--rows", metavar="N", type=bounded(1, 10_000), help="with --fragility: how many rows (default 16)")
    parser.add_argument(
        "--set",
        metavar="KEY.PATH=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="with --fragility: one field of the job",
    )
    parser.add_argument("--sample", metavar="N", type=bounded(2, 1 << 31), help="look at N pictures of each only, the same ones each time")
    parser.add_argument("--keep", metavar="FILE.safetensors", type=Path, help="also keep the output's features, for --reference")
    parser.add_argument("-o", "--out", metavar="PAGE.html", type=Path, help="also write a page with the figures and curves")
    json_option(parser)
