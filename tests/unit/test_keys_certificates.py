"""Chains of certificates: which may sign, and which lead to an anchor."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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


NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
ROOT, MIDDLE, LOW, LEAF, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(5))
EDWARDS = [ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in range(4)]


def issue(
    key: Key,
    by: Key,
    *extra: tuple[x509.ExtensionType, bool],
    authority: bool | None = True,
    below: int | None = None,
    usages: Sequence[x509.ObjectIdentifier] = (),
    key_usage: bool | None = None,
    days: tuple[int, int] = (-10, 10),
    padding: PSS | None = None,
    called: Key | None = None,
) -> x509.Certificate:
    """A certificate for `key`, signed by `by`, named after their keys. authority None: without basic constraints; key_usage: whether it
    may sign certificates, None: as an authority may; days: its validity, seen from NOW; called: named as this key's owner."""

    def name(of: Key) -> x509.Name:
        public = of.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hashlib.sha256(public).hexdigest()[:8])])

    start, end = (NOW + dt.timedelta(days=day) for day in days)
    builder = x509.CertificateBuilder(name(by), name(called or key), key.public_key(), x509.random_serial_number(), start, end)
    signs = bool(authority) if key_usage is None else key_usage
    builder = builder.add_extension(x509.KeyUsage(not authority, False, False, False, False, signs, signs, False, False), critical=True)
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(authority, below), critical=True)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    return builder.sign(by, None if isinstance(by, ed25519.Ed25519PrivateKey) else hashes.SHA256(), rsa_padding=padding)


def signer(key: Key, by: Key, *extra: tuple[x509.ExtensionType, bool], **differences: Any) -> x509.Certificate:
    return issue(key, by, *extra, **({"authority": False, "usages": [certificates.CLAIM_SIGNING]} | differences))


def three(*keys: Key, **differences: Any) -> tuple[list[x509.Certificate], x509.Certificate]:
    """A chain of leaf and intermediate, and its root, all made alike."""
    root, middle, leaf = keys
    return [signer(leaf, middle, **differences), issue(middle, root, **differences)], issue(root, root, **differences)


def edited(certificate: x509.Certificate, old: str, new: str) -> bytes:
    """Its DER with the first of some bytes replaced; both in hex."""
    return certificate.public_bytes(serialization.Encoding.DER).replace(bytes.fromhex(old), bytes.fromhex(new), 1)


def forged(certificate: x509.Certificate) -> x509.Certificate:
    """The same with one bit of its signature flipped."""
    der = bytearray(certificate.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_certificate(bytes(der))


UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
POLICY = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)])
MAIL = x509.SubjectAlternativeName([x509.RFC822Name("pictures@acme.example")]), False


def names(*permitted: x509.GeneralName) -> tuple[x509.NameConstraints, bool]:
    return x509.NameConstraints(permitted, None), True


root, middle, leaf = issue(ROOT, ROOT, below=1), issue(MIDDLE, ROOT, below=0), signer(LEAF, MIDDLE)
low = issue(LOW, MIDDLE)
ed_root, ed_middle, ed_low = issue(EDWARDS[0], EDWARDS[0], below=1), issue(EDWARDS[1], EDWARDS[0]), issue(EDWARDS[2], EDWARDS[1])
ed_leaf = signer(EDWARDS[3], EDWARDS[1])
STRANGE = x509.load_der_x509_certificate(edited(root, "2a8648ce3d0201", "2a8648ce3d0209"))  # the key's algorithm
RSA_KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(3)]
RSA, PSS_32 = three(*RSA_KEYS), three(*RSA_KEYS, padding=PSS(MGF1(hashes.SHA256()), 32))
P384 = three(*(ec.generate_private_key(ec.SECP384R1()) for _ in range(3)))
P521 = three(*(ec.generate_private_key(ec.SECP521R1()) for _ in range(3)))

HOLDS: dict[str, tuple[list[x509.Certificate], list[x509.Certificate]]] = {
    "good": ([leaf, middle], [root]),
    "the root is in it": ([leaf, middle, root], [root]),
    "one anchor of several": ([leaf, middle], [issue(OTHER, OTHER), root]),
    "one anchor of an unknown kind": ([leaf, middle], [STRANGE, root]),
    "an intermediate is the anchor": ([leaf], [middle]),
    "the leaf is the anchor": ([leaf, middle], [leaf]),
    "the older usage": ([signer(LEAF, MIDDLE, usages=[ExtendedKeyUsageOID.EMAIL_PROTECTION]), middle], [root]),
    "one usage of several": ([signer(LEAF, MIDDLE, usages=[ExtendedKeyUsageOID.SERVER_AUTH, certificates.CLAIM_SIGNING]), middle], [root]),
    "a leaf without basic constraints": ([signer(LEAF, MIDDLE, authority=None), middle], [root]),
    "names that are permitted": ([signer(LEAF, MIDDLE, MAIL), issue(MIDDLE, ROOT, names(x509.RFC822Name("acme.example")))], [root]),
    "RSA": (RSA[0], [RSA[1]]),
    "PS256": (PSS_32[0], [PSS_32[1]]),
    "ES384's curve": (P384[0], [P384[1]]),
    "ES512's curve": (P521[0], [P521[1]]),
    "an Ed25519 leaf": ([signer(EDWARDS[3], MIDDLE), middle], [root]),
    "all Ed25519": ([ed_leaf, ed_middle], [ed_root]),
    "all Ed25519 with its root": ([ed_leaf, ed_middle, ed_root], [ed_root]),
    "an Ed25519 root alone": ([signer(LEAF, MIDDLE), issue(MIDDLE, EDWARDS[0])], [ed_root]),
}

FAILS: dict[str, tuple[list[x509.Certificate], list[x509.Certificate]]] = {
    "nothing": ([], [root]),
    "no anchor": ([leaf, middle], []),
    "another anchor": ([leaf, middle], [issue(OTHER, OTHER)]),
    "another anchor of the same name": ([leaf, middle], [issue(OTHER, OTHER, called=ROOT)]),
    "a missing intermediate": ([leaf], [root]),
    "wrong signature": ([forged(leaf), middle], [root]),
    "an intermediate's wrong signature": ([leaf, forged(middle)], [root]),
    "an anchor of an unknown kind": ([leaf, middle], [STRANGE]),
    "an extension twice": ([x509.load_der_x509_certificate(edited(leaf, "0603551d0f", "0603551d13")), middle], [root]),
    "the leaf expired": ([signer(LEAF, MIDDLE, days=(-10, -1)), middle], [root]),
    "an intermediate expired": ([leaf, issue(MIDDLE, ROOT, days=(-10, -1))], [root]),
    "the root expired": ([leaf, middle], [issue(ROOT, ROOT, days=(-10, -1))]),
    "the leaf is not yet valid": ([signer(LEAF, MIDDLE, days=(1, 10)), middle], [root]),
    "an intermediate is not yet valid": ([leaf, issue(MIDDLE, ROOT, days=(1, 10))], [root]),
    "wrong usage": ([signer(LEAF, MIDDLE, usages=[ExtendedKeyUsageOID.SERVER_AUTH]), middle], [root]),
    "any usage": ([signer(LEAF, MIDDLE, usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), middle], [root]),
    "no usage": ([signer(LEAF, MIDDLE, usages=()), middle], [root]),
    "an authority as the leaf": ([signer(LEAF, MIDDLE, authority=True), middle], [root]),
    "an intermediate that is no authority": ([leaf, issue(MIDDLE, ROOT, authority=False)], [root]),
    "an intermediate that does not say": ([leaf, issue(MIDDLE, ROOT, authority=None)], [root]),
    "an intermediate that may not sign certificates": ([leaf, issue(MIDDLE, ROOT, key_usage=False)], [root]),
    "the root's path length": ([leaf, middle], [issue(ROOT, ROOT, below=0)]),
    "an intermediate's path length": ([signer(LEAF, LOW), low, middle], [root]),
    "names that are not permitted": ([signer(LEAF, MIDDLE, MAIL), issue(MIDDLE, ROOT, names(x509.RFC822Name("b.example")))], [root]),
    "a critical extension of the leaf": ([signer(LEAF, MIDDLE, UNKNOWN), middle], [root]),
    "a critical extension of an intermediate": ([leaf, issue(MIDDLE, ROOT, UNKNOWN)], [root]),
    "a critical extension of the root": ([leaf, middle], [issue(ROOT, ROOT, UNKNOWN)]),
    "a circle that would take six million signatures": ([leaf, *(issue(MIDDLE, MIDDLE) for _ in range(7))], [root]),
    "too long": ([leaf, *[middle] * certificates.CHAIN_LENGTH_MAX], [root]),
    "Ed25519: another anchor": ([ed_leaf, ed_middle], [issue(EDWARDS[2], EDWARDS[2], called=EDWARDS[0])]),
    "Ed25519: wrong signature": ([forged(ed_leaf), ed_middle], [ed_root]),
    "Ed25519: the root expired": ([ed_leaf, ed_middle], [issue(EDWARDS[0], EDWARDS[0], days=(-10, -1))]),
    "Ed25519: an intermediate expired": ([ed_leaf, issue(EDWARDS[1], EDWARDS[0], days=(-10, -1))], [ed_root]),
    "Ed25519: no authority": ([ed_leaf, issue(EDWARDS[1], EDWARDS[0], authority=False)], [ed_root]),
    "Ed25519: may not sign certificates": ([ed_leaf, issue(EDWARDS[1], EDWARDS[0], key_usage=False)], [ed_root]),
    "Ed25519: the root's path length": ([signer(LEAF, EDWARDS[2]), ed_low, ed_middle], [ed_root]),
    "Ed25519: the root's path length, out of order": (
        [signer(LEAF, LOW), issue(EDWARDS[1], EDWARDS[0]), issue(LOW, EDWARDS[1])], [issue(EDWARDS[0], EDWARDS[0], below=1)],
    ),
    "Ed25519: names": ([ed_leaf, ed_middle], [issue(EDWARDS[0], EDWARDS[0], names(x509.RFC822Name("acme.example")))]),
    "Ed25519: a critical extension": ([ed_leaf, issue(EDWARDS[1], EDWARDS[0], UNKNOWN)], [ed_root]),
    # What RFC 5280 allows and the library cannot do (decision 16): refused, not believed.
    "critical policies": ([signer(LEAF, MIDDLE, (POLICY, True)), middle], [root]),
    "directory names": ([leaf, issue(MIDDLE, ROOT, names(x509.DirectoryName(leaf.subject)))], [root]),
    "Ed25519 under another kind of key": ([ed_leaf, issue(EDWARDS[1], ROOT)], [root]),
    "PSS with another salt": (lambda chain: (chain[0], [chain[1]]))(three(*RSA_KEYS, padding=PSS(MGF1(hashes.SHA256()), 20))),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLDS)
def test_chains_that_lead_to_an_anchor(name: str) -> None:
    chain, anchors = HOLDS[name]
    assert certificates.anchored(chain, anchors, NOW)
    assert not certificates.anchored(chain, anchors, NOW + dt.timedelta(days=11)), "at no other time"
    assert not certificates.anchored(chain, anchors, NOW - dt.timedelta(days=11))


@pytest.mark.parametrize("name", FAILS)
def test_chains_that_lead_to_none(name: str) -> None:
    assert not certificates.anchored(*FAILS[name], NOW)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256K1()), rsa.generate_private_key(65537, 1024)])
def test_a_key_that_c2pa_does_not_know_is_refused(key: Key) -> None:
    for certificate in (signer(key, MIDDLE), STRANGE):
        with pytest.raises(KeysError, match=r"kind of key .* is not supported"):
            certificates.check_chain(certificate.public_bytes(serialization.Encoding.PEM), None, "here", NOW)


def test_a_certificate_of_no_known_version_is_no_certificate() -> None:
    der = edited(root, "a003020102", "a00302010a")
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(KeysError, match="not a PEM file with certificates"):
        certificates.load_certificates(pem, "here")
