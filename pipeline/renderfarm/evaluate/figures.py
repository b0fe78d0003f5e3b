"""Samples → figures, each with its interval: of one set, of two against each other, against a reference.

All figures of one call come from one jackknife, so that a difference of two outputs is paired by the rows they share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from renderfarm.errors import UserError
from renderfarm.evaluate.distances import NEAREST, Bools, Rows, apart, frechet, kernel, kernel_distance, neighbours, spread
from renderfarm.evaluate.gather import SampleSet
from renderfarm.evaluate.intervals import Groups, groups_of, jackknife, wilson
from renderfarm.models.features import cosine, unit

PAIRS_MAX = 5_000
"""Pictures of a set that figures over all pairs look at: KID and neighbours."""

NAMES: dict[str, tuple[str, str]] = {
    "fid": ("FID", "lower"),
    "kid": ("KID", "lower"),
    "precision": ("precision", "higher"),
    "recall": ("recall", "higher"),
    "density": ("density", "higher"),
    "coverage": ("coverage", "higher"),
    "clip_score": ("CLIP score", "higher"),
    "diversity": ("diversity", ""),
    "row_diversity": ("diversity within a row", ""),
    "distance": ("distance of the same picture", ""),
    "geneval": ("GenEval", "higher"),
    "moved": ("distance", ""),
    "fragility": ("fragility", "lower"),
}
"""What a figure is called, and which way is better."""
_SHARES = ("precision", "recall", "coverage")
_BOUNDS = {
    "fid": (0.0, math.inf),
    "density": (0.0, math.inf),
    "clip_score": (0.0, 100.0),
    "diversity": (0.0, 2.0),
    "row_diversity": (0.0, 2.0),
}
ONE_PICTURE = "there is one picture, and a figure needs two at least"
OF_ONE, OF_OTHER, DIFFERENCE, BETWEEN = "output", "against", "difference", "between"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure and its 95 % interval, None where too few rows tell. `of`: `output`, `against`, `difference` (against − output) or
    `between` both; `count`: pictures behind it; `bias`: how much of it is due to their small number."""

    name: str
    of: str
    value: float
    low: float | None
    high: float | None
    count: int
    bias: float | None = None
    better: str = ""

    @property
    def title(self) -> str:
        """What it is called."""
        name, _, rest = self.name.partition(":")
        return NAMES.get(name, (name, ""))[0] + (", bias removed" if rest == "unbiased" else f", {rest}" if rest else "")

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class _Panel:
    """What a set's figures are computed from, so that leaving pictures out costs little."""

    def __init__(self, one: SampleSet, reference: SampleSet | None) -> None:
        assert one.features is not None
        self.rows: Rows = one.features.astype(np.float64)
        self.unit = unit(one.features)
        self.fits = None if one.words is None else 100 * np.maximum(0.0, cosine(one.features, one.words))
        names = [sample.row for sample in one.samples]
        self.row_of = np.array([list(dict.fromkeys(names)).index(name) for name in names]) if len(names) <= PAIRS_MAX else _numbered(names)
        self.several = bool((np.bincount(self.row_of) > 1).any())
        self.real: Rows | None = None
        if reference is not None:
            assert reference.features is not None
            self.real = reference.features.astype(np.float64)
            self.some, self.some_real = (_even(len(rows)) for rows in (self.rows, self.real))
            made, real = self.rows[self.some], self.real[self.some_real]
            self.kernels = kernel(made, made), kernel(real, real), kernel(made, real)
            self.apart = apart(real, real), apart(made, made), apart(real, made)

    def names(self) -> list[str]:
        """The figures, in the order of `values`."""
        against = (
            ["fid", "kid"] + (["precision", "recall", "density", "coverage"] if self._neighbours() else []) if self.real is not None else []
        )
        return against + ["clip_score"] * (self.fits is not None) + ["diversity"] + ["row_diversity"] * self.several

    def _neighbours(self) -> bool:
        return self.real is not None and min(len(self.some), len(self.some_real)) > 2 * NEAREST

    def values(self, keep: Bools, keep_real: Bools | None) -> list[float]:
        """The figures over what is left in."""
        found: list[float] = []
        if self.real is not None:
            assert keep_real is not None
            found += [_or_nan(frechet, self.rows[keep], self.real[keep_real])]
            made, real = keep[self.some], keep_real[self.some_real]
            few = min(made.sum(), real.sum())
            found += [kernel_distance(*self.kernels, made, real) if few > 1 else math.nan]
            if self._neighbours():
                within_real, within_made = self.apart[0][np.ix_(real, real)], self.apart[1][np.ix_(made, made)]
                between = self.apart[2][np.ix_(real, made)]
                found += list(neighbours(within_real, within_made, between)) if few > NEAREST else [math.nan] * 4
        if self.fits is not None:
            known = self.fits[keep]
            found.append(float(np.nanmean(known)) if np.isfinite(known).any() else math.nan)
        found.append(spread(self.unit[keep]) if keep.sum() > 1 else math.nan)
        if self.several:
            found.append(_within_rows(self.unit[keep], self.row_of[keep]))
        return found


def _or_nan(distance: Any, a: Rows, b: Rows) -> float:
    return float(distance(a, b)) if min(len(a), len(b)) > 1 else math.nan


def _numbered(names: Sequence[str]) -> Groups:
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names])


def _even(count: int) -> Groups:
    """At most PAIRS_MAX places, evenly."""
    return np.arange(count) if count <= PAIRS_MAX else np.arange(PAIRS_MAX) * count // PAIRS_MAX


def _within_rows(units: Rows, row_of: Groups) -> float:
    """Mean cosine distance of two pictures of one row, each row counted once."""
    order = np.argsort(row_of, kind="stable")
    parts = np.split(units[order], np.flatnonzero(np.diff(row_of[order])) + 1)
    spreads = [spread(part) for part in parts if len(part) > 1]
    return float(np.mean(spreads)) if spreads else math.nan


def figures_of(one: SampleSet, reference: SampleSet | None = None, other: SampleSet | None = None) -> list[Figure]:
    """Every figure that these sets give. `other`: a second output, held against the first; `reference`: what both are held against.

    Raises: UserError for a set of one picture.
    """
    for chosen in (one, reference, other):
        if chosen is not None and len(chosen.samples) < 2:
            raise UserError(ONE_PICTURE, chosen.source, "render more, or name a larger folder")
    made = [one] if other is None else [one, other]
    panels = [_Panel(chosen, reference) for chosen in made]
    names = [name for name in panels[0].names() if all(name in panel.names() for panel in panels)]
    groups = groups_of([sample.row for chosen in made for sample in chosen.samples])
    sets = [np.array([groups[sample.row] for sample in chosen.samples]) for chosen in made]
    axes = [list(range(len(made)))]
    if reference is not None:
        of_reference = groups_of([sample.row for sample in reference.samples])
        sets.append(np.array([of_reference[sample.row] for sample in reference.samples]))
        axes.append([len(made)])
    pairs = _Pairs(one, other) if other is not None else None

    def statistic(*keep: Bools) -> list[float]:
        real = keep[-1] if reference is not None else None
        values = [dict(zip(panel.names(), panel.values(mask, real), strict=True)) for panel, mask in zip(panels, keep, strict=False)]
        rows = [[each[name] for name in names] for each in values]
        found = [value for row in rows for value in row]
        if pairs is not None:
            found += [b - a for a, b in zip(*rows, strict=True)] + pairs.values(keep[0], keep[1])
        return found

    estimates = jackknife(statistic, sets, axes)
    labels = [(name, of) for of in (OF_ONE, OF_OTHER, DIFFERENCE)[: 3 if other else 1] for name in names]
    labels += [(name, BETWEEN) for name in pairs.names()] if pairs is not None else []
    figures: list[Figure] = []
    for (name, of), value, bias, half in zip(labels, estimates.value, estimates.bias, estimates.half, strict=True):
        count = {OF_ONE: len(one.samples), OF_OTHER: len(other.samples) if other else 0}.get(
            of, sum(len(chosen.samples) for chosen in made)
        )
        if not math.isnan(value):
            figures += _figure(name, of, float(value), float(bias), float(half), count)
    return figures


def _figure(name: str, of: str, value: float, bias: float, half: float, count: int) -> list[Figure]:
    better = NAMES.get(name, ("", ""))[1]
    figure = Figure(name, of, value, None, None, count, better=better)
    if not math.isnan(half):
        low, high = value - half, value + half
        if of != DIFFERENCE and name in _SHARES:
            sure = wilson(value, count)
            low, high = max(0.0, min(low, sure[0])), min(1.0, max(high, sure[1]))
        elif of != DIFFERENCE:
            least, most = _BOUNDS.get(name, (-math.inf, math.inf))
            low, high = max(least, low), min(most, high)
        figure = replace(figure, low=low, high=high)
    if not name.startswith("fid") or math.isnan(bias):
        return [figure]
    straight = value - bias
    low, high = straight - half, straight + half  # the bias is known where the interval is
    return [replace(figure, bias=bias), Figure(f"{name}:unbiased", of, straight, low, high, count, better=better)]


class _Pairs:
    """Two outputs held against each other without a reference."""

    def __init__(self, one: SampleSet, other: SampleSet) -> None:
        assert one.features is not None and other.features is not None
        self.rows = one.features.astype(np.float64), other.features.astype(np.float64)
        places = {sample.place: at for at, sample in enumerate(other.samples)}
        same = [(at, places[sample.place]) for at, sample in enumerate(one.samples) if sample.place in places]
        self.at = np.array(same, int).reshape(-1, 2)
        self.apart = 1 - cosine(one.features[self.at[:, 0]], other.features[self.at[:, 1]]) if same else np.zeros(0)

    def names(self) -> list[str]:
        """The figures, in the order of `values`."""
        return ["fid", "distance"] if len(self.at) else ["fid"]

    def values(self, keep: Bools, keep_other: Bools) -> list[float]:
        """FID of the one to the other, and how far two pictures of one place are apart."""
        found = [_or_nan(frechet, self.rows[0][keep], self.rows[1][keep_other])]
        if len(self.at):
            left = self.apart[keep[self.at[:, 0]] & keep_other[self.at[:, 1]]]
            found.append(float(left.mean()) if len(left) else math.nan)
        return found


def shared_rows(one: SampleSet, other: SampleSet) -> tuple[SampleSet, SampleSet, str]:
    """Both with the rows alone that both have, and what was left out, in words; as they are where they share fewer than two."""
    both = {sample.row for sample in one.samples} & {sample.row for sample in other.samples}
    if len(both) < 2:
        return (
            one,
            other,
            "the outputs share no rows: their difference is not a paired one" if not both else "the outputs share one row only",
        )
    kept = [chosen.of([at for at, sample in enumerate(chosen.samples) if sample.row in both]) for chosen in (one, other)]
    left = len(one.samples) + len(other.samples) - sum(len(chosen.samples) for chosen in kept)
    return kept[0], kept[1], f"{left} pictures of rows that only one output has were left out" if left else ""


def of_one_size(sets: Sequence[SampleSet]) -> None:
    """Raises: UserError where features have different sizes."""
    sizes = {chosen.source: chosen.features.shape[1] for chosen in sets if chosen.features is not None}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{source}: {size}" for source, size in sizes.items())
        raise UserError(f"features of different sizes ({said})", "--features", "use one network for all")
