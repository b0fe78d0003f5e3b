"""What the model card says about the licence of some weights, and whether it forbids commercial use.

A card is a README.md whose first lines are YAML between two `---` (Hugging Face Hub, "Model Cards: metadata"). Only the
fields `license`, `license_name` and `license_link` are read. This is a reminder, not legal advice: an unknown licence
is shown as `unknown`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CARD_BYTES_MAX = 1_000_000
"""No card is longer; more than this is not read."""

Use = Literal["commercial", "restricted", "non-commercial", "unknown"]
"""`restricted`: commercial use is allowed under conditions (use-based limits, a revenue limit) that somebody must
read."""

_KNOWN: dict[str, Use] = {
    "apache-2.0": "commercial",
    "mit": "commercial",
    "bsd-2-clause": "commercial",
    "bsd-3-clause": "commercial",
    "cc0-1.0": "commercial",
    "cc-by-4.0": "commercial",
    "cc-by-sa-4.0": "commercial",
    "unlicense": "commercial",
    "openrail": "restricted",
    "openrail++": "restricted",
    "creativeml-openrail-m": "restricted",
    "bigscience-openrail-m": "restricted",
    # Free up to a yearly revenue of US$ 1M: stability.ai/license
    "stabilityai-ai-community": "restricted",
    "stabilityai-community": "restricted",
    "stable-diffusion-3.5-community": "restricted",
    "flux-1-dev-non-commercial-license": "non-commercial",
    "flux-1-dev-non-commercial": "non-commercial",
    "flux-non-commercial-license": "non-commercial",
    "flux-dev-non-commercial-license": "non-commercial",
    "stabilityai-nc-research-community": "non-commercial",
    "stabilityai-non-commercial-research-community": "non-commercial",
    "sai-nc-community": "non-commercial",
    "sdxl-0.9-research-license": "non-commercial",
    "fair-noncommercial-research-license": "non-commercial",
    "playground-v2-5-community": "restricted",
    "nvidia-open-model-license": "restricted",
    "nscl-v1": "non-commercial",
}
_NON_COMMERCIAL = re.compile(r"non-?commercial|(^|-)nc(-|$)|research-only|research-license", re.ASCII)


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence as the card names it (lower case; `unknown` if it does not), what it allows, and where that was
    read."""

    name: str
    use: Use
    source: str


def classify(name: str) -> Use:
    """Returns what a licence id allows; ids that speak of non-commercial use (`cc-by-nc-4.0`) need not be in the
    table."""
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key in _KNOWN:
        return _KNOWN[key]
    return "non-commercial" if _NON_COMMERCIAL.search(key) else "unknown"


def read_licence(folder: Path) -> Licence:
    """Returns the licence that the card of the weights in `folder` states; `unknown` without a card or a readable
    field."""
    card = folder / "README.md"
    try:
        with card.open("rb") as file:
            text = file.read(CARD_BYTES_MAX).decode("utf-8", errors="replace")
    except OSError:
        return Licence("unknown", "unknown", "no model card")
    fields = _front_matter(text)
    name = fields.get("license")
    if name in (None, "", "other"):
        name = fields.get("license_name") or name
    if not name:
        return Licence("unknown", "unknown", "model card without a licence")
    source = fields.get("license_link") or "model card"
    return Licence(name.strip().lower(), classify(name), source)


def _front_matter(text: str) -> dict[str, str]:
    """Returns the scalar fields of a card's YAML header; of a list the first entry. Empty when there is no valid
    header."""
    import yaml

    match = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if match is None:
        return {}
    try:
        fields = yaml.safe_load(match.group(1))
    except yaml.YAMLError:
        return {}
    if not isinstance(fields, dict):
        return {}
    first = {key: value[0] if isinstance(value, list) and value else value for key, value in fields.items()}
    return {str(key): str(value) for key, value in first.items() if isinstance(value, str | int | float)}
