"""Puts a credential into an encoded picture file, as the last step before it is stored."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from renderfarm.credential.claim import RECORD_LABEL, SOFT_BINDING_LABEL, TOOL, Claim, Ingredient, timestamp
from renderfarm.credential.reader import settings
from renderfarm.errors import CredentialFailed
from renderfarm.keys import KeySet
from renderfarm.keys.certificates import algorithm_of, load_certificates
from renderfarm.keys.signing import signature_by
from renderfarm.pictures import xmp
from renderfarm.version import __version__

if TYPE_CHECKING:
    import c2pa

SPEC_VERSION = "2.4.0"
"""Of the C2PA specification that what is written here keeps to."""
DISCLOSURE_LABEL, METADATA_LABEL = "c2pa.ai-disclosure", "cawg.metadata"
PARENT = "init"
"""The role of the picture that was drawn over; the others went into the computation, and none of their pixels came out."""


@dataclass(frozen=True, slots=True)
class RemoteKey:
    """A private key that stays where it is: a PKCS#11 token, a KMS, an agent on the machine.

    `sign` takes the bytes to sign and hashes them itself (CKM_ECDSA_SHA256, `kms sign --message-type RAW`). It
    returns the signature as DER or as r||s for ECDSA, 64 bytes for Ed25519, and raises whatever it likes. It is
    called once a picture, from the thread that issues. The library reserves 10 kB for a signature that it cannot
    foresee, so such a credential takes 14 kB instead of 4.
    """

    certificate_chain_pem: bytes
    sign: Callable[[bytes], bytes]


class Issuer:
    """Signs credentials. Build one in each process: the library's objects survive neither fork nor pickle."""

    def __init__(self, keys: KeySet, remote: RemoteKey | None = None) -> None:
        """Signs as the key set says: with its key, its command, and its time stamp authority. `remote` goes before key and chain.

        Raises: CredentialFailed when the library refuses key or chain.
        """
        import c2pa

        self._process = os.getpid()
        self._trouble: list[Exception] = []
        if remote is None and keys.sign_command:
            remote = RemoteKey(keys.certificate_chain_pem, partial(signature_by, keys.sign_command))
        try:
            self._context = c2pa.Context.from_dict(settings(None))
            self._signer = self._remote_signer(remote, keys.time_stamp_url) if remote else _file_signer(keys)
        except c2pa.C2paError as error:
            raise CredentialFailed(f"the signing key or chain is refused: {error}") from error

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Issuer is built in the process that uses it; send the folder of the key set instead")

    def issue(self, data: bytes, media_type: str, claim: Claim) -> bytes:
        """The same picture file with a credential in it, the pixels untouched. Signing twice gives different bytes.

        Raises: CredentialFailed when the file is malformed or the key does not sign.
        """
        import c2pa

        assert self._process == os.getpid(), "an Issuer was carried into another process"
        signed = io.BytesIO()
        try:
            with c2pa.Builder(_definition(media_type, claim), self._context) as builder:
                for at, given in enumerate(claim.ingredients):
                    if given.data is None:
                        continue
                    try:
                        builder.add_ingredient(_ingredient(at, given), given.media_type, io.BytesIO(given.data))
                    except c2pa.C2paError:  # its own credential is malformed: the picture is named without it
                        named = (*claim.ingredients[:at], dataclasses.replace(given, data=None), *claim.ingredients[at + 1 :])
                        return self.issue(data, media_type, dataclasses.replace(claim, ingredients=named))
                builder.sign(self._signer, media_type, io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            cause = self._trouble.pop() if self._trouble else error  # the library says only that the signature is invalid
            about = f"image {claim.image_id}, attempt {claim.attempt}"
            raise CredentialFailed(f"no credential for {about}: {cause}") from cause
        return signed.getvalue()

    def _remote_signer(self, remote: RemoteKey, time_stamp_url: str | None) -> c2pa.Signer:
        import c2pa

        def sign(data: bytes) -> bytes:
            try:
                return remote.sign(data)
            except Exception as error:  # whatever a token or its driver raises; `issue` raises it again
                self._trouble.append(error)
                return b""

        leaf = load_certificates(remote.certificate_chain_pem, "the remote key's chain")[0]
        algorithm = c2pa.C2paSigningAlg[algorithm_of(leaf).upper()]
        return c2pa.Signer.from_callback(sign, algorithm, remote.certificate_chain_pem.decode(), time_stamp_url)


def _file_signer(keys: KeySet) -> c2pa.Signer:
    import c2pa

    leaf = load_certificates(keys.certificate_chain_pem, str(keys.folder))[0]
    return c2pa.Signer.from_info(
        c2pa.C2paSignerInfo(algorithm_of(leaf), keys.certificate_chain_pem, keys.certificate_key_pem, keys.time_stamp_url)
    )


def _definition(media_type: str, claim: Claim) -> dict[str, Any]:
    """The credential's definition (C2PA 2.4: actions, ingredients, soft binding, AI disclosure; CAWG metadata 1.1)."""
    tool = {"name": TOOL, "version": __version__}
    assertions = [
        ("c2pa.actions.v2", {"actions": _actions(claim), "allActionsIncluded": True}),
        (RECORD_LABEL, _record_assertion(claim)),
        (DISCLOSURE_LABEL, _disclosure(claim)),
    ]
    if claim.watermark_payload:
        block = {"scope": {}, "value": claim.watermark_payload}
        assertions.append((SOFT_BINDING_LABEL, {"alg": claim.watermark_method, "blocks": [block]}))
    created = [{"label": label, "data": content, "created": True} for label, content in assertions]
    return {
        "claim_generator_info": [{**tool, "specVersion": SPEC_VERSION}],
        "format": media_type,
        "title": f"{claim.image_id}/{claim.attempt}",
        "ingredients": [
            {**_ingredient(at, given), "format": given.media_type} for at, given in enumerate(claim.ingredients) if given.data is None
        ],
        "assertions": [*created, {"label": METADATA_LABEL, "data": _metadata(claim)}],
    }


def _actions(claim: Claim) -> list[dict[str, Any]]:
    """How the picture came about, in order: made from nothing, or opened and drawn over; then marked."""
    tool = {"name": TOOL, "version": __version__, "org.renderfarm.model": f"{claim.system}@{claim.system_version}"}
    drawn = {"softwareAgent": tool, "when": timestamp(claim.created_us), "digitalSourceType": claim.source_type}
    parents = [_label(at, given) for at, given in enumerate(claim.ingredients) if given.role == PARENT]
    guides = [_label(at, given) for at, given in enumerate(claim.ingredients) if given.role != PARENT]
    went_in = {"parameters": {"ingredientIds": guides}} if guides else {}
    made = {"action": "c2pa.edited" if parents else "c2pa.created", **drawn, **went_in}
    opened = [{"action": "c2pa.opened", "parameters": {"ingredientIds": parents}}] if parents else []
    return [*opened, made, *([{"action": "c2pa.watermarked.bound"}] if claim.watermark_payload else [])]


def _ingredient(at: int, given: Ingredient) -> dict[str, Any]:
    relationship = "parentOf" if given.role == PARENT else "inputTo"
    return {"title": f"input picture ({given.role})", "relationship": relationship, "label": _label(at, given)}


def _label(at: int, given: Ingredient) -> str:
    return f"{given.role}.{at}"


def _disclosure(claim: Claim) -> dict[str, Any]:
    """C2PA 2.4, AI disclosure: nobody had looked at the picture when it was signed; a person's word later stands in the log."""
    named = {"modelType": "c2pa.types.model", "modelName": claim.system, "modelIdentifier": claim.weights_digest or claim.system_version}
    return {**named, "contentProfile": {"humanOversightLevel": "prompt_guided"}}


def _metadata(claim: Claim) -> dict[str, Any]:
    """What the picture's XMP says, where the signature covers it: IPTC 2025.1."""
    return {
        "@context": {"Iptc4xmpExt": xmp.NAMESPACES["Iptc4xmpExt"], "photoshop": xmp.NAMESPACES["photoshop"]},
        "Iptc4xmpExt:DigitalSourceType": claim.source_type,
        "Iptc4xmpExt:AISystemUsed": claim.system,
        "Iptc4xmpExt:AISystemVersionUsed": claim.system_version,
        "photoshop:Credit": claim.provider,
    }


def _record_assertion(claim: Claim) -> dict[str, Any]:
    went_in = {"inputs": [{"role": given.role, "sha256": given.digest} for given in claim.ingredients]} if claim.ingredients else {}
    return {
        "image_id": claim.image_id,
        "attempt": claim.attempt,
        "claim_digest": claim.claim_digest,
        "prompt_digest": claim.prompt_digest,
        "provider": claim.provider,
        "system": claim.system,
        "system_version": claim.system_version,
        "tool": f"{TOOL} {__version__}",
        **went_in,
    }
