"""The error correction: the code's parameters, its linearity and distance, and what its decoder repairs."""

from __future__ import annotations

import numpy as np

from renderfarm.watermark import code


def test_the_generator_is_systematic_and_of_distance_22() -> None:
    matrix = code.generator()
    assert matrix.shape == (64, 128)
    assert np.array_equal(matrix[:, :64], np.eye(64, dtype=np.uint8))
    rng = np.random.default_rng(1)
    words = rng.integers(0, 2, (20_000, 64))
    words[:2016] = 0
    pairs = np.array(np.triu_indices(64, 1)).T
    words[np.arange(2016)[:, None], pairs] = 1
    weights = (words @ matrix % 2).sum(1)
    assert weights[weights > 0].min() >= 22
    assert not (weights % 2).any(), "the parity bit makes every weight even"


def test_a_codeword_carries_its_word_first() -> None:
    word = bytes(range(8))
    assert np.packbits(code.encode(word)[:64]).tobytes() == word


def test_decodes_ten_hard_errors_and_gaussian_noise() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        sent = code.encode(rng.bytes(8))
        soft = (1.0 - 2.0 * sent).astype(np.float32)
        broken = soft * rng.uniform(0.5, 1.5, 128).astype(np.float32)
        broken[rng.choice(128, 10, replace=False)] *= -0.4
        noisy = (soft + 0.6 * rng.standard_normal(128)).astype(np.float32)
        for received in (broken, noisy):
            best = max(code.candidates(received, 3), key=lambda c: float((received * (1.0 - 2.0 * c)).sum()))
            assert np.array_equal(best, sent)


def test_candidates_are_codewords() -> None:
    rng = np.random.default_rng(3)
    for found in code.candidates(rng.standard_normal(128).astype(np.float32), 3):
        assert np.array_equal(code.encode(np.packbits(found[:64]).tobytes()), found)
