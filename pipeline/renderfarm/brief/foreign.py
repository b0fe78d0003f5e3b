"""Syntax of other tools that is not read here, and would be drawn or passed on as words: a doubt for each kind. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from renderfarm.manifest.types import Reason
from renderfarm.schema import PromptRow

EDIT = re.compile(r"\[[^\[\]]*:[^\[\]]*:[\d.]+\]|\[[^\[\]|]*\|[^\[\]]*\]")
"""`[red:blue:0.5]` and `[cat|dog]` of A1111."""
_ELSEWHERE = re.compile(r"\{[^{}]*\|[^{}]*\}|__[~!@]?[\w.*/][\w /.*-]*?__|<\s*[A-Za-z]\w*\s*:[^<>]*>|(?:(?<=\s)|^)--[A-Za-z][\w-]*")
"""What is read in prompts alone."""
_KINDS = (
    (EDIT, "changes words while it is drawn (A1111), which is not done here"),
    (
        re.compile(r"\S?::-?[\d.]*(?=\s|$)|(?<![\w.])(?:\d*\.)?\d+::(?=\S)"),
        "weighs parts of a prompt (Midjourney, NovelAI), which is not done here",
    ),
    (
        re.compile(
            r"\)(?:[+-]+|-?\d?\.\d+)(?=[\s,.;)]|$)|(?<=[^\W\d_])(?<!\bC)(?:\+\+|--)(?=[\s,.;)]|$)"
            r"|\([^()]*\"\s*\)\.(?:blend|and|swap)\(|\)\.(?:blend|and|swap)\("
        ),
        "weighs or joins words as InvokeAI does, which is not done here; (word:1.3) is",
    ),
    (re.compile(r"(?<=[a-z0-9,.)] )AND(?= [a-z0-9(])"), "joins two prompts (A1111), which is not done here"),
    (re.compile(r"https?://\S+|\b\S+\.(?:png|jpe?g|webp|gif)\b", re.I), "names a picture or a page; nothing is fetched from a prompt"),
    (
        re.compile(r"\bembedding:\S+|\btextual[_ ]inversion:\S+", re.I),
        "names an embedding as ComfyUI does; a job names it under model.embeddings, and a prompt by its word alone",
    ),
    (re.compile(r"<\|[^|<>]{1,40}\|>"), "is a mark of a tokenizer"),
    (re.compile(r"\w\|\w"), "parts choices only within braces: {red|blue}"),
    (
        re.compile(
            r"\b(?:aspect[- ]?ratio|seitenverhältnis|AR)\W{0,3}\d{1,2}(?:\.\d+)?:\d{1,2}\b|\b\d{1,2}:\d{1,2} (?:aspect|ratio)\b", re.I
        ),
        "says a size, which no model reads from words: the columns `size` and `aspect` do",
    ),
    (re.compile(r"^\s*(?:positive )?prompt\s*:", re.I), "names the column, and is no part of the prompt"),
    (re.compile(r"(?:(?<=\s)|^)-[sSWHCA] ?\d+(?:\.\d+)?(?=\s|$)"), "may be a flag of InvokeAI's command line"),
)
_MAY_BE = re.compile(
    r"[\[|{}]|::|://|\.(?:png|jpe?g|webp|gif)\b|embedding:|inversion:|\+\+|--|\)[+.\d-]|\bAND\b|ratio|verh|\bAR\b|aspect|prompt\s*:"
    r"| -[sSWHCA]",
    re.I,
)
"""Without any of it a prompt holds no such syntax: most are told by this alone."""


def foreign_syntax(row: PromptRow) -> Iterator[Reason]:
    """What of other tools' syntax is left in a row."""
    value = row.prompt
    if _MAY_BE.search(value):
        for pattern, what in _KINDS:
            if found := pattern.search(value):
                yield "prompt", f"{found.group().strip()[:60]!r} {what}", "remove it, or say it in words"
        if value.count("{") != value.count("}"):
            yield "prompt", "a brace without its other half", "close it: {red|blue}; or remove it"
    for column, text in (("negative_prompt", row.negative_prompt), ("text", row.text)):
        if text and (found := _ELSEWHERE.search(text)):
            yield column, f"{found.group()[:60]!r} is read in the column `prompt` alone", "remove it, or write a row for each"
