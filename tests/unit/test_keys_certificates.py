"""Chains of certificates: which may sign, and which lead to an anchor."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from renderfarm.errors import KeysError
from renderfarm.keys import certificates


def test_a_chain_in_the_wrong_order_or_without_usage_or_expired_is_refused() -> None:
    chain = certificates.development_chain()
    leaf, issuer = x509.load_pem_x509_certificates(chain.chain_pem)
    pem = serialization.Encoding.PEM
    with pytest.raises(KeysError, match="was not issued by the next"):
        certificates.check_chain(issuer.public_bytes(pem) + leaf.public_bytes(pem), None, "here")
    with pytest.raises(KeysError, match="lacks the extended key usage"):
        certificates.check_chain(issuer.public_bytes(pem), None, "here")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=1000)
    with pytest.raises(KeysError, match="is valid from"):
        certificates.check_chain(chain.chain_pem, chain.key_pem, "here", now=later)
    certificates.check_chain(chain.chain_pem, chain.key_pem, "here")


def test_anchoring_needs_links_dates_and_authorities() -> None:
    first, second = certificates.development_chain(), certificates.development_chain()
    now = dt.datetime.now(dt.UTC)

    def load(pem: bytes) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(pem)

    leaf, issuer = load(first.chain_pem)
    other_leaf, _ = load(second.chain_pem)
    (root,) = load(first.anchor_pem)
    assert certificates.anchored([leaf, issuer], [root], now)
    assert certificates.anchored([leaf, issuer, root], [root], now)
    assert certificates.anchored([leaf], [issuer], now), "an intermediate may be an anchor"
    assert not certificates.anchored([leaf], [root], now), "the issuer is missing"
    assert not certificates.anchored([other_leaf, issuer], [root], now), "the issuer did not sign this leaf"
    assert not certificates.anchored([leaf, issuer], load(second.anchor_pem), now)
    assert not certificates.anchored([issuer], [root], now), "an authority signs no claims"
    assert not certificates.anchored([leaf, issuer], [leaf], now + dt.timedelta(days=1000))
    assert not certificates.anchored([leaf, issuer], [root], now + dt.timedelta(days=1000))
    assert not certificates.anchored([], [root], now)
