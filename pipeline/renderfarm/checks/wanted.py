"""Which text a row wants: its own `text`, else the quotes in its prompt, across quote styles and languages. Pure.

A straight or curly single quote is also an apostrophe, and a straight double quote also means inches. So a straight or single opening
quote must stand at the start of a word, and its closing one at the end of one: `'Mama's Kitchen'` is one quotation, `the cats' and the
dogs' beds` and `a 24" x 36" frame` are none.
"""

from __future__ import annotations

import re

from renderfarm.schema import PromptRow

_PAIRS = (
    ("“", "”"),  # English; also closes „…” (Polish, Dutch) below
    ("„", "“”"),  # German, Polish
    ("«", "»"),  # French, Russian, Spanish
    ("»", "«"),  # Danish, German books
    ("‹", "›"),
    ("「", "」"),
    ("『", "』"),
    ("《", "》"),
    ("＂", "＂"),
    ("〝", "〞〟"),
)
_OPENS = r"(?:^|(?<=[\s(\[{:;,/=—–\-]))"
_CLOSES = r"(?=$|[\s.,;:!?)\]}/—–\-])"
_ELIDED = r"(?!\d0s\b|tis\b|twas\b|til\b|em\b|n['’]|cause\b)"
_PATTERNS = (
    *(re.compile(f"{re.escape(o)}([^{re.escape(o + c)}]+)[{re.escape(c)}]") for o, c in _PAIRS),
    re.compile(rf'{_OPENS}"(?=\S)([^"]+?)(?<=\S)"{_CLOSES}'),
    re.compile(rf"{_OPENS}‚(?=\S)([^‚]+?)(?<=\S)[‘’]{_CLOSES}"),
    re.compile(rf"{_OPENS}‘(?=\S)([^‘]+?)(?<=\S)’{_CLOSES}"),
    re.compile(rf"{_OPENS}['`´]{_ELIDED}(?=\S)(.+?)(?<=\S)['´]{_CLOSES}", re.IGNORECASE),
)
_NO_TEXT = re.compile(
    r"\b(?:no|without|free of|zero)\s+(?:any\s+|visible\s+|other\s+)?(?:text|words?|letters?|lettering|writing|typography|captions?)\b"
    r"|\btext[- ]free\b|\bohne\s+(?:jeden\s+)?(?:text|schrift|worte|buchstaben)\b|\bkein(?:e|en)?\s+(?:text|schrift)\b"
    r"|\b(?:sans|aucun)\s+texte\b|\bsin\s+(?:ningún\s+)?texto\b|\bsenza\s+testo\b|\bsem\s+texto\b",
    re.IGNORECASE,
)


def expected_text(row: PromptRow) -> str | None:
    """The text that the picture must show; "" where none is wanted, None where the row does not say.

    Several quotations are joined by blanks, in the order of the prompt. Quotations win over "no (other) text".
    """
    if row.text is not None:
        wanted = row.text.strip()
        return "" if wanted.casefold().rstrip(".") == "no text" else wanted
    quoted = quotations(row.prompt)
    if quoted:
        return " ".join(quoted)
    return "" if _NO_TEXT.search(row.prompt) else None


def quotations(prompt: str) -> list[str]:
    """What stands in quotes, in order. A quotation inside another belongs to the outer one."""
    spans: list[tuple[int, int, str]] = []
    for pattern in _PATTERNS:
        spans += [(m.start(), m.end(), m.group(1).strip()) for m in pattern.finditer(prompt)]
    spans.sort(key=lambda span: (span[0], -span[1]))
    quoted: list[str] = []
    end = -1
    for start, stop, words in spans:
        if start >= end and any(c.isalnum() for c in words):
            quoted.append(words)
            end = stop
    return quoted
