"""What other tools' users write into a prompt beside words: `--ar 16:9 --no text --seed 5`, `<lora:name:.8>`, a pasted block of settings.

Each is understood and leaves the prompt, or is a reason why the row is refused, or a doubt that says what was left out. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from renderfarm.manifest.adapters import parse, spelled
from renderfarm.manifest.types import Reason
from renderfarm.sources.types import words


@dataclass(slots=True)
class Found:
    """A prompt without its syntax, what that said as cells, and what is wrong or doubtful about it."""

    prompt: str
    cells: dict[str, str] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    doubts: list[Reason] = field(default_factory=list)
    sides: dict[str, str] = field(default_factory=dict)


_MAY_FLAG = re.compile(r"(?:[\s`\w]|^)(?:--|[—–])[A-Za-z]|^\s*/imagine|\s-[sSWHCAngv] ?[\d.k]")
_IMAGINE = re.compile(r"^\s*/imagine\s+(?:prompt:)?\s*")
_FLAG = re.compile(r"(?:(?<=\s)|^)--([A-Za-z][\w-]*)(?:=(?=\S))?")
_DASH_FLAG = re.compile(r"(?:(?<=\s)|^)[—–](ar|aspect|seed|stylize|chaos|version|v|s|q|c|iw|niji)(?=[ =]+[\d.:]+(?:\s|$))")
"""`--ar` as text programs correct it: a dash, glued to a flag that a number follows."""
_GLUED = re.compile(r"(?<=[\w,.!)])--(ar|aspect|seed|stylize|chaos|version|v|s|q|c|iw|niji)(?=[ =]+[\d.:]+(?:\s|$))")
"""The same glued to the word before."""
_CODE = re.compile(r"`+(\s*--[^`]*)`+")
_WRAPPED = re.compile(r"""\s*(?:`+([^`]*\s--[A-Za-z][^`]*)`+|"([^"]*\s--[A-Za-z][^"]*)"|“([^“”]*\s--[A-Za-z][^“”]*)”)\s*""")
"""Flags as code, and a prompt that is quoted with its flags."""
_INVOKE = re.compile(r"(?:(?<=\s)|^)-([sSWHCAng]) ?(\d+(?:\.\d+)?|k_\w+|ddim|plms)(?=\s|$)")
_INVOKE_FLAGS = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg", "A": "sampler", "n": "images", "g": "do_not_save_grid"}
"""The one-letter flags of InvokeAI's command line; one alone may be anything."""
_DASH_DOUBT = re.compile(r"(?:(?<=\s)|^)[—–](no|style|sref|cref|raw|tile)\b")
_QUOTED = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)')\s*""")
_FLAGS = {
    "ar": "aspect", "aspect": "aspect", "aspect_ratio": "aspect", "seed": "seed", "width": "width", "height": "height", "size": "size",
    "no": "negative_prompt", "negative_prompt": "negative_prompt", "negative": "negative_prompt", "neg": "negative_prompt",
    "steps": "steps", "cfg": "guidance", "cfg_scale": "guidance", "scale": "guidance", "guidance_scale": "guidance",
    "n_iter": "images", "batch_size": "images", "num_images": "images", "images": "images", "prompt": "prompt",
}  # fmt: skip
_SIDES = {"w": "width", "h": "height"}
"""Both together are a size; `--w` alone is also Midjourney's `--weird`."""
_FOREIGN = words(
    "v version niji style s stylize c chaos q quality weird w h iw sref cref cw sw sv p profile personalize stop repeat r tile fast"
    " relax turbo draft raw hd video uplight upbeta test testp creative sampler sampler_name sampler_index scheduler model motion loop"
    " exp oref ow hq vibe preset vae clip_skip subseed subseed_strength restore_faces tiling do_not_save_samples do_not_save_grid"
    " outpath_samples outpath_grid prompt_for_display styles"
)
"""Flags of Midjourney and of A1111's prompt files that a job decides, or that mean nothing here."""
_ALONE = words("tile fast relax turbo draft raw hd video uplight upbeta test testp creative loop hq do_not_save_samples do_not_save_grid")
_ANGLE = re.compile(r"<\s*([A-Za-z]\w*)\s*:\s*([^<>]*)>")
_BLOCK = re.compile(r"(?:\s|^)(Negative prompt:\s|Steps:\s*\d+\s*,\s*[A-Z][\w ]*:)")
_LABEL = re.compile(r"^\s*(?:positive\s+)?prompt\s*:", re.I)
_SETTING = re.compile(
    r'\s*([A-Za-z][\w \-/]*?):\s*("(?:\\.|[^"\\])*"|\[.*?\](?=\s*,\s*[A-Z]|\s*$)|\{.*?\}(?=\s*,\s*[A-Z]|\s*$)|[^,]*)(?:,|$)'
)
_DISCORD = re.compile(r"\*\*(.+?)\*\*\s*-\s*[^<@\n]{0,60}(?:<@!?\d+>|@\S+).*", re.S)
"""A message of Midjourney's bot: the prompt in bold, then who asked."""
_SETTINGS = {
    "steps": "steps", "cfg scale": "guidance", "distilled cfg scale": "guidance", "seed": "seed", "size": "size",
    "denoising strength": "strength",
}  # fmt: skip
_NO_LETTERING = re.compile(r"(?:any )?(?:text|texts|words|letters|lettering|writing|typography)", re.I)


def flags(prompt: str) -> Found:
    """`--ar 16:9` and its like, of Midjourney and of A1111's prompt files."""
    if message := _DISCORD.fullmatch(prompt.strip()):
        prompt = message.group(1)
    if not _MAY_FLAG.search(prompt):
        return Found(prompt)
    if wrapped := _WRAPPED.fullmatch(prompt):
        prompt = next(inner for inner in wrapped.groups() if inner)
    prompt = _IMAGINE.sub("", _CODE.sub(r" \1 ", prompt))
    prompt = _GLUED.sub(r" --\1", _DASH_FLAG.sub(r"--\1", prompt))
    if len(_INVOKE.findall(prompt)) > 1:
        prompt = _INVOKE.sub(lambda flag: f"--{_INVOKE_FLAGS[flag.group(1)]} {flag.group(2)}", prompt)
        if quoted := re.match(r'\s*"([^"]*)"(?=\s+--)', prompt):
            prompt = quoted.group(1) + prompt[quoted.end() :]
    found = Found(prompt)
    if match := _DASH_DOUBT.search(prompt):
        remedy = f"write --{match.group(1)} if it is meant for the program, or remove the dash"
        found.doubts.append(("prompt", f"{match.group()!r} may be a flag whose hyphens a program made a dash of", remedy))
    marks = list(_FLAG.finditer(prompt))
    if not marks:
        return found
    words = [prompt[: marks[0].start()].strip()]
    for mark, after in zip(marks, [*marks[1:], None], strict=True):
        value = prompt[mark.end() : after.start() if after else len(prompt)].strip()
        words.append(_flag(found, mark.group(1), value))
    if found.sides:
        _take_sides(found)
    left = " ".join(word for word in words if word)
    found.prompt = left.strip(" ,")
    if "prompt" in found.cells:
        found.prompt = ", ".join(part for part in (found.cells.pop("prompt"), found.prompt) if part)
    return found


def _take_sides(found: Found) -> None:
    """`--w 1024 --h 768`."""
    if set(found.sides) == set(_SIDES):
        for key, value in found.sides.items():
            found.cells.setdefault(_SIDES[key], value)
        return
    for key, value in found.sides.items():
        _leave_out(found, f"--{key} {value}")


def _leave_out(found: Found, said: str) -> None:
    found.doubts.append(("prompt", f"{said!r} means nothing here and is left out of the prompt", "the job says model, sampler and style"))


def _flag(found: Found, name: str, value: str) -> str:
    """Takes one flag; the words behind its value, which belong to the prompt."""
    key = name.lower().replace("-", "_")
    rest = ""
    if quoted := _QUOTED.match(value):
        value, rest = (quoted.group(1) or quoted.group(2) or ""), value[quoted.end() :]
    elif key in _ALONE:
        value, rest = "", value
    elif key not in ("no", "negative_prompt", "negative", "neg", "prompt"):
        value, _, rest = value.partition(" ")
    target = _FLAGS.get(key)
    if target is None and key not in _FOREIGN:
        remedy = "remove it; write a dash as –; a flag that is known: --ar 16:9, --no blur, --seed 5"
        found.reasons.append(("prompt", f"--{name} is no flag that is known", remedy))
    elif key in _SIDES and value.isdecimal():
        found.sides[key] = value
    elif target is None:
        _leave_out(found, f"--{name} {value}".strip())
    elif not value:
        found.reasons.append(("prompt", f"--{name} has no value", "write one behind it, or remove it"))
    elif target in found.cells and target != "negative_prompt" and found.cells[target] != value.strip(" ,"):
        found.reasons.append(("prompt", f"--{name} is there more than once", "keep one of them"))
    else:
        before = found.cells.get(target, "") if target == "negative_prompt" else ""
        found.cells[target] = ", ".join(filter(None, (before, value.strip(" ,"))))
        if key == "no" and any(_NO_LETTERING.fullmatch(word.strip()) for word in value.split(",")):
            found.cells["text"] = '""'
    return rest.strip()


def angles(prompt: str) -> Found:
    """`<lora:name:.8>`, as A1111 and its heirs write it; any other word with a colon in angle brackets is refused by name."""
    found = Found(prompt)
    if "<" not in prompt:
        return found
    parts: dict[str, float | None] = {}

    def take(match: re.Match[str]) -> str:
        kind, inner = match.group(1).lower(), match.group(2).strip()
        if kind not in ("lora", "lyco", "lycoris"):
            remedy = "remove it; what is known: <lora:name:0.8>, {one|another}, __list__"
            found.reasons.append(("prompt", f"{match.group()!r} is not known here", remedy))
            return match.group()
        name, *weights = (piece.strip() for piece in inner.split(":"))
        try:
            numbers = {float(weight.partition("=")[2] or weight) for weight in weights}
            if len(numbers) > 1:
                raise ValueError(f"{match.group()!r} has several weights, and one is read")
            weight = numbers.pop() if numbers else None
            name = re.sub(r"\.safetensors$", "", name.replace("\\", "/").rpartition("/")[2])
            parse(spelled([(name, weight)]))
            if name in parts:
                raise ValueError(f"{name!r} is named twice")
            parts[name] = weight
        except ValueError as error:
            what = str(error) if "could not convert" not in str(error) else f"{match.group()!r} has a weight that is no number"
            found.reasons.append(("prompt", what, "write <lora:name:0.8>"))
        return " "

    prompt = _ANGLE.sub(take, prompt)
    if parts:
        found.cells["adapter"] = spelled(parts.items())
        prompt = re.sub(r"\s*,(?:\s*,)+", ",", re.sub(r"[ \t]{2,}", " ", prompt)).strip(" ,\n")
        prompt = re.sub(r"\s+([,.;])", r"\1", prompt)
    found.prompt = prompt
    return found


def infotext(text: str) -> dict[str, str] | None:
    """A pasted block of A1111 (prompt, negative prompt, settings) as cells; None where the text is none."""
    begun = _BLOCK.search(text)
    if begun is None:
        return None
    cells = {"prompt": _LABEL.sub("", text[: begun.start()]).strip()}
    rest = text[begun.start(1) :]
    if rest.startswith("Negative prompt:"):
        rest = rest.removeprefix("Negative prompt:")
        settings = re.search(r"(?:\s|^)(Steps:\s*\d+\s*(?:,|$))", rest)
        cells["negative_prompt"] = (rest[: settings.start()] if settings else rest).strip()
        rest = rest[settings.start(1) :] if settings else ""
    for name, value in _settings(rest):
        if target := _SETTINGS.get(name.lower()):
            cells.setdefault(target, value)
        elif name:
            cells.setdefault(f"tag.{name.lower().replace(' ', '_')}", value)
    return {name: value for name, value in cells.items() if value}


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """`Steps: 20, Sampler: Euler a, Lora hashes: "x: 1, y: 2"` as pairs."""
    for match in _SETTING.finditer(text.replace("\n", ", ")):
        value = match.group(2).strip()
        yield match.group(1).strip(), value[1:-1] if value[:1] == '"' == value[-1:] and len(value) > 1 else value


def workflow(prompt: str) -> bool:
    """Whether a cell holds a program's document, such as a workflow of ComfyUI, and no prompt."""
    if not (prompt.startswith("{") and prompt.endswith("}") and '"' in prompt):
        return False
    try:
        return isinstance(json.loads(prompt), dict)
    except (ValueError, RecursionError):
        return False
