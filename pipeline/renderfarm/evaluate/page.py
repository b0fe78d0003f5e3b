"""An evaluation → one HTML file that opens from disk and runs nothing: tables, curves as SVG, the pictures that stand out as small copies.

Whatever a manifest says is escaped where it is put in, and the page's policy allows its own style and pictures inside it, nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path

from renderfarm.errors import PictureError, UserError
from renderfarm.evaluate.campaign import Campaign
from renderfarm.evaluate.evaluation import BINS, Evaluation, number, ratio_text, verdict
from renderfarm.evaluate.figures import BETWEEN, DIFFERENCE, OF_ONE, OF_OTHER, Figure
from renderfarm.evaluate.fragility import PARAPHRASE
from renderfarm.evaluate.gather import Sample, opened
from renderfarm.pictures import thumbnail

OUTLIERS_SHOWN = 24
CIRCLES_SHOWN = 40
WRONG_SHOWN = 24
MOVED_SHOWN = 12
THUMB_SIDE = 160
WIDE, HIGH, MARGIN = 460, 190, 60
Pieces = list[str]


def writable(path: Path) -> None:
    """Raises: UserError for a page that could not be written, before hours are spent on its figures."""
    if path.is_dir() or not path.parent.is_dir():
        what = "this is a folder" if path.is_dir() else "there is no such folder to write it to"
        raise UserError(f"cannot be written: {what}", str(path), "choose another place")


def write_page(path: Path, found: Evaluation) -> None:
    """Writes the page, whole or not at all. Raises: UserError for a place that cannot be written."""
    text = page_html(found, _thumbs(found.output))
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", str(path), "choose another place") from error
    finally:
        partial.unlink(missing_ok=True)


Thumbs = Callable[[str], bytes | None]
"""A picture's name → a small WebP of it, None where it cannot be read."""


def _thumbs(output: str) -> Thumbs:
    """Small copies of an output's pictures, by their names."""
    source = opened(output)
    known = {sample.name: sample for sample in source.samples}

    def thumb(name: str) -> bytes | None:
        try:
            return thumbnail(source.read(known.get(name, Sample(name, name))), THUMB_SIDE)
        except PictureError:
            return None

    return thumb


def page_html(found: Evaluation, thumb: Thumbs) -> str:
    """The whole page."""
    style = resources.files("renderfarm.evaluate").joinpath("assets", "evaluate.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    title = _text(Path(found.output).name or found.output)
    body = [*_head(found), *_figures(found), *_curves(found)]
    body += _campaign(found.campaign, thumb) if found.campaign is not None else []
    body += [*_lowest(found, thumb), *_wrong(found, thumb), *_moved(found, thumb)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_text(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · evaluation</title>\n<style>{style}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _head(found: Evaluation) -> Pieces:
    facts = [f"<b>{found.pictures}</b> pictures of <b>{found.rows}</b> rows in {_text(found.output)}"]
    facts += [f"against {_text(found.against)}"] * (found.against is not None)
    facts += [f"reference {_text(found.reference)}"] * (found.reference is not None)
    if found.network is not None:
        net = found.network
        facts.append(
            f"features by {_text(net.kind)} ({net.size} numbers), {_text(net.folder)}, SHA-256 <code>{_text(net.digest[:16])}…</code>"
        )
    notes = [f'<p class="notice">{_text(note)}</p>' for note in found.notes]
    named = _text(Path(found.output).name or found.output)
    return ["<header>", f"<h1>{named} <span>evaluation</span></h1>", *(f"<p>{fact}</p>" for fact in facts), "</header>", *notes]


def _figures(found: Evaluation) -> Pieces:
    """A row a figure; where there are two outputs, both and their difference."""
    if not found.figures:
        return []
    names = list(dict.fromkeys((figure.name, figure.title) for figure in found.figures))
    table = {(figure.name, figure.of): figure for figure in found.figures}
    columns = [(OF_ONE, "output")]
    columns += [(OF_OTHER, "against"), (DIFFERENCE, "difference"), (BETWEEN, "between")] if found.against is not None else []
    columns = [column for column in columns if any(of == column[0] for _, of in table)]
    heads = "".join(f'<th scope="col">{title}</th>' for _, title in columns)
    rows = []
    for name, title in names:
        cells = "".join(f"<td>{_cell(table.get((name, of)))}</td>" for of, _ in columns)
        better = next(figure.better for figure in found.figures if figure.name == name)
        arrow = {"lower": " <small>lower is better</small>", "higher": " <small>higher is better</small>"}.get(better, "")
        rows.append(f'<tr><th scope="row">{_text(title)}{arrow}</th>{cells}</tr>')
    caption = "<p>Each with its 95 % interval.</p>"
    return [
        "<section><h2>Figures</h2>",
        caption,
        f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>",
        *rows,
        "</tbody></table></section>",
    ]


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    sure = "no interval" if figure.low is None or figure.high is None else f"{number(figure.low)} to {number(figure.high)}"
    bias = f", {number(figure.bias)} of it bias" if figure.bias is not None and figure.of != DIFFERENCE else ""
    said = verdict(figure).lstrip(", ") if figure.of == DIFFERENCE else ""
    words = f" <em>{_text(said)}</em>" if said else ""
    return f"<b>{number(figure.value)}</b> <small>{_text(sure + bias)}</small>{words}"


def _curves(found: Evaluation) -> Pieces:
    drawn = []
    if len(found.curve) > 1:
        straight = [figure.value for figure in found.figures if figure.name == "fid:unbiased" and figure.of == OF_ONE]
        drawn.append(
            _figure("FID by number of pictures", _line(found.curve, straight[0] if straight else None), "the dashed line: bias removed")
        )
    if found.fits:
        drawn.append(_figure("CLIP score of the pictures", _bars([fit.score for fit in found.fits]), f"{len(found.fits)} pictures"))
    return ['<section><h2>Curves</h2><div class="curves">', *drawn, "</div></section>"] if drawn else []


def _figure(title: str, drawing: str, caption: str) -> str:
    return f"<figure><h3>{_text(title)}</h3>{drawing}<figcaption>{_text(caption)}</figcaption></figure>"


def _svg(content: Iterable[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{_text(label)}">{"".join(content)}</svg>'


def _axes(low_x: float, high_x: float, low_y: float, high_y: float) -> Pieces:
    base, right = HIGH - 24, WIDE - 8
    return [
        f'<path class="axis" d="M{MARGIN} 8V{base}H{right}"/>',
        f'<text x="{MARGIN - 6}" y="14" class="end">{number(high_y)}</text>',
        f'<text x="{MARGIN - 6}" y="{base}" class="end">{number(low_y)}</text>',
        f'<text x="{MARGIN}" y="{HIGH - 8}">{number(low_x)}</text>',
        f'<text x="{right}" y="{HIGH - 8}" class="end">{number(high_x)}</text>',
    ]


def _line(points: Sequence[tuple[int, float]], straight: float | None) -> str:
    """Points joined; a dashed line across where there is one."""
    values = [value for _, value in points] + ([straight] if straight is not None else [])
    low, high, most = min(0.0, *values), max(*values, 1e-9), points[-1][0]

    def x(count: float) -> float:
        return MARGIN + (WIDE - 8 - MARGIN) * count / most

    def y(value: float) -> float:
        return HIGH - 24 - (HIGH - 32) * (value - low) / (high - low)

    path = "M" + " L".join(f"{x(count):.1f} {y(value):.1f}" for count, value in points)
    dots = [
        f'<circle class="dot" cx="{x(count):.1f}" cy="{y(value):.1f}" r="3"><title>{count}: {number(value)}</title></circle>'
        for count, value in points
    ]
    across = [f'<path class="aim" d="M{MARGIN} {y(straight):.1f}H{WIDE - 8}"/>'] if straight is not None else []
    said = ", ".join(f"{number(value)} of {count}" for count, value in points)
    return _svg([*_axes(0, most, low, high), *across, f'<path class="line" d="{path}"/>', *dots], f"FID {said} pictures")


def _bars(values: Sequence[float]) -> str:
    """A histogram."""
    low, high = math.floor(min(values)), max(math.ceil(max(values)), math.floor(min(values)) + 1)
    counts = Counter(min(BINS - 1, int((value - low) / (high - low) * BINS)) for value in values)
    most, width = max(counts.values()), (WIDE - 8 - MARGIN) / BINS
    bars = []
    for at, count in sorted(counts.items()):
        tall = (HIGH - 32) * count / most
        bars.append(
            f'<rect class="bar" x="{MARGIN + at * width:.1f}" y="{HIGH - 24 - tall:.1f}" width="{width - 1:.1f}" height="{tall:.1f}"/>'
        )
    return _svg([*_axes(low, high, 0, most), *bars], f"from {number(min(values))} to {number(max(values))}")


def _campaign(campaign: Campaign, thumb: Thumbs) -> Pieces:
    away = [f"{campaign.alone} values stand on one picture alone"] * bool(campaign.alone)
    away += [f"{campaign.untagged} pictures have no such tag"] * bool(campaign.untagged)
    pieces = [f"<section><h2>Consistency by {_text(campaign.tag)}</h2>", *(f"<p>{text}</p>" for text in away)]
    for measure in campaign.measures:
        pieces.append(f"<h3>By {measure.measure}: {number(measure.within)} within, {_text(ratio_text(measure))}</h3>")
        farthest = max((circle.distance for circle in measure.circles), default=0.0) or 1.0
        rows = [
            f'<tr><th scope="row" dir="auto">{_text(circle.name)}</th><td>{circle.count}</td><td>{number(circle.distance)}</td>'
            f'<td><meter min="0" max="1" value="{circle.distance / farthest:.3f}"></meter></td></tr>'
            for circle in measure.circles[:CIRCLES_SHOWN]
        ]
        left = len(measure.circles) - len(rows)
        more = f"<p>and {left} that differ less</p>" if left > 0 else ""
        heads = '<th scope="col">value</th><th scope="col">pictures</th><th scope="col">mean distance</th><th></th>'
        pieces.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>{more}")
        cards = [
            _card(one.picture, one.row, f"{one.group}: {number(one.distance)}, usual {number(one.usual)}", thumb)
            for one in measure.outliers[:OUTLIERS_SHOWN]
        ]
        said = f"Unlike the others of theirs: {len(measure.outliers)}" if cards else "No picture stands apart."
        pieces += [f"<p>{said}</p>", *_grid(cards)]
    return [*pieces, "</section>"]


def _lowest(found: Evaluation, thumb: Thumbs) -> Pieces:
    if not found.fits:
        return []
    cards = [_card(fit.picture, fit.row, f"{number(fit.score)}: {fit.prompt[:200]}", thumb) for fit in found.lowest]
    return ["<section><h2>Pictures that fit their prompts least</h2>", *_grid(cards), "</section>"]


def _wrong(found: Evaluation, thumb: Thumbs) -> Pieces:
    wrong = [one for one in found.judged if one.right is False]
    if not found.judged:
        return []
    cards = [_card(one.sample.name, one.sample.row, f"{one.task}: {one.reason}", thumb) for one in wrong[:WRONG_SHOWN]]
    told = sum(one.right is not None for one in found.judged)
    return [f"<section><h2>Objects: {told - len(wrong)} of {told} right</h2>", *_grid(cards), "</section>"]


def _moved(found: Evaluation, thumb: Thumbs) -> Pieces:
    """The paraphrases that moved their pictures the farthest, each beside its base."""
    if not found.moved:
        return []
    farthest = sorted((pair for pair in found.moved if pair.kind == PARAPHRASE), key=lambda pair: -pair.distance)[:MOVED_SHOWN]
    pairs = [
        f'<div class="pair">{_card(pair.base, pair.row, pair.base_prompt[:200], thumb)}'
        f"{_card(pair.picture, pair.row, f'{number(pair.distance)}: {pair.prompt[:200]}', thumb)}</div>"
        for pair in farthest
    ]
    head = "<section><h2>Paraphrases that moved their pictures the farthest, each beside its base</h2>"
    return [head, '<div class="pairs">', *pairs, "</div></section>"]


def _grid(cards: Sequence[str]) -> Pieces:
    return ['<div class="grid">', *cards, "</div>"] if cards else []


def _card(picture: str, row: str, words: str, thumb: Thumbs) -> str:
    data = thumb(picture)
    shown = (
        f'<img alt="" src="data:image/webp;base64,{base64.b64encode(data).decode()}">' if data else '<div class="missing">no picture</div>'
    )
    caption = f'<figcaption dir="auto"><b>{_text(row)}</b> {_text(words)}</figcaption>'
    return f'<figure class="card" title="{_text(picture)}">{shown}{caption}</figure>'
