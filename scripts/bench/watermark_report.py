"""What the rows of `watermark.py` say together: rates with intervals, the fitted tail, a Markdown table, an SVG plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from renderfarm.watermark import detect, front, search
from scripts.bench.watermark_attacks import ATTACKS, CURVES

Row = dict[str, Any]
KEYS_A_PICTURE = 500


def tail(rows: Sequence[Row]) -> dict[str, float]:
    """The fitted tail of the synchronisation statistic z over all shifts, in nats z^2 / 2.

    The bound of `detect` supposes that it falls at least as exp(-nats). `bound_fitted` is that bound with the fitted
    slope in its place, over all hypotheses and words of a search, at the threshold that the reader uses.
    """
    nats = np.sort([z * z / 2 for row in rows for z in row["tops"]])
    nats = nats[-max(2, len(rows) * KEYS_A_PICTURE // 100) :]
    slope = 1 / float(np.mean(nats - nats[0]))
    need = detect.threshold(front.PLANES * (2 + search.HYPOTHESES), 1)  # t - ln(1 + t) of the sum t of both statistics
    total = need
    for _ in range(20):
        total = need + np.log1p(total)
    bound = detect.FALSE_ALARM * float(np.exp(need + np.log1p(slope * total) - slope * total))
    top = float(np.sqrt(2 * nats[-1]))
    return {"pairs": len(rows) * KEYS_A_PICTURE, "sync_max": top, "tail_slope": slope, "bound": detect.FALSE_ALARM, "bound_fitted": bound}


def interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate."""
    z, p = 1.96, hits / count
    middle, half = p + z * z / (2 * count), z * np.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return float((middle - half) / (1 + z * z / count)), float((middle + half) / (1 + z * z / count))


def merged(rows: Sequence[Row]) -> dict[str, Any]:
    """Rates over the rows of `beside`."""
    table = {}
    for name in rows[0]:
        mine = [row[name] for row in rows if name in row]
        table[name] = {
            "pictures": len(mine),
            "psnr": float(np.mean([row["psnr"] for row in mine])),
            "hits": {attack: float(np.mean([row["hits"][attack] for row in mine])) for attack in ATTACKS},
            "curves": {line: np.mean([row["curves"][line] for row in mine], 0).tolist() for line in CURVES},
        }
    return table


COLOURS = {"ours": "#06c", "dwtDct": "#c33", "dwtDctSvd": "#e90", "rivaGan": "#393", "blind-watermark": "#939"}


def plot(table: dict[str, Any]) -> str:
    """An SVG of small charts: exact-read rate against strength, a line a method."""
    cells = []
    for index, (name, (strengths, _)) in enumerate(CURVES.items()):
        x0, y0 = 50 + index % 3 * 260, 50 + index // 3 * 190
        xs = [x0 + 200 * i / (len(strengths) - 1) for i in range(len(strengths))]
        ticks = "".join(f'<text x="{x:.0f}" y="{y0 + 136}" text-anchor="middle">{s:g}</text>' for x, s in zip(xs, strengths, strict=True))
        cells.append(
            f'<text x="{x0}" y="{y0 - 10}" font-weight="bold">{name}</text>{ticks}'
            f'<path d="M{x0},{y0} V{y0 + 120} H{x0 + 200}" fill="none" stroke="#999"/>'
            f'<text x="{x0 - 6}" y="{y0 + 5}" text-anchor="end">1</text><text x="{x0 - 6}" y="{y0 + 124}" text-anchor="end">0</text>'
        )
        for method, row in reversed(table.items()):
            points = " ".join(f"{x:.0f},{y0 + 120 * (1 - rate):.1f}" for x, rate in zip(xs, row["curves"][name], strict=True))
            width = 3 if method == "ours" else 1.5
            cells.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[method]}" stroke-width="{width}"/>')
    legend = "".join(f'<text x="{50 + 130 * i}" y="20" fill="{COLOURS[m]}" font-weight="bold">{m}</text>' for i, m in enumerate(table))
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="820" height="410" font-family="sans-serif" font-size="11">'
    return head + '<rect width="100%" height="100%" fill="#fff"/>' + legend + "".join(cells) + "</svg>\n"


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    others, lines = result.get("beside", {}), []
    if "robustness" in result or others:
        lines += [
            "| attack | bar | exact reads | 95 % | short side >= 384 | generated | "
            + " | ".join(f"{o}, 512 ({row['pictures']})" for o, row in others.items())
            + " |"
        ]
        lines += ["|---" * (6 + len(others)) + "|"]
    for name, (bar, _) in ATTACKS.items() if lines else ():
        row = result.get("robustness", {}).get(name)
        own = f"{row['rate']:.3f} of {row['n']} | {row['low']:.3f} to {row['high']:.3f} | {row['rate_384']:.3f} | " if row else "| | | "
        own += f"{row['generated_read']} of {row['generated']}" if row else ""
        lines.append(f"| {name} | {bar:.2f} | {own} | " + " | ".join(f"{o['hits'][name]:.2f}" for o in others.values()) + " |")
    if others:
        lines.append("| PSNR, dB | 41 | | | | | " + " | ".join(f"{o['psnr']:.1f}" for o in others.values()) + " |")
    for part in ("quality", "flat", "null", "pairs", "averaging", "speed"):
        if part in result:
            lines += ["", f"**{part}**: " + "; ".join(f"{k} {v:.4g}" for k, v in result[part].items())]
    return "\n".join(lines) + "\n"


def summary(part: str, rows: list[Row]) -> dict[str, Any]:
    """What the rows of one part say together."""
    if part == "robustness":
        out: dict[str, Any] = {}
        for name, (bar, _) in ATTACKS.items():
            hits = np.array([row["hits"][name] for row in rows])
            large, made = np.array([row["side"] >= 384 for row in rows]), np.array([row["kind"] == "generated" for row in rows])
            low, high = interval(int(hits.sum()), len(hits))
            rates = {"rate": float(hits.mean()), "low": low, "high": high, "rate_384": float(hits[large].mean())}
            rates |= {"generated": int(made.sum()), "generated_read": int(hits[made].sum())}
            out[name] = {"bar": bar, "n": len(hits), **rates}
        return out
    if part == "flat":
        return {"reads": 2 * len(rows), "rate": float(np.mean([list(row["hits"].values()) for row in rows]))}
    if part == "quality":
        scores = np.array([(row["psnr"], row["ssim"]) for row in rows])
        (p_min, s_min), (p_mean, s_mean) = scores.min(0).tolist(), scores.mean(0).tolist()
        return {"pictures": len(rows), "psnr_min": p_min, "psnr_mean": p_mean, "ssim_min": s_min, "ssim_mean": s_mean}
    if part == "null":
        found = sum(row["found"] for row in rows)
        kinds = {what: sum(row["what"] == what for row in rows) for what in sorted({row["what"] for row in rows})}
        return {"searches": len(rows), "found": found, "bound": detect.FALSE_ALARM, "rate_below": 3 / len(rows), **kinds}
    return tail(rows) if part == "pairs" else merged(rows)
