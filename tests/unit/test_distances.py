"""The formulas equal independent libraries on the same features, and the intervals hold what they say."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from renderfarm.evaluate.distances import apart, frechet, kernel, kernel_distance, neighbours, spread
from renderfarm.evaluate.intervals import GROUPS, groups_of, jackknife, wilson

RELATIVE = 1e-4


def features(count: int, size: int, seed: int, shift: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    mix = random.normal(size=(size, size)) / np.sqrt(size)
    return np.asarray((random.normal(size=(count, size)) @ mix + shift).astype(np.float32), np.float64)


SETS = [(300, 260, 16, 0.3), (60, 90, 64, 0.0), (40, 300, 64, 1.0), (500, 500, 8, 0.1)]
"""More pictures than dimensions, fewer, and one of each."""


@pytest.mark.parametrize(("made", "real", "size", "shift"), SETS)
def test_fid_and_kid_equal_torchmetrics(made: int, real: int, size: int, shift: float) -> None:
    import torch
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    a, b = features(made, size, 1), features(real, size, 2, shift)
    means = [torch.from_numpy(x.mean(axis=0)) for x in (a, b)]
    covariances = [torch.from_numpy(np.cov(x, rowvar=False)) for x in (a, b)]
    expected = float(_compute_fid(means[0], covariances[0], means[1], covariances[1]))
    assert frechet(a, b) == pytest.approx(expected, rel=RELATIVE) and frechet(b, a) == pytest.approx(expected, rel=RELATIVE)
    assert abs(frechet(a, a)) < 1e-9 * (a**2).sum()
    if made == real:  # theirs takes sets of one size
        everything = np.ones(made, bool)
        found = kernel_distance(kernel(a, a), kernel(b, b), kernel(a, b), everything, everything)
        assert found == pytest.approx(float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b))), rel=RELATIVE)


def test_kid_of_some_rows_is_kid_of_those_rows() -> None:
    a, b = features(30, 8, 1), features(40, 8, 2)
    keep_a, keep_b = np.arange(30) % 3 > 0, np.arange(40) % 4 > 0
    some = kernel_distance(kernel(a, a), kernel(b, b), kernel(a, b), keep_a, keep_b)
    a, b = a[keep_a], b[keep_b]
    alone = kernel_distance(kernel(a, a), kernel(b, b), kernel(a, b), np.ones(len(a), bool), np.ones(len(b), bool))
    assert some == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize(("made", "real", "size", "shift"), SETS)
def test_precision_recall_density_and_coverage_equal_prdc(made: int, real: int, size: int, shift: float) -> None:
    from prdc import compute_prdc

    a, b = features(made, size, 1), features(real, size, 1, shift / 3)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = compute_prdc(b, a, 5)
    found = dict(zip(("precision", "recall", "density", "coverage"), neighbours(apart(b, b), apart(a, a), apart(b, a), 5), strict=True))
    assert found == {name: pytest.approx(float(value), rel=RELATIVE) for name, value in expected.items()}


def test_spread_is_the_mean_distance_of_all_pairs() -> None:
    a = features(20, 8, 1)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    pairs = [1 - a[i] @ a[j] for i in range(20) for j in range(20) if i != j]
    assert spread(a) == pytest.approx(np.mean(pairs))
    assert spread(np.repeat(a[:1], 3, axis=0)) == pytest.approx(0, abs=1e-12)


def test_groups_are_even_and_the_same_for_all_who_ask() -> None:
    names = [f"row-{number // 4}" for number in range(100)]
    groups = groups_of(names)
    assert len(groups) == 25 and groups_of(names[::-1]) == groups
    sizes = np.bincount(list(groups.values()), minlength=GROUPS)
    assert sizes.max() - sizes.min() <= 1


def test_the_interval_of_fid_without_its_bias_holds_the_truth_and_the_bias_is_seen() -> None:
    size, count, truth, held, raw = 6, 150, 6 * 0.25, 0, []
    for seed in range(60):
        random = np.random.default_rng(seed)
        a, b = random.normal(size=(count, size)), random.normal(0.5, 1, size=(count, size))
        sets = [np.arange(count) % GROUPS, np.arange(count) % GROUPS]
        found = jackknife(lambda keep_a, keep_b, a=a, b=b: [frechet(a[keep_a], b[keep_b])], sets, [[0], [1]])
        raw.append(found.value[0])
        held += abs(found.value[0] - found.bias[0] - truth) <= found.half[0]
    assert np.mean(raw) > truth + 0.03, "few pictures make FID too large"
    assert held >= 53, "about 95 of 100"


def test_two_outputs_of_the_same_rows_lose_the_same_rows() -> None:
    random = np.random.default_rng(1)
    common = random.normal(0, 5, 200)
    a, b = common + random.normal(0, 0.1, 200), common + 0.5 + random.normal(0, 0.1, 200)
    groups = np.arange(200) % GROUPS

    def difference(keep_a: np.ndarray, keep_b: np.ndarray) -> list[float]:
        return [float(b[keep_b].mean() - a[keep_a].mean())]

    paired, apart_ = (jackknife(difference, [groups, groups], axes) for axes in ([[0, 1]], [[0], [1]]))
    assert paired.value[0] == apart_.value[0] == pytest.approx(0.5, abs=0.03)
    assert paired.half[0] < 0.05 < 0.5 < apart_.half[0]


def test_one_group_has_no_interval() -> None:
    found = jackknife(lambda keep: [1.0], [np.zeros(5, np.int64)], [[0]])
    assert found.value[0] == 1 and np.isnan(found.half[0])


def test_wilson() -> None:
    low, high = wilson(1.0, 10)
    assert (round(low, 3), round(high, 9)) == (0.722, 1.0)
    assert wilson(0.5, 0) == (0, 1)
