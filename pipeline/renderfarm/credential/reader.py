"""Reads a credential and judges it. Believes the anchors it is given and nothing else; opens no connection."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from renderfarm.credential.claim import RECORD_LABEL, SOFT_BINDING_LABEL, CredentialFinding, State
from renderfarm.credential.jumbf import signing_chain
from renderfarm.errors import CredentialFailed
from renderfarm.keys.certificates import CLAIM_SIGNING, anchored, load_certificates

if TYPE_CHECKING:
    import c2pa

USAGES = f"1.3.6.1.5.5.7.3.4\n1.3.6.1.5.5.7.3.8\n{CLAIM_SIGNING.dotted_string}\n"
"""Extended key usages that are accepted under an anchor: emailProtection, timeStamping, c2pa-kp-claimSigning."""

UNTRUSTED, EXPIRED = "signingCredential.untrusted", "signingCredential.expired"
"""The two codes of C2PA's validation (2.2 section 15) that leave the file intact; every other failure is an
alteration."""

EXPIRY = {EXPIRED, "claimSignature.outsideValidity"}
TEXT_MAX, ACTIONS_MAX = 300, 100


def read(data: bytes, media_type: str, anchors_pem: bytes | None, at: dt.datetime | None = None) -> CredentialFinding:
    """What the credential in a picture file says, and how far it is to be believed.

    media_type: a hint; what the bytes themselves show goes before it. anchors_pem: root certificates, none or
    empty: nothing can be more than `untrusted`. at: when the signed log says that the picture was finished; a
    certificate that expired since is judged at that time, or, where it is not known, by the chain alone. Raises:
    CredentialFailed when the anchors are no certificates.
    """
    import c2pa

    context = _context(os.getpid(), anchors_pem or b"")
    try:
        with c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader:
            state = reader.get_validation_state()
            label = (reader.get_active_manifest() or {}).get("label")
            store = json.loads(reader.crjson())
            results = reader.get_validation_results() or {}
    except c2pa.C2paError.ManifestNotFound:
        return CredentialFinding("absent", "the file holds no credential")
    except c2pa.C2paError.NotSupported:
        return CredentialFinding("absent", f"{media_type} files carry no credential that is read here")
    except (c2pa.C2paError, KeyError, ValueError) as error:  # KeyError: a store without its active manifest
        return CredentialFinding("invalid", f"cannot be parsed: {_short(error)}")
    manifest: dict[str, Any] = next((item for item in store.get("manifests", []) if item.get("label") == label), {})
    failures = [item for item in results.get("activeManifest", {}).get("failure", []) if isinstance(item, dict)]
    validity = _validity(manifest)
    verdict, reason = _judge(str(state), failures)
    if verdict == "expired":
        chain = signing_chain(data, str(label))
        verdict, reason = _judge_expired(chain, anchors_pem, validity, at)
    sources = [item for item in store.get("manifests", []) if item.get("label") != label]
    finding = _finding(verdict, reason, manifest, validity)
    return dataclasses.replace(finding, source_claim_digest=next(filter(None, map(_claim_digest, sources)), None))


def settings(anchors_pem: bytes | None) -> dict[str, Any]:
    """The library's settings, each said, because its defaults fetch from the network and add a thumbnail."""
    trust = {"trust_config": USAGES}
    if anchors_pem:
        trust["trust_anchors"] = anchors_pem.decode("ascii", "replace")
    return {
        "version": 1,
        "trust": trust,
        "verify": {
            "verify_after_reading": True,
            "verify_after_sign": False,
            "verify_trust": True,
            "verify_timestamp_trust": True,
            "ocsp_fetch": False,
            "remote_manifest_fetch": False,
        },
        "builder": {"thumbnail": {"enabled": False}},
    }


@lru_cache(maxsize=8)
def _context(process: int, anchors_pem: bytes) -> c2pa.Context:
    """The library's context for these anchors. `process` keeps a forked child from using its parent's."""
    import c2pa

    try:
        return c2pa.Context.from_dict(settings(anchors_pem))
    except c2pa.C2paError as error:
        raise CredentialFailed(f"the trusted root certificates cannot be used: {_short(error)}") from error


def _judge(state: str, failures: list[dict[str, Any]]) -> tuple[State, str]:
    """The library's verdict in our words. A failure that is neither about trust nor about expiry outweighs both."""
    for failure in failures:
        if failure.get("code") not in EXPIRY | {UNTRUSTED}:
            return "invalid", f"{failure.get('code')}: {_short(failure.get('explanation', ''))}"
    codes = {str(failure.get("code")) for failure in failures}
    if codes & EXPIRY:
        return "expired", ""
    if state == "Trusted" and not codes:
        return "trusted", ""
    if state == "Valid" or codes == {UNTRUSTED}:
        return "untrusted", "signed under a root certificate that is not among the trusted ones"
    return "invalid", "a picture that it builds on does not validate"


def _judge_expired(
    chain: list[Any], anchors_pem: bytes | None, validity: tuple[int, int] | None, at: dt.datetime | None
) -> tuple[State, str]:
    """The library calls every expired certificate untrusted as well, so whether its chain led to an anchor is
    looked up here."""
    if not anchors_pem or not chain or validity is None:
        return "untrusted", "the certificate expired, and its chain leads to no trusted root certificate"
    valid_until = dt.datetime.fromtimestamp(validity[1] / 1e6, dt.UTC)
    expired = f"the certificate expired on {valid_until:%Y-%m-%d %H:%M} UTC"
    if anchored(chain, load_certificates(anchors_pem, "the trust folder"), at or valid_until):
        return "expired", f"{expired} and was good until then; no trusted time stamp says when it signed"
    when = f"on {at:%Y-%m-%d %H:%M} UTC" if at else "before that"
    return "untrusted", f"{expired}, and {when} it led to no trusted root certificate either"


def _finding(state: State, reason: str, manifest: dict[str, Any], validity: tuple[int, int] | None) -> CredentialFinding:
    """The claim's fields where they have the form that we write; a file that says something else says nothing."""
    fields = _assertion(manifest, RECORD_LABEL)
    attempt = fields.get("attempt")
    subject = manifest.get("signature", {}).get("certificateInfo", {}).get("subject", {})
    return CredentialFinding(
        state,
        reason,
        claim_digest=_claim_digest(manifest),
        image_id=_matching(fields.get("image_id"), r"[0-9a-f]{32}"),
        attempt=attempt if isinstance(attempt, int) and not isinstance(attempt, bool) and 0 < attempt < 2**31 else None,
        prompt_digest=_matching(fields.get("prompt_digest"), r"[0-9a-f]{64}"),
        watermark_payload=_matching(_first_value(_assertion(manifest, SOFT_BINDING_LABEL)), r"[0-9a-f]{1,64}"),
        source_types=_source_types(manifest),
        signer=_short(subject["CN"]) if isinstance(subject, dict) and subject.get("CN") else None,
        valid_from_us=validity[0] if validity else None,
        valid_until_us=validity[1] if validity else None,
    )


def _validity(manifest: dict[str, Any]) -> tuple[int, int] | None:
    """Microseconds since 1970 from which and until which the signing certificate is valid."""
    try:
        dates = manifest["signature"]["certificateInfo"]["validity"]
        first, last = (dt.datetime.fromisoformat(dates[name]) for name in ("notBefore", "notAfter"))
        return int(first.timestamp() * 1e6), int(last.timestamp() * 1e6)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _assertion(manifest: dict[str, Any], label: str) -> dict[str, Any]:
    assertions = manifest.get("assertions")
    found = assertions.get(label) if isinstance(assertions, dict) else None
    return found if isinstance(found, dict) else {}


def _source_types(manifest: dict[str, Any]) -> tuple[str, ...]:
    stated = [_assertion(manifest, label).get("actions") for label in ("c2pa.actions.v2", "c2pa.actions")]
    actions = [action for one in stated if isinstance(one, list) for action in one[:ACTIONS_MAX] if isinstance(action, dict)]
    found = [_matching(action.get("digitalSourceType"), r"https?://[\w./-]{1,100}/[A-Za-z]{1,40}") for action in actions]
    return tuple(dict.fromkeys(one.rpartition("/")[2] for one in found if one))


def _claim_digest(manifest: dict[str, Any]) -> str | None:
    return _matching(_assertion(manifest, RECORD_LABEL).get("claim_digest"), r"[0-9a-f]{64}")


def _first_value(binding: dict[str, Any]) -> object:
    blocks = binding.get("blocks")
    return blocks[0].get("value") if isinstance(blocks, list) and blocks and isinstance(blocks[0], dict) else None


def _matching(value: object, pattern: str) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(pattern, value) else None


def _short(text: object) -> str:
    """A part of it, on one line."""
    return " ".join(str(text)[:TEXT_MAX].split())
