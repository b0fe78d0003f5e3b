"""The credential: what a picture file says about itself, signed (C2PA). Writes it, reads it, judges it.

An `Issuer` puts it into an encoded file as the last step before storing; `read` gets it back and says how far it is
to be believed. No network is used in either direction, except a time stamp authority that a user named. What a
credential holds:

- `c2pa.actions.v2`: created by a model (`trainedAlgorithmicMedia`), or opened and edited by one (`compositeWithTrainedAlgorithmicMedia`, as
  in its XMP); what guided it; that a mark was put in
- `c2pa.ingredient.v3`: each picture that went in, with its own credential: `parentOf` what was drawn over, `inputTo` what guided
- `c2pa.ai-disclosure`, `cawg.metadata`: the model by name and digest; what the XMP says, where the signature covers it
- `c2pa.soft-binding`: the watermark's payload, so that a copy without credential leads back here
- `org.renderfarm.record`: image id, attempt, the digest of the log's record, provider, model, a *salted* hash of the prompt

The prompt itself is not in it. The hash's salt is the row's, which lies beside the log, as the image id's does: whoever has the output's
values can check the hash, and nobody else can test guesses against it. In outputs that began before record version 4 the salt is derived
from the watermark's secret and the image id, and the image id itself has none: whoever knows all else that it covers can test a guess.

Measured on one core at 512²: 4.3 kB and 2 to 4 ms a picture, against 130 kB and 60 ms with the library's defaults,
which add a thumbnail and verify what was just signed.
"""

from renderfarm.credential.claim import Claim, CredentialFinding, Ingredient, State, claim_for, prompt_digest, salted_prompt_digest, xmp_for
from renderfarm.credential.issuer import Issuer, RemoteKey
from renderfarm.credential.reader import read

__all__ = [
    "Claim",
    "CredentialFinding",
    "Ingredient",
    "Issuer",
    "RemoteKey",
    "State",
    "claim_for",
    "prompt_digest",
    "read",
    "salted_prompt_digest",
    "xmp_for",
]
