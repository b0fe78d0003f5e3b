"""PDQ: the reference's bit order, and stability under what people do to pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from renderfarm.pictures import Pixels, decode, encode, pdq


def distance(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def drawn(seed: int, height: int = 256, width: int = 256) -> Pixels:
    """Soft blobs: uint8 (height, width, 3)."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


REFERENCE = [
    (1, 256, 256, "d3c568d3df4556f52c51d2d16f0522d655a9452910f6152e331e570dfc4760f3", 100),
    (2, 512, 300, "bf8bbf93ff6abb30370a2332356b752d7743ab92b654546da870025824686319", 100),
    (3, 64, 64, "30ce72c374cc75c7b6eaae42d648ed214248225e613711bdeb91f78f4709e64b", 100),
    (4, 100, 37, "975f38400e0f7476be3efcee1a5f25253e1ed2da3d20cf912930e11a3e4392c2", 100),
    (5, 5, 5, "318cc4f1ce733b0e3c0fce73348d318ccb72c4f1318c84e1ce733b0e3c8dce73", 67),
    (6, 480, 512, "7cea3824ed6def8711207d04edeaa8762808cf89eb9520fb3a9eff00446d28f6", 100),
]
"""(seed, height, width, hash, quality), made by pdqhash 0.2.8, the binding of facebook/ThreatExchange's code."""


@pytest.mark.parametrize(("seed", "height", "width", "digest", "quality"), REFERENCE)
def test_the_reference_s_hashes_are_met_bit_for_bit(seed: int, height: int, width: int, digest: str, quality: int) -> None:
    assert pdq.hash_of(drawn(seed, height, width)) == (digest, quality)


def test_copies_stay_near_and_others_far() -> None:
    image = drawn(2, 600, 400)
    digest, quality = pdq.hash_of(image)
    assert quality >= pdq.QUALITY_MIN
    jpeg = decode(encode(image, "image/jpeg", quality=75))
    half = np.asarray(cv2.resize(image, (200, 300), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    for copy in (jpeg, half):
        assert distance(digest, pdq.hash_of(copy)[0]) <= pdq.NEAR
    others = [distance(digest, pdq.hash_of(drawn(seed, 600, 400))[0]) for seed in range(10, 20)]
    assert min(others) > 2 * pdq.NEAR


def test_the_eight_forms_find_every_turn_and_mirror() -> None:
    image = drawn(3)
    forms = (pdq.hash_of(image)[0], *pdq.hashes_of_other_forms(image))
    assert len(set(forms)) == 8
    for turns in range(4):
        for mirror in (False, True):
            turned = np.rot90(image, turns)
            copy = np.ascontiguousarray(turned[:, ::-1] if mirror else turned)
            assert min(distance(form, pdq.hash_of(copy)[0]) for form in forms) <= pdq.NEAR


def test_flat_and_tiny_pictures_have_no_quality() -> None:
    assert pdq.hash_of(np.full((64, 64, 3), 120, np.uint8))[1] == 0
    assert pdq.hash_of(np.zeros((3, 900, 3), np.uint8)) == ("0" * 64, 0)
    assert pdq.hash_of(drawn(1, 5, 5))[0] != "", "the smallest that the reference hashes"


def test_views_and_large_pictures_are_hashed_like_their_copies() -> None:
    image = drawn(4, 1024, 768)
    assert pdq.hash_of(image[:, ::-1]) == pdq.hash_of(np.ascontiguousarray(image[:, ::-1]))
    assert distance(pdq.hash_of(image)[0], pdq.hash_of(drawn(4, 512, 512))[0]) <= pdq.NEAR


@pytest.mark.parametrize(("height", "width"), [(256, 256), (300, 512), (64, 64), (64, 120), (100, 300)])
def test_the_forms_of_a_picture_are_near_the_hashes_of_its_forms_at_any_size(height: int, width: int) -> None:
    for seed in range(8):
        image = drawn(seed, height, width)
        true = [pdq.hash_of(form)[0] for form in pdq.eight_forms(image)]
        assert max(map(distance, true[1:], pdq.hashes_of_other_forms(image))) <= pdq.NEAR
        derived = np.bitwise_count(pdq.forms_of_hash(true[0]) ^ pdq.packed(true)).sum(axis=1)
        assert derived[0] == 0 and derived.max() < 80, "unrelated hashes differ in 128 bits, give or take 8"


def test_what_is_no_hash_is_refused() -> None:
    for wrong in ("", "0" * 63, "g" * 64):
        with pytest.raises(ValueError):
            pdq.packed([wrong])
