"""Formulas over features: how far two sets of pictures are apart, and how different one set is in itself. Pure, float64.

Features are float (N, size), a row a picture. Each formula is that of its paper, held against an independent library in the tests.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]
"""float64 (N, size)."""
Bools = npt.NDArray[np.bool_]

NEAREST = 5
"""Neighbours that span a manifold: 5 as in Naeem et al., 2020 (density and coverage); Kynkäänniemi et al., 2019, have 3."""


def frechet(a: Rows, b: Rows) -> float:
    """The Fréchet distance of two Gaussians with the sets' means and covariances (FID: Heusel et al., 2017).

    The trace of the root of a product of covariances is the nuclear norm of the product of any of their square roots; so nothing is lost
    to a root of a nearly singular matrix, and few pictures cost little. At least two rows each.
    """
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    root_a, root_b = _root(a - mean_a), _root(b - mean_b)
    shared = float(np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum())
    distance = float(((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * shared)
    return max(0.0, distance)  # of equal sets it is 0 but for rounding


def _root(centred: Rows) -> Rows:
    """R with R'R the covariance, of as few rows as there are."""
    scaled = centred / np.sqrt(len(centred) - 1)
    root: Rows = scaled if len(scaled) <= scaled.shape[1] else np.asarray(np.linalg.qr(scaled, mode="r"))
    return root


def kernel(a: Rows, b: Rows) -> Rows:
    """The polynomial kernel of KID, (x·y / size + 1)³ (Bińkowski et al., 2018): (N, M)."""
    cubed: Rows = (a @ b.T / a.shape[1] + 1) ** 3
    return cubed


def kernel_distance(within_a: Rows, within_b: Rows, between: Rows, a: Bools, b: Bools) -> float:
    """KID: the unbiased squared maximum mean discrepancy, over all chosen rows at once. Kernels (N, N), (M, M), (N, M)."""
    count_a, count_b = int(a.sum()), int(b.sum())
    own = sum(
        (float(a_or_b @ within @ a_or_b) - float(np.diagonal(within) @ a_or_b)) / (count * (count - 1))
        for within, a_or_b, count in ((within_a, a.astype(float), count_a), (within_b, b.astype(float), count_b))
    )
    return own - 2 * float(a.astype(float) @ between @ b.astype(float)) / (count_a * count_b)


def apart(a: Rows, b: Rows) -> Rows:
    """Euclidean distances (N, M)."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    distances: Rows = np.sqrt(np.maximum(squares, 0))
    return distances


def neighbours(within_real: Rows, within_made: Rows, between: Rows, nearest: int = NEAREST) -> tuple[float, float, float, float]:
    """Precision, recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et al., 2020).

    Distances (R, R), (M, M) and (R, M), of more than `nearest` rows each.
    """
    radius_real, radius_made = _radius(within_real, nearest), _radius(within_made, nearest)
    inside = between < radius_real[:, None]
    precision, density = inside.any(axis=0).mean(), inside.sum(axis=0).mean() / nearest
    recall = (between < radius_made[None]).any(axis=1).mean()
    coverage = (between.min(axis=1) < radius_real).mean()
    return float(precision), float(recall), float(density), float(coverage)


def _radius(within: Rows, nearest: int) -> npt.NDArray[np.float64]:
    """How far the `nearest`-th other row is from each; the row itself is at 0."""
    radius: npt.NDArray[np.float64] = np.partition(within, nearest, axis=1)[:, nearest]
    return radius


def spread(units: Rows) -> float:
    """Mean cosine distance, 0..2, of all pairs of different rows; `units` have length 1. At least two rows."""
    count = len(units)
    return max(0.0, float(1 - ((units.sum(axis=0) ** 2).sum() - (units**2).sum()) / (count * (count - 1))))
