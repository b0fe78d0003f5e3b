"""Fingerprints: light and colour in a signature, and forms that lie in one order everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from renderfarm.pictures import Fingerprint, fingerprint, pdq
from renderfarm.pictures.fingerprints import forms_of_signature, planes_of, signature
from tests.pictures import drawn


def test_a_fingerprint_is_the_hash_the_signature_and_the_hashes_of_all_forms() -> None:
    image = drawn(200, 300)
    digest, quality = pdq.hash_of(image)
    assert fingerprint(image) == Fingerprint(digest, quality, signature(image), (digest, *pdq.hashes_of_other_forms(image)))
    assert fingerprint(image[:, ::-1]) == fingerprint(np.ascontiguousarray(image[:, ::-1]))


def test_a_signature_holds_light_and_colour_and_refuses_another_length() -> None:
    light, colour = planes_of(signature(np.full((40, 30, 3), 255, np.uint8)))
    assert light.shape == (16, 16) and set(light.ravel().tolist()) == {255} and set(colour.ravel().tolist()) == {128}
    with pytest.raises(ValueError, match="384 bytes"):
        planes_of("AAAA")


def test_the_forms_of_a_signature_are_the_signatures_of_the_forms() -> None:
    image = drawn(128, 128)
    for form, (light, colour) in zip(pdq.eight_forms(image), forms_of_signature(signature(image)), strict=True):
        wanted_light, wanted_colour = planes_of(signature(form))
        assert np.abs(light - wanted_light).max() <= 1 and np.abs(colour - wanted_colour).max() <= 1
