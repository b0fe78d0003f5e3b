"""The credential: what it says, what it weighs, and that every tamper is called what it is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import json
import pickle
import re
import struct
import sys
import time
import zlib
from pathlib import Path

import c2pa
import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from renderfarm import credential, keys
from renderfarm.credential import Claim, Ingredient, Issuer, RemoteKey, claim_for, prompt_digest, read, xmp_for
from renderfarm.credential.jumbf import signing_chain
from renderfarm.errors import CredentialFailed
from renderfarm.keys import KeySet, certificates, files
from renderfarm.pictures import EXTENSIONS, Pixels, decode, encode, xmp
from renderfarm.schema import Input, Record
from renderfarm.watermark.types import MarkKey
from tests import rubric
from tests.waiting import wait_until

TYPES = sorted(EXTENSIONS)
PROMPT = "a secret product, number 7"
RECORD = Record(
    kind="attempt", image_id="ab" * 16, attempt=2, salt="5a" * 16, prompt=PROMPT, weights="org/model", weights_revision="rev1",
    weights_digest="sha256:77", outcome="accepted",
    watermark_method="renderfarm-tile", watermark_version=1, watermark_payload="00000abcdef",
    finished_us=1_790_000_000_000_000,
)  # fmt: skip


def drawn() -> Pixels:
    """uint8 (64, 80, 3)"""
    return np.random.default_rng(1).integers(0, 255, (64, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def key_set(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    return keys.init(tmp_path_factory.mktemp("keys") / "set")


@pytest.fixture(scope="module")
def anchors(key_set: KeySet) -> bytes:
    return key_set.trust().anchors_pem


@pytest.fixture(scope="module")
def claim(key_set: KeySet) -> Claim:
    return claim_for(RECORD, "cd" * 32, "ACME <&>", key_set.mark_key)


@pytest.fixture(scope="module")
def bare() -> dict[str, bytes]:
    return {kind: encode(drawn(), kind, xmp=xmp_for(RECORD, "ACME")) for kind in TYPES}


@pytest.fixture(scope="module")
def signed(key_set: KeySet, claim: Claim, bare: dict[str, bytes]) -> dict[str, bytes]:
    issuer = Issuer(key_set)
    return {kind: issuer.issue(data, kind, claim) for kind, data in bare.items()}


def store_of(data: bytes, media_type: str) -> dict[str, object]:
    """The active manifest as the library's own reader shows it."""
    with c2pa.Reader(media_type, io.BytesIO(data)) as reader:
        manifest: dict[str, object] = json.loads(reader.crjson())["manifests"][0]
    return manifest


@pytest.mark.parametrize("kind", TYPES)
def test_it_is_trusted_small_and_leaves_the_pixels_alone(
    kind: str, signed: dict[str, bytes], bare: dict[str, bytes], anchors: bytes, claim: Claim
) -> None:
    finding = read(signed[kind], kind, anchors)
    assert (finding.state, finding.reason) == ("trusted", "")
    assert (finding.image_id, finding.attempt, finding.claim_digest) == (claim.image_id, 2, claim.claim_digest)
    assert (finding.prompt_digest, finding.watermark_payload) == (claim.prompt_digest, "00000abcdef")
    assert finding.signer and finding.signer.startswith("Renderfarm development signer")
    assert finding.valid_from_us and finding.valid_until_us and finding.valid_from_us < time.time() * 1e6 < finding.valid_until_us
    assert len(signed[kind]) - len(bare[kind]) < 6000, "the issue allows 6 kB"
    assert np.array_equal(decode(signed[kind]), decode(bare[kind]))
    assert xmp.read(signed[kind]) == xmp.read(bare[kind]) is not None


@pytest.mark.parametrize("kind", TYPES)
def test_it_says_what_the_law_asks_and_not_the_prompt(kind: str, signed: dict[str, bytes], claim: Claim) -> None:
    manifest = store_of(signed[kind], kind)
    assertions = manifest["assertions"]
    assert isinstance(assertions, dict)
    created, marked = assertions["c2pa.actions.v2"]["actions"]
    assert created["action"] == "c2pa.created" and created["digitalSourceType"] == xmp.GENERATED
    assert created["softwareAgent"]["name"] == "renderfarm"
    assert created["softwareAgent"]["org.renderfarm.model"] == "org/model@rev1"
    assert created["when"] == "2026-09-21T14:13:20Z"
    assert marked == {"action": "c2pa.watermarked.bound"}
    binding = assertions["c2pa.soft-binding"]
    assert binding["alg"] == "org.renderfarm.renderfarm-tile.1" and binding["blocks"][0]["value"] == "00000abcdef"
    record = assertions["org.renderfarm.record"]
    assert (record["provider"], record["system"], record["system_version"]) == ("ACME <&>", "org/model", "rev1")
    assert PROMPT.encode() not in signed[kind] and b"secret" not in signed[kind]


def test_a_picture_without_mark_claims_none(key_set: KeySet, anchors: bytes, bare: dict[str, bytes]) -> None:
    unmarked = dataclasses.replace(RECORD, watermark_payload=None, watermark_method=None, watermark_version=None)
    claim = claim_for(unmarked, "cd" * 32, "ACME", key_set.mark_key)
    data = Issuer(key_set).issue(bare["image/png"], "image/png", claim)
    assertions = store_of(data, "image/png")["assertions"]
    assert isinstance(assertions, dict) and "c2pa.soft-binding" not in assertions
    assert [action["action"] for action in assertions["c2pa.actions.v2"]["actions"]] == ["c2pa.created"]
    assert read(data, "image/png", anchors).watermark_payload is None


def test_the_prompt_hash_is_salted_per_image_and_key() -> None:
    first, second = MarkKey.from_bytes(b"1" * 32), MarkKey.from_bytes(b"2" * 32)
    digests = {
        prompt_digest("p", "a", first),
        prompt_digest("p", "b", first),
        prompt_digest("p", "a", second),
        prompt_digest("q", "a", first),
    }
    assert len(digests) == 4
    assert prompt_digest("p", "a", first) == prompt_digest("p", "a", first)


def test_a_new_outputs_prompt_hash_is_salted_with_its_row_and_a_forgotten_row_gets_none() -> None:
    key = MarkKey.from_bytes(b"1" * 32)
    made = claim_for(RECORD, "cd" * 32, "ACME", key)
    assert made.prompt_digest == hashlib.sha256(b"renderfarm prompt/1\n" + bytes.fromhex("5a" * 16) + PROMPT.encode()).hexdigest()
    assert claim_for(dataclasses.replace(RECORD, version=3, salt=None), "cd" * 32, "ACME", key).prompt_digest == prompt_digest(
        PROMPT, RECORD.image_id or "", key
    )
    with pytest.raises(ValueError, match="forgotten"):
        claim_for(dataclasses.replace(RECORD, salt=None), "cd" * 32, "ACME", key)


def test_a_picture_that_began_with_another_says_so() -> None:
    for record, edited in (
        (RECORD, False),
        (dataclasses.replace(RECORD, inputs=(Input("init", "ab" * 32, "a.png"),)), True),
        (dataclasses.replace(RECORD, inputs=(Input("control", "ab" * 32, "a.png"),)), False),
        (dataclasses.replace(RECORD, version=3, init_image="a.png", init_digest="ab" * 32), True),
    ):
        assert (xmp.EDITED.encode() in xmp_for(record, "ACME")) == edited


@pytest.mark.parametrize("kind", TYPES)
def test_without_anchors_or_with_others_it_is_untrusted_not_trusted(kind: str, signed: dict[str, bytes]) -> None:
    other = certificates.development_chain().anchor_pem
    for given_anchors in (None, b"", other):
        finding = read(signed[kind], kind, given_anchors)
        assert finding.state == "untrusted" and "not among the trusted" in finding.reason
        assert finding.image_id == RECORD.image_id, "still a lead"


@pytest.mark.parametrize("kind", TYPES)
def test_the_bytes_decide_what_a_file_is_not_its_name(kind: str, signed: dict[str, bytes], anchors: bytes) -> None:
    findings = [read(signed[kind], claimed, anchors) for claimed in TYPES]
    assert findings[0].state == "trusted" and len(set(findings)) == 1


@pytest.mark.parametrize("kind", TYPES)
def test_a_file_without_one_is_absent(kind: str, bare: dict[str, bytes], anchors: bytes) -> None:
    assert read(bare[kind], kind, anchors).state == "absent"


def test_a_format_that_carries_none_is_absent(anchors: bytes) -> None:
    assert read(b"BM", "image/bmp", anchors).state == "absent"


@pytest.mark.parametrize("kind", TYPES)
def test_every_flipped_byte_is_seen(kind: str, signed: dict[str, bytes], anchors: bytes) -> None:
    """Pixels, XMP, assertions, claim, certificates, signature: 150 places over the whole file, and every one in the container's own head.
    What may differ without harm, since no hash covers it: the padding behind the signature, and the names and kinds of boxes."""
    data = signed[kind]
    unread = [*re.finditer(rb".{4}jumb.{4}jumd.{17}[^\0]*\0", data, re.DOTALL), *re.finditer(rb"cpadY..\0{900,}", data, re.DOTALL)]
    loose = {place for found in unread for place in range(*found.span())} | {data.find(b"C2PA") + at for at in range(8)}
    assert len(unread) > 8 and len(loose) < 2500
    for place in {*range(0, len(data), max(1, len(data) // 150)), *range(24)}:
        forged = bytearray(data)
        forged[place] ^= 0x10
        finding = read(bytes(forged), kind, anchors)
        if finding.state == "trusted":
            assert place in loose, f"byte {place} of {len(data)}"
            continue
        assert finding.state in ("invalid", "absent", "untrusted"), (place, finding)
        assert finding.reason


TAMPERS = {
    "claim digest": (b"cd" * 32, b"ce" * 32, "assertion.hashedURI.mismatch"),
    "image id": (b"ab" * 16, b"ac" * 16, "assertion.hashedURI.mismatch"),
    "payload": (b"00000abcdef", b"00000abcdee", "assertion.hashedURI.mismatch"),
    "source type": (b"trainedAlgorithmicMedia", b"trainedAlgorithmicmedia", "assertion.hashedURI.mismatch"),
    "title": (b"/2", b"/3", "claimSignature.mismatch"),
    "xmp": (b"AISystemUsed=\"org", b"AISystemUsed=\"0rg", "assertion.dataHash.mismatch"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", sorted(TAMPERS))
def test_each_edit_is_invalid_for_the_right_reason(kind: str, name: str, signed: dict[str, bytes], anchors: bytes) -> None:
    before, after, reason = TAMPERS[name]
    data = signed[kind]
    if name == "title":
        place = data.index(b"dc:title")
        forged = data[:place] + data[place:].replace(before, after, 1)
    elif name == "xmp":
        forged = data.replace(before, after)
    else:
        place = data.index(b"c2pa.assertions")
        forged = data[:place] + data[place:].replace(before, after, 1)
    assert forged != data
    finding = read(forged, kind, anchors)
    assert finding.state == "invalid" and finding.reason.startswith(reason), finding.reason


def test_a_pixel_changed_under_the_credential_is_invalid(signed: dict[str, bytes], bare: dict[str, bytes], anchors: bytes) -> None:
    chunk = signed["image/png"][33 : 33 + len(signed["image/png"]) - len(bare["image/png"])]
    pixels = drawn()
    pixels[0, 0, 0] ^= 1
    other = encode(pixels, "image/png", xmp=xmp_for(RECORD, "ACME"))
    finding = read(other[:33] + chunk + other[33:], "image/png", anchors)
    assert finding.state == "invalid" and "assertion.dataHash.mismatch" in finding.reason


@pytest.mark.parametrize("kind", TYPES)
def test_a_cut_file_never_passes(kind: str, signed: dict[str, bytes], anchors: bytes) -> None:
    data = signed[kind]
    for length in (0, 1, 10, 40, 200, 2000, len(data) - 500, len(data) - 20):
        assert read(data[:length], kind, anchors).state in ("invalid", "absent"), length


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_noise_never_crashes_and_never_passes(signed: dict[str, bytes], anchors: bytes, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(TYPES))
    forged = bytearray(signed[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(forged) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=12))
        if data.draw(st.booleans()):
            forged[place:place] = piece
        else:
            del forged[place : place + len(piece)]
    finding = read(bytes(forged), kind, anchors)
    assert finding.state != "trusted" or bytes(forged) == signed[kind]
    signing_chain(bytes(forged), "x")


def brief(key_set: KeySet, seconds: float) -> tuple[KeySet, bytes]:
    """A key set whose certificate lives for seconds, and its anchor."""
    chain = certificates.development_chain(leaf_life=dt.timedelta(seconds=seconds))
    return dataclasses.replace(key_set, certificate_chain_pem=chain.chain_pem, certificate_key_pem=chain.key_pem), chain.anchor_pem


def test_a_certificate_that_expired_since_is_expired_apart_from_untrusted(
    key_set: KeySet, anchors: bytes, claim: Claim, bare: dict[str, bytes]
) -> None:
    brief_set, anchor = brief(key_set, 1.5)
    issuer = Issuer(brief_set)
    made = dt.datetime.now(dt.UTC)
    files = {kind: issuer.issue(data, kind, claim) for kind, data in bare.items()}
    assert read(files["image/png"], "image/png", anchor).state == "trusted"
    wait_until(made.timestamp() + 2.6)  # C2PA compares whole seconds of its own clock
    for kind, data in files.items():
        assert read(data, kind, anchor).state == "expired"
        judged = read(data, kind, anchor, at=made)
        assert judged.state == "expired" and "was good until then" in judged.reason
        late = read(data, kind, anchor, at=dt.datetime.now(dt.UTC))
        assert late.state == "untrusted" and "expired" in late.reason
        assert read(data, kind, anchors).state == "untrusted", "another root"
        assert read(data, kind, None).state == "untrusted"
        forged = bytearray(data)
        forged[data.index(b"cd" * 32)] ^= 1
        assert read(bytes(forged), kind, anchor).state == "invalid", "expired and altered is altered"
    with pytest.raises(CredentialFailed, match="not valid at time of signing"):
        issuer.issue(bare["image/png"], "image/png", claim)


@pytest.mark.parametrize("kind", TYPES)
def test_the_chain_is_read_out_of_each_container(kind: str, key_set: KeySet, signed: dict[str, bytes]) -> None:
    label = str(store_of(signed[kind], kind)["label"])
    chain = signing_chain(signed[kind], label)
    assert chain == certificates.load_certificates(key_set.certificate_chain_pem, "")
    assert signing_chain(signed[kind], "urn:c2pa:other") == []
    assert signing_chain(b"GIF89a" + signed[kind], label) == []


def test_a_second_store_leaves_the_chain_untold(signed: dict[str, bytes], bare: dict[str, bytes]) -> None:
    data = signed["image/png"]
    chunk = data[33 : 33 + len(data) - len(bare["image/png"])]
    label = str(store_of(data, "image/png")["label"])
    assert signing_chain(data[:33] + chunk + data[33:], label) == []


@pytest.mark.parametrize("der", [True, False])
def test_a_key_that_stays_elsewhere_signs_by_callback(
    der: bool, key_set: KeySet, anchors: bytes, claim: Claim, bare: dict[str, bytes]
) -> None:
    """As a KMS answers (DER), and as a PKCS#11 token does (r and s, 32 bytes each)."""
    key = serialization.load_pem_private_key(key_set.certificate_key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    calls = []

    def sign(data: bytes) -> bytes:
        calls.append(len(data))
        signature = key.sign(data, ec.ECDSA(hashes.SHA256()))
        return signature if der else b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(signature))

    remote = RemoteKey(key_set.certificate_chain_pem, sign)
    without_key = dataclasses.replace(key_set, certificate_key_pem=b"")
    data = Issuer(without_key, remote=remote).issue(bare["image/jpeg"], "image/jpeg", claim)
    assert read(data, "image/jpeg", anchors).state == "trusted"
    assert len(calls) == 1


def test_a_token_that_fails_is_a_failed_credential(key_set: KeySet, claim: Claim, bare: dict[str, bytes]) -> None:
    def broken(data: bytes) -> bytes:
        raise OSError("token removed")

    issuer = Issuer(key_set, remote=RemoteKey(key_set.certificate_chain_pem, broken))
    with pytest.raises(CredentialFailed, match=r"no credential for image abab.*, attempt 2: token removed"):
        issuer.issue(bare["image/png"], "image/png", claim)


SIGN_PROGRAM = """
import sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = serialization.load_pem_private_key(open(sys.argv[1], "rb").read(), None)
sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read(), ec.ECDSA(hashes.SHA256())))
"""


def test_a_key_set_may_name_a_command_that_signs(tmp_path: Path, claim: Claim, bare: dict[str, bytes]) -> None:
    folder = keys.init(tmp_path / "set").folder
    (folder / files.CHAIN_KEY).rename(tmp_path / "token.key")
    (tmp_path / "sign.py").write_text(SIGN_PROGRAM)
    command = folder / files.CHAIN_COMMAND
    command.touch(mode=0o600)
    command.write_text(f"{sys.executable} {tmp_path / 'sign.py'} '{tmp_path / 'token.key'}'\n")
    key_set = keys.load(folder)
    data = Issuer(key_set).issue(bare["image/webp"], "image/webp", claim)
    assert read(data, "image/webp", key_set.trust().anchors_pem).state == "trusted"
    (tmp_path / "token.key").unlink()
    with pytest.raises(CredentialFailed, match="gave no signature"):
        Issuer(key_set).issue(bare["image/webp"], "image/webp", claim)


def test_a_token_that_signs_with_another_key_is_invalid(key_set: KeySet, anchors: bytes, claim: Claim, bare: dict[str, bytes]) -> None:
    wrong = ec.generate_private_key(ec.SECP256R1())
    remote = RemoteKey(key_set.certificate_chain_pem, lambda data: wrong.sign(data, ec.ECDSA(hashes.SHA256())))
    data = Issuer(key_set, remote=remote).issue(bare["image/png"], "image/png", claim)
    finding = read(data, "image/png", anchors)
    assert finding.state == "invalid" and finding.reason.startswith("claimSignature.mismatch")


def of_source(claim: Claim, source: bytes) -> Claim:
    """The claim of another picture, drawn over a JPEG."""
    parent = Ingredient("init", hashlib.sha256(source).hexdigest(), "image/jpeg", source)
    return dataclasses.replace(claim, image_id="ef" * 16, source_type=xmp.EDITED, ingredients=(parent,))


def test_an_edit_names_its_source_and_keeps_the_source_s_credential(
    key_set: KeySet, anchors: bytes, claim: Claim, bare: dict[str, bytes], signed: dict[str, bytes]
) -> None:
    issuer = Issuer(key_set)
    for source in (bare["image/jpeg"], signed["image/jpeg"]):
        edit = of_source(claim, source)
        data = issuer.issue(bare["image/png"], "image/png", edit)
        finding = read(data, "image/png", anchors)
        assert finding.state == "trusted" and finding.image_id == "ef" * 16, "the edit's own claim, not its source's"
        assert finding.source_claim_digest == (claim.claim_digest if source == signed["image/jpeg"] else None)
        with c2pa.Reader("image/png", io.BytesIO(data)) as reader:
            active = reader.get_active_manifest()
            manifests = json.loads(reader.json())["manifests"]
        assert active is not None
        opened, edited, _ = next(a for a in active["assertions"] if a["label"].startswith("c2pa.actions"))["data"]["actions"]
        assert opened["action"] == "c2pa.opened" and len(opened["parameters"]["ingredients"]) == 1
        assert edited["action"] == "c2pa.edited" and edited["digitalSourceType"] == xmp.EDITED
        assert active["ingredients"][0]["relationship"] == "parentOf"
        assert len(manifests) == (2 if source == signed["image/jpeg"] else 1)


def test_an_edit_of_an_altered_source_still_vouches_for_itself(
    key_set: KeySet, anchors: bytes, claim: Claim, bare: dict[str, bytes], signed: dict[str, bytes]
) -> None:
    """The source arrived altered: that is recorded with the ingredient and is no fault of the edit."""
    source = bytearray(signed["image/jpeg"])
    source[-30] ^= 1
    data = Issuer(key_set).issue(bare["image/png"], "image/png", of_source(claim, bytes(source)))
    assert read(data, "image/png", anchors).state == "trusted"


def test_a_source_whose_credential_is_malformed_is_named_without_it(
    key_set: KeySet, anchors: bytes, claim: Claim, bare: dict[str, bytes]
) -> None:
    rubbish = b"caBX" + b"no boxes" * 4
    odd = (
        bare["image/png"][:33]
        + struct.pack(">I", len(rubbish) - 4)
        + rubbish
        + struct.pack(">I", zlib.crc32(rubbish))
        + bare["image/png"][33:]
    )
    assert decode(odd).shape == (64, 80, 3), "it can be drawn over all the same"
    for roles in (("init",), ("mask", "init", "control")):
        made = tuple(Ingredient(role, "ab" * 32, "image/png", odd if role == "init" else bare["image/png"]) for role in roles)
        data = Issuer(key_set).issue(bare["image/png"], "image/png", dataclasses.replace(claim, ingredients=made, source_type=xmp.EDITED))
        assert read(data, "image/png", anchors).state == "trusted"
        store = rubric.store_of(data, "image/png")
        assert rubric.faults(store) == [] and rubric.actions_of(store)[0]["action"] == "c2pa.opened"
        assert len([item for item in store["manifests"][0]["assertions"].values() if "relationship" in item]) == len(roles)


@pytest.mark.parametrize("kind", TYPES)
def test_the_public_rubric_finds_no_fault(
    kind: str, signed: dict[str, bytes], key_set: KeySet, claim: Claim, bare: dict[str, bytes]
) -> None:
    edit = Issuer(key_set).issue(bare[kind], kind, of_source(claim, signed["image/jpeg"]))
    for data in (signed[kind], edit):
        store = rubric.store_of(data, kind)
        assert rubric.faults(store) == []
        assertions = store["manifests"][0]["assertions"]
        about = {"modelType": "c2pa.types.model", "modelName": "org/model", "modelIdentifier": "sha256:77"}
        assert assertions["c2pa.ai-disclosure"] == {**about, "contentProfile": {"humanOversightLevel": "prompt_guided"}}
        assert assertions["cawg.metadata"]["Iptc4xmpExt:AISystemUsed"] == "org/model"


def test_the_rubric_finds_what_is_taken_away(signed: dict[str, bytes]) -> None:
    store = rubric.store_of(signed["image/png"], "image/png")
    manifest = store["manifests"][0]
    del manifest["assertions"]["c2pa.actions.v2"]["allActionsIncluded"], manifest["claim.v2"]["claim_generator_info"]["specVersion"]
    del manifest["assertions"]["c2pa.actions.v2"]["actions"][0]["digitalSourceType"]
    assert set(rubric.faults(store)) == {
        "mandatory_all_actions_included",
        "mandatory_spec_version",
        "mandatory_dst_for_created_action",
    }


def test_what_went_in_cannot_be_left_out(key_set: KeySet) -> None:
    record = dataclasses.replace(RECORD, inputs=(Input("init", "ab" * 32, "a.png"), Input("mask", "cd" * 32, "b.png")))
    with pytest.raises(ValueError, match="missing of: mask"):
        claim_for(record, "cd" * 32, "ACME", key_set.mark_key, {"ab" * 32: encode(drawn(), "image/png")})


def test_an_issuer_does_not_travel(key_set: KeySet) -> None:
    with pytest.raises(TypeError, match="built in the process"):
        pickle.dumps(Issuer(key_set))


def test_a_file_of_another_type_or_junk_is_refused(key_set: KeySet, claim: Claim, bare: dict[str, bytes]) -> None:
    for data, kind in ((b"junk", "image/png"), (bare["image/png"], "image/jpeg"), (b"", "image/webp")):
        with pytest.raises(CredentialFailed, match="no credential for image"):
            Issuer(key_set).issue(data, kind, claim)


def test_a_broken_chain_or_anchor_is_said(key_set: KeySet, signed: dict[str, bytes]) -> None:
    with pytest.raises(CredentialFailed, match="refused"):
        Issuer(dataclasses.replace(key_set, certificate_key_pem=b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
    with pytest.raises(CredentialFailed, match="cannot be used"):
        read(signed["image/png"], "image/png", b"no certificate")


def test_the_library_s_own_reader_agrees(signed: dict[str, bytes], anchors: bytes) -> None:
    """With nothing but the anchors, as another program would use it."""
    context = c2pa.Context.from_dict({"trust": {"trust_anchors": anchors.decode()}})
    for kind, data in signed.items():
        with c2pa.Reader(kind, io.BytesIO(data), context=context) as reader:
            assert reader.get_validation_state() == "Trusted"


def test_all_names_that_others_use_are_exported() -> None:
    assert all(hasattr(credential, name) for name in credential.__all__)


def test_signing_is_quick(key_set: KeySet, claim: Claim, tmp_path: Path) -> None:
    """The issue allows 6 ms at 512² on a free core; a busy machine gets ten times that before this fails."""
    image = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    data = encode(image, "image/png")
    issuer = Issuer(key_set)
    times = []
    for _ in range(5):
        begin = time.process_time()
        issuer.issue(data, "image/png", claim)
        times.append(time.process_time() - begin)
    assert min(times) < 0.060
