"""The index of hashes: what it finds is what comparing every hash finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from renderfarm.pictures.hamming import HammingIndex, distances
from renderfarm.pictures.pdq import packed

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


@pytest.mark.parametrize("radius", [0, 16, 31, 40])
def test_the_index_finds_exactly_what_looking_at_every_hash_finds(radius: int) -> None:
    rng = np.random.default_rng(radius)
    base = rng.integers(0, 2**64, (9000, 4), dtype=np.uint64)
    near = base.copy()
    for _ in range(45):  # up to 45 bits away
        at = rng.integers(0, 4, len(near))
        flips = np.uint64(1) << rng.integers(0, 64, len(near)).astype(np.uint64)
        near[np.arange(len(near)), at] ^= np.where(rng.random(len(near)) < 0.6, flips, np.uint64(0))
    index = HammingIndex()
    index.extend(base)
    index.extend(near)
    index.extend(base[17:18])
    index.extend(base[:0])
    assert len(index) == 18001
    for nth in (0, 17, 4000):
        forms = np.stack([base[nth], near[nth + 1]])
        want = distances(np.concatenate([base, near, base[17:18]]), forms)
        places, gaps = index.search(forms, radius)
        assert places.tolist() == np.flatnonzero((want <= radius).any(axis=1)).tolist()
        assert np.array_equal(gaps, want[places])
        words = np.bitwise_count(np.concatenate([base, near, base[17:18]]).view(np.uint16) ^ forms[:1].view(np.uint16)).min(axis=1)
        places, gaps = index.search(forms, radius, 76)
        assert places.tolist() == np.flatnonzero((want <= radius).any(axis=1) | ((want[:, 0] <= 76) & (words <= 1))).tolist()
        assert np.array_equal(gaps, want[places])


@given(st.lists(HEX, min_size=1, max_size=8), st.lists(HEX, min_size=1, max_size=20))
def test_distances_count_the_bits_in_which_two_hashes_differ(queries: list[str], hashes: list[str]) -> None:
    found = distances(packed(hashes), packed(queries))
    assert found.tolist() == [[(int(a, 16) ^ int(b, 16)).bit_count() for b in queries] for a in hashes]
