"""An estimate with its bias and its 95 % interval, by leaving out one group of pictures after the other.

The delete-a-group jackknife (Shao and Tu, 1995, chapter 2): pictures of one row of a manifest are not independent, so a row is in one group
whole; two outputs of the same rows lose the same rows together, which makes their difference a paired one. It also tells the bias that a
figure of order 1/n has (FID's: Chong and Forsyth, 2020). Shares are never said to be surer than Wilson's interval of as many pictures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GROUPS = 10
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5 % for 1 to 9 degrees of freedom."""
Z = 1.959964
Values = npt.NDArray[np.float64]
Chosen = npt.NDArray[np.bool_]
Groups = npt.NDArray[np.int64]
Statistic = Callable[..., Sequence[float]]
"""Of one bool (N,) a set, which say what is left in: the figures."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Several figures of the same sets. `bias`: of the value, by the jackknife; `half`: half the interval's width, NaN where none."""

    value: Values
    bias: Values
    half: Values


def groups_of(names: Sequence[Hashable]) -> dict[Hashable, int]:
    """A group for each different name: as many in each, and the same ones whoever asks."""
    ordered = sorted(dict.fromkeys(names), key=lambda name: hashlib.sha256(repr(name).encode("utf-8", "surrogatepass")).digest())
    return {name: place % GROUPS for place, name in enumerate(ordered)}


def jackknife(statistic: Statistic, sets: Sequence[Groups], together: Sequence[Sequence[int]]) -> Estimates:
    """Figures of some sets. `sets`: the group of each picture; `together`: which sets lose a group at once, each set in one of them.

    An axis of one group has no interval, so there is none at all.
    """
    everything = [np.ones(len(groups), bool) for groups in sets]
    value = np.asarray(statistic(*everything), float)
    variance, bias, freedom = np.zeros_like(value), np.zeros_like(value), GROUPS
    for axis in together:
        present = sorted({int(group) for place in axis for group in sets[place]})
        if len(present) < 2:
            return Estimates(value, np.full_like(value, math.nan), np.full_like(value, math.nan))
        left = [[all_of if place not in axis else sets[place] != group for place, all_of in enumerate(everything)] for group in present]
        without = np.array([statistic(*chosen) for chosen in left], float)
        count = len(present)
        variance += (count - 1) / count * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
        bias += (count - 1) * (without.mean(axis=0) - value)
        freedom = min(freedom, count - 1)
    return Estimates(value, bias, _T[min(freedom, len(_T)) - 1] * np.sqrt(variance))


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a share of so many (Wilson, 1927)."""
    if count <= 0:
        return 0.0, 1.0
    centre, scale = share + Z * Z / (2 * count), 1 + Z * Z / count
    half = Z * math.sqrt(max(0.0, share * (1 - share) / count + Z * Z / (4 * count * count)))
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
