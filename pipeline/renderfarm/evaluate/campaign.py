"""Consistency: how far the pictures of one product or style differ, by features and by colours, and which stand apart from theirs.

A campaign's difference is held against that of all pictures: 0 says the pictures of a group are one and the same, 1 that they differ as
much as any two pictures of different groups. A picture is an outlier where its mean distance to the others of its group is more than 3.5
robust standard deviations above what is usual in its group, by the logarithm, since distances are skewed (the modified z-score of Iglewicz
and Hoaglin, 1993; deviations pooled over the groups).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from renderfarm.errors import UserError
from renderfarm.evaluate.distances import Bools, Rows, apart
from renderfarm.evaluate.gather import SampleSet, tag_of
from renderfarm.evaluate.intervals import Groups, groups_of, jackknife
from renderfarm.models.features import unit

OUTLYING = 3.5
NORMAL = 1.4826
"""Of a normal distribution, the standard deviation in units of the median absolute deviation."""
DEVIATION_MIN = 0.05
"""A twentieth farther is nothing, however alike the others are."""
FEATURES, COLOURS = "features", "colours"
ALIKE = {FEATURES: 0.001, COLOURS: 0.5}
"""Distances below which nobody sees a difference."""
Means = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Circle:
    """The pictures of one value of the tag. `distance`: mean over its pairs."""

    name: str
    count: int
    distance: float


@dataclass(frozen=True, slots=True)
class Outlier:
    """A picture unlike the others of its group. `distance`: its mean distance to them; `usual`: the median of theirs."""

    picture: str
    row: str
    group: str
    distance: float
    usual: float
    score: float


@dataclass(frozen=True, slots=True)
class Consistency:
    """By one measure: mean distance within a group (0 groups of one picture), between groups, and their ratio with its interval."""

    measure: str
    within: float
    between: float | None
    ratio: float | None
    low: float | None
    high: float | None
    circles: tuple[Circle, ...]
    outliers: tuple[Outlier, ...]


@dataclass(frozen=True, slots=True)
class Campaign:
    """An output by one tag. `alone`: pictures that have no other of their group; `untagged`: those without the tag."""

    tag: str
    count: int
    alone: int
    untagged: int
    measures: tuple[Consistency, ...]


def consistency(one: SampleSet, tag: str) -> Campaign:
    """How far pictures that share a value of `tag` differ. Raises: UserError where no two of them do."""
    values = tag_of(one.samples, tag)
    known = [at for at, value in enumerate(values) if value is not None]
    names = [str(values[at]) for at in known]
    sizes = {name: names.count(name) for name in dict.fromkeys(names)}
    if max(sizes.values()) < 2:
        raise UserError(f"no two pictures share a value of {tag}", "--by", "name a tag that several pictures have, such as their campaign")
    chosen = one.of(known)
    number = {name: at for at, name in enumerate(sizes)}
    group = np.array([number[name] for name in names])
    spaces: list[tuple[str, Rows]] = [(COLOURS, chosen.colours)]
    if chosen.features is not None:
        spaces.insert(0, (FEATURES, unit(chosen.features)))
    alone = sum(size == 1 for size in sizes.values())
    measures = tuple(_measured(measure, rows, group, list(sizes), chosen) for measure, rows in spaces)
    return Campaign(tag, len(known), alone, len(values) - len(known), measures)


def _measured(measure: str, rows: Rows, group: Groups, names: Sequence[str], chosen: SampleSet) -> Consistency:
    means = _Means(rows, group, measure)
    row_groups = groups_of([sample.row for sample in chosen.samples])
    sets = [np.array([row_groups[sample.row] for sample in chosen.samples])]
    estimates = jackknife(means.values, sets, [[0]])
    (within, between, ratio), half = (None if math.isnan(value) else float(value) for value in estimates.value), float(estimates.half[2])
    assert within is not None
    known = ratio is not None and not math.isnan(half)
    circles = [Circle(names[at], int((group == at).sum()), distance) for at, distance in means.of_groups()]
    return Consistency(
        measure, within, between, ratio,
        max(0.0, ratio - half) if known and ratio is not None else None, ratio + half if known and ratio is not None else None,
        tuple(sorted(circles, key=lambda circle: -circle.distance)), tuple(_outliers(means, group, names, chosen)),
    )  # fmt: skip


class _Means:
    """Distances of features (cosine) or colours (Euclidean) within groups, a group at a time; between them by the mean of all."""

    def __init__(self, rows: Rows, group: Groups, measure: str) -> None:
        self.rows, self.group, self.measure = rows, group, measure
        self.members = [np.flatnonzero(group == at) for at in range(int(group.max()) + 1)]
        self.matrices = {at: self._apart(rows[places]) for at, places in enumerate(self.members) if len(places) > 1}

    def _apart(self, rows: Rows) -> Rows:
        return 1 - rows @ rows.T if self.measure == FEATURES else apart(rows, rows)

    def of_groups(self) -> list[tuple[int, float]]:
        """Mean distance of the pairs of each group that has pairs."""
        return [(at, _mean_of_pairs(matrix)) for at, matrix in self.matrices.items()]

    def values(self, keep: Bools) -> list[float]:
        """Within (each group once), between, and their ratio; NaN where there is none."""
        means = [
            _mean_of_pairs(matrix[np.ix_(left, left)]) for at, matrix in self.matrices.items() if (left := keep[self.members[at]]).sum() > 1
        ]
        within = float(np.mean(means)) if means else math.nan
        between = self._between(keep)
        return [within, between, within / between if between > 1e-12 else math.nan]

    def _between(self, keep: Bools) -> float:
        """Mean distance of pairs of different groups, of at most 2,000 pictures."""
        places = np.flatnonzero(keep)
        places = places[np.arange(min(2_000, len(places))) * len(places) // max(1, min(2_000, len(places)))]
        distances = self._apart(self.rows[places])
        others = self.group[places][:, None] != self.group[places][None]
        return float(distances[others].mean()) if others.any() else math.nan


def _mean_of_pairs(matrix: Rows) -> float:
    count = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (count * (count - 1)))


def _outliers(means: _Means, group: Groups, names: Sequence[str], chosen: SampleSet) -> list[Outlier]:
    """Surest first."""
    distances = np.full(len(group), np.nan)
    usual = np.full(len(group), np.nan)
    for at, matrix in means.matrices.items():
        own: Means = (matrix.sum(axis=1) - np.diagonal(matrix)) / (len(matrix) - 1)
        distances[means.members[at]], usual[means.members[at]] = own, np.median(own)
    pooled = [at for at, matrix in means.matrices.items() if len(matrix) > 2]  # two pictures are as far from one another
    if not pooled:
        return []
    beyond = np.log((distances + ALIKE[means.measure]) / (usual + ALIKE[means.measure]))
    deviation = NORMAL * float(np.median(np.abs(beyond[np.isin(group, pooled)])))
    scores = np.nan_to_num(beyond / max(deviation, DEVIATION_MIN), nan=-math.inf)
    places = [at for at in np.argsort(-scores, kind="stable") if scores[at] > OUTLYING]
    return [
        Outlier(
            chosen.samples[at].name, chosen.samples[at].row, names[group[at]], float(distances[at]), float(usual[at]), float(scores[at])
        )
        for at in places
    ]
