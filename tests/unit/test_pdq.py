"""PDQ: the reference's bit order, stability under what people do to pictures, and fast distances."""

from __future__ import annotations

import cv2
import numpy as np
import pdqhash
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import encode, pdq
from pipeline.pdq import Pixels

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


def drawn(seed: int, height: int = 256, width: int = 256) -> Pixels:
    """Soft blobs: uint8 (height, width, 3)."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def test_the_bits_are_in_the_reference_s_order() -> None:
    """ThreatExchange prints word 15 first, each word's highest bit first; bit k is set where coefficient k exceeds the median."""
    image = drawn(1)
    coefficients, _ = pdqhash.compute_float(image)
    values = np.asarray(coefficients)[::-1]  # the binding returns them from the last to the first
    above = values > np.median(values)
    words = [sum(int(above[16 * word + bit]) << bit for bit in range(16)) for word in range(16)]
    assert pdq.pdq(image)[0] == "".join(f"{word:04x}" for word in reversed(words))


def test_copies_stay_near_and_others_far() -> None:
    image = drawn(2, 600, 400)
    digest, quality = pdq.pdq(image)
    assert quality >= pdq.QUALITY_MIN
    jpeg = encode.decode(encode.encode(image, "image/jpeg", quality=75))
    half = np.asarray(cv2.resize(image, (200, 300), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    for copy in (jpeg, half):
        assert pdq.distance(digest, pdq.pdq(copy)[0]) <= pdq.NEAR
    others = [pdq.distance(digest, pdq.pdq(drawn(seed, 600, 400))[0]) for seed in range(10, 20)]
    assert min(others) > 2 * pdq.NEAR


def test_the_eight_forms_find_every_turn_and_mirror() -> None:
    image = drawn(3)
    forms = pdq.pdq_dihedral(image)
    assert len(set(forms)) == 8 and forms[0] == pdq.pdq(image)[0]
    for turns in range(4):
        for mirror in (False, True):
            turned = np.rot90(image, turns)
            copy = np.ascontiguousarray(turned[:, ::-1] if mirror else turned)
            assert min(pdq.distance(form, pdq.pdq(copy)[0]) for form in forms) <= pdq.NEAR


def test_flat_and_tiny_pictures_have_no_quality() -> None:
    assert pdq.pdq(np.full((64, 64, 3), 120, np.uint8))[1] == 0
    assert pdq.pdq(np.zeros((3, 900, 3), np.uint8)) == ("0" * 64, 0)
    assert pdq.pdq(drawn(1, 5, 5))[0] != "", "the smallest that the reference hashes"


def test_views_and_large_pictures_are_hashed_like_their_copies() -> None:
    image = drawn(4, 1024, 768)
    assert pdq.pdq(image[:, ::-1]) == pdq.pdq(np.ascontiguousarray(image[:, ::-1]))
    assert pdq.distance(pdq.pdq(image)[0], pdq.pdq(drawn(4, 512, 512))[0]) <= pdq.NEAR


@given(HEX, HEX)
def test_distance_is_a_metric_on_bits(a: str, b: str) -> None:
    assert pdq.distance(a, b) == pdq.distance(b, a) == bin(int(a, 16) ^ int(b, 16)).count("1")
    assert pdq.distance(a, a) == 0


@given(st.lists(HEX, min_size=1, max_size=8), st.lists(HEX, min_size=1, max_size=20))
def test_many_distances_agree_with_single_ones(queries: list[str], hashes: list[str]) -> None:
    found = pdq.distances(pdq.packed(queries), pdq.packed(hashes))
    assert found.tolist() == [min(pdq.distance(query, text) for query in queries) for text in hashes]


def test_what_is_no_hash_is_refused() -> None:
    for wrong in ("", "0" * 63, "g" * 64):
        with pytest.raises(ValueError):
            pdq.distance(wrong, "0" * 64)
        with pytest.raises(ValueError):
            pdq.packed([wrong])
