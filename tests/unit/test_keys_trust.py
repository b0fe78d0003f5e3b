"""Trust folders: what they say, and what is no trust."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm import keys, notes
from renderfarm.errors import KeysError
from renderfarm.keys import KeySet, certificates, files
from tests import keysets


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    return keys.init(tmp_path_factory.mktemp("keys") / "set")


@pytest.fixture
def folder(made: KeySet, tmp_path: Path) -> Path:
    return keysets.copy(made, tmp_path / "set")


def test_the_trust_folder_fits_the_set_and_holds_no_private_key(made: KeySet) -> None:
    trust = made.trust()
    assert trust.log_keys[made.log_name] == made.log_key.public_key()
    assert trust.mark_keys == (made.mark_key,)
    chain = x509.load_pem_x509_certificates(made.certificate_chain_pem)
    anchors = x509.load_pem_x509_certificates(trust.anchors_pem)
    assert certificates.anchored(chain, anchors, dt.datetime.now(dt.UTC))
    text = "".join(p.read_text() for p in (made.folder / "trust").iterdir() if p.suffix != ".markkey")
    assert "PRIVATE" not in text
    assert made.mark_key.secret.hex() not in text


def test_rotation_keeps_the_old_keys_beside_the_new(folder: Path, tmp_path: Path) -> None:
    newer = keys.init(tmp_path / "newer")
    for path in (newer.folder / "trust").iterdir():
        target = folder / "trust" / f"2027-{path.name}"
        target.write_bytes(path.read_bytes())
        target.chmod(0o600)
    trust = keys.load_trust(folder)
    assert len(trust.log_keys) == len(trust.mark_keys) == len(x509.load_pem_x509_certificates(trust.anchors_pem)) == 2
    assert newer.log_name in trust.log_keys


def test_trust_without_anchors_or_mark_keys_is_trust_in_less(folder: Path) -> None:
    for path in (folder / "trust").iterdir():
        if path.suffix != ".vkey":
            path.unlink()
    assert keys.load_trust(folder / "trust").anchors_pem == b""
    (folder / "trust" / "log.vkey").unlink()
    with pytest.raises(KeysError, match="no log key"):
        keys.load_trust(folder / "trust")
    with pytest.raises(KeysError, match="no trust folder"):
        keys.load_trust(folder / "nowhere")


def test_a_watermark_key_that_others_may_read_is_refused(folder: Path) -> None:
    (folder / "trust" / "watermark.markkey").chmod(0o644)
    with pytest.raises(KeysError, match="others may read or change"):
        keys.load_trust(folder)


def test_two_log_keys_of_one_name_are_refused(folder: Path) -> None:
    name = keys.load(folder).log_name
    line = notes.verifier_key(name, Ed25519PrivateKey.generate().public_key())
    (folder / "trust" / "other.vkey").write_text(f"# a comment\n{line}\n")
    with pytest.raises(KeysError, match="two log keys are named"):
        keys.load_trust(folder)


def test_malformed_trust_is_named(folder: Path) -> None:
    for name, text in (("log.vkey", "a+b+c\n"), ("anchors.pem", "no\n"), ("watermark.markkey", "zz\n")):
        path = folder / "trust" / name
        before = path.read_text()
        path.write_text(text)
        with pytest.raises(KeysError) as caught:
            keys.load_trust(folder)
        assert caught.value.where == str(path)
        path.write_text(before)


def test_witness_keys_are_trusted_by_their_own_file(folder: Path) -> None:
    public = Ed25519PrivateKey.generate().public_key()
    line = notes.verifier_key("witness.example/w1", public, notes.COSIGNATURE)
    (folder / files.TRUST / "witnesses.witness").write_text(f"# ours\n{line}\n")
    assert keys.load_trust(folder).witness_keys == {"witness.example/w1": public}
    for text in (line[:-4] + "AAA=", notes.verifier_key("witness.example/w1", public), line.replace("w1", "w2")):
        (folder / files.TRUST / "witnesses.witness").write_text(text)
        with pytest.raises(KeysError, match=r"witness|cosignature"):
            keys.load_trust(folder)
