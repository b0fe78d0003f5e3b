"""Puts a credential into an encoded picture file, as the last step before it is stored."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from renderfarm.credential.claim import RECORD_LABEL, SOFT_BINDING_LABEL, TOOL, Claim, timestamp
from renderfarm.credential.reader import settings
from renderfarm.errors import CredentialFailed
from renderfarm.keys import KeySet
from renderfarm.keys.certificates import algorithm_of, load_certificates
from renderfarm.keys.signing import signature_by
from renderfarm.pictures import xmp
from renderfarm.version import __version__

if TYPE_CHECKING:
    import c2pa

SOURCE_LABEL = "source"
SOURCE_TITLE = "input picture"


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
                if claim.source:
                    ingredient = {"title": SOURCE_TITLE, "relationship": "parentOf", "label": SOURCE_LABEL}
                    builder.add_ingredient(ingredient, claim.source.media_type, io.BytesIO(claim.source.data))
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
    """The credential's definition (C2PA 2.2 sections 18.11 actions and 18.10 soft binding)."""
    tool = {"name": TOOL, "version": __version__}
    when = timestamp(claim.created_us)
    agent = {**tool, "org.renderfarm.model": f"{claim.system}@{claim.system_version}"}
    if claim.source:
        opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [SOURCE_LABEL]}}
        edited = {"action": "c2pa.edited", "softwareAgent": agent, "when": when, "digitalSourceType": xmp.EDITED}
        actions = [opened, edited]
    else:
        actions = [{"action": "c2pa.created", "softwareAgent": agent, "when": when, "digitalSourceType": xmp.GENERATED}]
    assertions = [(RECORD_LABEL, _record_assertion(claim))]
    if claim.watermark_payload:
        actions.append({"action": "c2pa.watermarked.bound"})
        block = {"scope": {}, "value": claim.watermark_payload}
        assertions.append((SOFT_BINDING_LABEL, {"alg": claim.watermark_method, "blocks": [block]}))
    assertions.insert(0, ("c2pa.actions.v2", {"actions": actions}))
    return {
        "claim_generator_info": [tool],
        "format": media_type,
        "title": f"{claim.image_id}/{claim.attempt}",
        "assertions": [{"label": label, "data": content, "created": True} for label, content in assertions],
    }


def _record_assertion(claim: Claim) -> dict[str, Any]:
    return {
        "image_id": claim.image_id,
        "attempt": claim.attempt,
        "claim_digest": claim.claim_digest,
        "prompt_digest": claim.prompt_digest,
        "provider": claim.provider,
        "system": claim.system,
        "system_version": claim.system_version,
        "tool": f"{TOOL} {__version__}",
    }
