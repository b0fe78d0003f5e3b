"""X.509 for credentials: a development chain that C2PA accepts, and what is checked about a chain before it signs.

A chain is PEM, the signing certificate first, the root left out, as C2PA's section on X.509 wants it in `x5chain`.
A production chain comes from a certificate authority; nothing here talks to one. The private keys of the development
authority are thrown away once the chain exists, so nobody can issue under it later.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
from dataclasses import dataclass, field
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, PublicKeyAlgorithmOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from renderfarm.errors import KeysError

CLAIM_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
"""c2pa-kp-claimSigning, the extended key usage of C2PA 2.x. Older readers want emailProtection, so we carry both."""

SIGNING_USAGES = (CLAIM_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION)
CHAIN_LENGTH_MAX = 8
FAULTS = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    VerificationError,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises about a certificate that is malformed, or not what it should be."""

RSA_BITS_MIN = 2048
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True, slots=True)
class Chain:
    """A signing certificate and what is behind it. `chain_pem`: leaf, then intermediates; `anchor_pem`: the root."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    anchor_pem: bytes


def development_chain(leaf_life: dt.timedelta = dt.timedelta(days=730), backdated: dt.timedelta = dt.timedelta(minutes=10)) -> Chain:
    """Root → intermediate → leaf on P-256, made here, trusted by nobody until an auditor takes the root as an anchor.

    `backdated` forgives clocks that differ between the machine that made the keys and those that render.
    """
    start = dt.datetime.now(dt.UTC) - backdated
    authority_life = max(leaf_life, dt.timedelta(days=3650))
    tag = secrets.token_hex(4)  # two development sets on one machine must not look alike in a viewer
    root_key, middle_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root_name, middle_name = _name(f"Renderfarm development root {tag}"), _name(f"Renderfarm development issuer {tag}")
    root = _certificate(root_name, root_key, root_name, root_key, start, authority_life, depth=1)
    middle = _certificate(middle_name, middle_key, root_name, root_key, start, authority_life, depth=0)
    leaf_name = _name(f"Renderfarm development signer {tag}")
    leaf = _certificate(leaf_name, leaf_key, middle_name, middle_key, start, backdated + leaf_life, depth=None)
    return Chain(
        chain_pem=b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (leaf, middle)),
        key_pem=_private_pem(leaf_key),
        anchor_pem=root.public_bytes(serialization.Encoding.PEM),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Renderfarm development, not for production"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    start: dt.datetime,
    life: dt.timedelta,
    depth: int | None,
) -> x509.Certificate:
    """One certificate. `depth`: how many authorities may follow below it; None: it signs claims, not certificates."""
    authority = depth is not None
    usage = x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=depth), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(SIGNING_USAGES), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def algorithm_of(certificate: x509.Certificate) -> str:
    """The C2PA signing algorithm that fits a certificate's key. Raises: KeysError for a key that C2PA does not know."""
    with contextlib.suppress(*FAULTS):
        key = certificate.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES:
            return CURVES[key.curve.name]
        if isinstance(key, ed25519.Ed25519PublicKey):
            return "ed25519"
        if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
            return "ps256"
    raise KeysError(
        f"the signing certificate's kind of key ({certificate.public_key_algorithm_oid.dotted_string}) is not supported",
        remedy="use a certificate for P-256, P-384, P-521, Ed25519 or RSA from 2048 bits",
    )


def load_certificates(pem: bytes, where: str) -> list[x509.Certificate]:
    """All certificates of a PEM file, in order. Raises: KeysError, also for none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except FAULTS:
        raise KeysError("this is not a PEM file with certificates", where, "put -----BEGIN CERTIFICATE----- blocks in it") from None


def check_chain(chain_pem: bytes, key_pem: bytes | None, where: str, now: dt.datetime | None = None) -> None:
    """Whether this chain can sign credentials now: order, links, usage, validity, and that the key (as `pkcs8` gives it) fits.

    Raises: KeysError, naming the first thing wrong.
    """
    chain = load_certificates(chain_pem, where)
    leaf = chain[0]
    algorithm_of(leaf)
    for below, above in pairwise(chain):
        if not issued(below, above):
            raise KeysError(
                f"{below.subject.rfc4514_string()!r} was not issued by the next certificate, {above.subject.rfc4514_string()!r}",
                where,
                "order the chain: the signing certificate first, then each issuer, without the root",
            )
    if not _signs_claims(leaf):
        raise KeysError(
            "the signing certificate lacks the extended key usage that C2PA requires",
            where,
            f"ask for a certificate with {CLAIM_SIGNING.dotted_string} (c2pa-kp-claimSigning)",
        )
    now = now or dt.datetime.now(dt.UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise KeysError(
            f"the signing certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} to "
            f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M} UTC",
            where,
            "renew it, or make a new set with `renderfarm keys init` and add its trust folder to the auditor's",
        )
    if key_pem is not None and serialization.load_pem_private_key(key_pem, None).public_key() != leaf.public_key():
        raise KeysError("the private key does not belong to the signing certificate", where, "put the matching pair side by side")


def pkcs8(key_pem: bytes, where: str) -> bytes:
    """A private key as unencrypted PKCS#8 PEM, the only form that the C2PA library takes; openssl writes two others. Raises: KeysError."""
    try:
        return _private_pem(serialization.load_pem_private_key(key_pem, password=None))
    except FAULTS:
        raise KeysError("the certificate's private key is not readable", where, "store it as unencrypted PKCS#8 PEM, mode 0600") from None


def _private_pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    """Whether `above` is an authority that signed `below`; dates are not looked at."""
    try:
        below.verify_directly_issued_by(above)
        return above.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except FAULTS:
        return False


def anchored(chain: list[x509.Certificate], anchors: list[x509.Certificate], at: dt.datetime) -> bool:
    """Whether `chain` (leaf first) leads to one of `anchors` with every certificate valid at `at`, and may sign claims.

    Used only where C2PA's own verdict cannot be had: for a certificate that expired since. The path is validated by
    `cryptography.x509.verification` (RFC 5280 section 6); decision 16 says what that cannot do.
    """
    if not anchors or not 0 < len(chain) <= CHAIN_LENGTH_MAX or not _signs_claims(chain[0]):
        return False
    for below in reversed(range(len(chain))):
        if any(_issued_by_ed25519(chain[below], anchor, below, at) for anchor in anchors):
            # Nothing above it is left, so no path is longer than that authority allows.
            chain, anchors = chain[: below + 1], [*anchors, chain[below]]
    return _valid(chain, anchors, at, _SIGNER)


def _signs_claims(certificate: x509.Certificate) -> bool:
    try:
        return not set(SIGNING_USAGES).isdisjoint(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except FAULTS:
        return False


def _issued_by_ed25519(certificate: x509.Certificate, authority: x509.Certificate, below: int, at: dt.datetime) -> bool:
    """Whether an authority with an Ed25519 key may issue `certificate`, with `below` authorities between it and the leaf.

    The library refuses such authorities: signature and path length are looked at here, and the rest of it by the library.
    """
    if authority.public_key_algorithm_oid != PublicKeyAlgorithmOID.ED25519 or not issued(certificate, authority):
        return False
    limit = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return (limit is None or limit >= below) and _valid([authority], [authority], at, _ED25519_AUTHORITY)


def _valid(chain: list[x509.Certificate], anchors: list[x509.Certificate], at: dt.datetime, policy: ExtensionPolicy) -> bool:
    """What the library says of a path from the first of `chain` to an anchor. `policy`: what the first needs to be."""
    builder = PolicyBuilder().time(at).max_chain_depth(CHAIN_LENGTH_MAX).extension_policies(ca_policy=_AUTHORITY, ee_policy=policy)
    try:
        builder.store(Store(anchors)).build_client_verifier().verify(chain[0], chain[1:])
    except FAULTS:
        return False
    return True


def _issues(_: Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("its key may not sign certificates")


_AUTHORITY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _issues)
)
"""What RFC 5280 section 6.1.4 asks of an authority; path lengths and names are the library's own to look at."""

_ED25519_AUTHORITY = _AUTHORITY.require_not_present(x509.NameConstraints)

_SIGNER = (
    ExtensionPolicy.webpki_defaults_ee()
    .may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
)
"""What the library asks of a leaf, without what only hosts have; its usages are looked at before."""
