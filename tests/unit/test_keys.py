"""Key sets: made whole, read strictly, never repeated in a message."""

from __future__ import annotations

import base64
import datetime as dt
import multiprocessing
import os
import pickle
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm.audit.audit import audit
from renderfarm.errors import KeysError
from renderfarm.keys import certificates
from renderfarm.keys import keyset as keys
from renderfarm.keys.signing import SignerAway
from renderfarm.log.writer import LogWriter
from renderfarm.notes import checkpoint
from renderfarm.notes.checkpoint import Signer
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> keys.KeySet:
    return keys.init(tmp_path_factory.mktemp("keys") / "set")


@pytest.fixture
def folder(made: keys.KeySet, tmp_path: Path) -> Path:
    """A copy of the set, to be damaged."""
    copy = tmp_path / "set"
    copy.mkdir(mode=0o700)
    for path in sorted(made.folder.rglob("*")):
        target = copy / path.relative_to(made.folder)
        if path.is_dir():
            target.mkdir(mode=0o700)
        else:
            target.touch(mode=stat.S_IMODE(path.stat().st_mode))
            target.write_bytes(path.read_bytes())
    return copy


def secrets_of(key_set: keys.KeySet) -> list[str]:
    assert key_set.log_key is not None
    raw = key_set.log_key.private_bytes_raw()
    pem_body = key_set.certificate_key_pem.decode().splitlines()[1]
    mark = key_set.mark_key.secret
    return [raw.hex(), base64.b64encode(b"\x01" + raw).decode(), pem_body, mark.hex(), repr(mark)[2:-1]]


def test_a_new_set_is_private_complete_and_loads_back(made: keys.KeySet) -> None:
    modes = {str(p.relative_to(made.folder)): stat.S_IMODE(p.stat().st_mode) for p in made.folder.rglob("*")}
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    for name in (keys.LOG_KEY, keys.MARK_KEY, keys.CHAIN_KEY, "trust/watermark.markkey"):
        assert modes[name] == 0o600, name
    assert {"trust/README.txt", "trust/log.vkey", "trust/anchors.pem", keys.DEVELOPMENT, keys.CHAIN} <= set(modes)
    again = keys.load(made.folder)
    assert made.development and again.log_name == made.log_name and again.mark_key == made.mark_key
    assert again.log_key.private_bytes_raw() == made.log_key.private_bytes_raw()
    assert "symmetric" in (made.folder / "trust" / "README.txt").read_text()


def test_the_trust_folder_fits_the_set_and_holds_no_private_key(made: keys.KeySet) -> None:
    trust = made.trust()
    assert trust.log_keys[made.log_name] == made.log_key.public_key()
    assert trust.mark_keys == (made.mark_key,)
    chain = x509.load_pem_x509_certificates(made.certificate_chain_pem)
    anchors = x509.load_pem_x509_certificates(trust.anchors_pem)
    assert certificates.anchored(chain, anchors, dt.datetime.now(dt.UTC))
    text = "".join(p.read_text() for p in (made.folder / "trust").iterdir() if p.suffix != ".markkey")
    assert "PRIVATE" not in text
    assert made.mark_key.secret.hex() not in text


def test_no_secret_is_in_a_repr_or_a_pickle(made: keys.KeySet) -> None:
    shown = repr(made) + str(made) + repr(made.trust()) + repr(pickle.dumps(made))
    for secret in secrets_of(made):
        assert secret not in shown
    assert pickle.loads(pickle.dumps(made)).log_name == made.log_name


def test_a_taken_folder_is_refused_and_left_alone(made: keys.KeySet, tmp_path: Path) -> None:
    before = (made.folder / keys.LOG_KEY).read_bytes()
    with pytest.raises(KeysError, match="never overwritten"):
        keys.init(made.folder)
    assert (made.folder / keys.LOG_KEY).read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(KeysError, match="never overwritten"):
        keys.init(tmp_path / "file")
    with pytest.raises(KeysError, match="cannot make a key set here"):
        keys.init(tmp_path / "file" / "below")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"], "nothing half-made stays behind"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert keys.init(tmp_path).folder == tmp_path


@pytest.mark.parametrize("name", [keys.LOG_KEY, keys.MARK_KEY, keys.CHAIN, keys.CHAIN_KEY])
def test_a_missing_file_is_named_with_a_remedy(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(KeysError, match="missing") as caught:
        keys.load(folder)
    assert caught.value.where == str(folder / name) and caught.value.remedy


@pytest.mark.parametrize("name", [keys.LOG_KEY, keys.MARK_KEY, keys.CHAIN_KEY])
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o666])
def test_a_private_file_that_others_may_touch_is_refused(folder: Path, name: str, mode: int) -> None:
    (folder / name).chmod(mode)
    with pytest.raises(KeysError, match="others may read or change") as caught:
        keys.load(folder)
    assert f"chmod 600 '{folder / name}'" == caught.value.remedy
    (folder / name).chmod(0o440)  # as Kubernetes mounts a secret for a group
    keys.load(folder)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "binary": lambda data: bytes(range(256)),
    "other": lambda data: b"hello\n",
    "huge": lambda data: data * 20_000,
}


@pytest.mark.parametrize("name", [keys.LOG_KEY, keys.MARK_KEY, keys.CHAIN, keys.CHAIN_KEY])
@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_a_malformed_file_is_named_and_its_secret_is_not_repeated(made: keys.KeySet, folder: Path, name: str, damage: str) -> None:
    path = folder / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(KeysError) as caught:
        keys.load(folder)
    message = str(caught.value)
    assert caught.value.what and caught.value.remedy
    assert caught.value.where in (str(path), str(folder / keys.CHAIN)), message  # a key that is wrong is seen with its chain
    for secret in secrets_of(made):
        assert secret not in message and secret[:20] not in message


def test_a_command_and_a_time_stamp_authority_are_read_strictly(folder: Path) -> None:
    command, url = folder / keys.CHAIN_COMMAND, folder / keys.TIME_STAMPS
    command.touch(mode=0o600)
    command.write_text("# how we sign\n/opt/sign --slot '2 a'\n")
    with pytest.raises(KeysError, match="as well as"):
        keys.load(folder)
    (folder / keys.CHAIN_KEY).unlink()
    url.write_text("https://tsa.example/stamp\n")
    key_set = keys.load(folder)
    assert key_set.sign_command == ("/opt/sign", "--slot", "2 a") and key_set.certificate_key_pem == b""
    assert key_set.time_stamp_url == "https://tsa.example/stamp"
    for text, reason in (("sign\n", "full path"), ("", "not one command"), ("/a\n/b\n", "not one command"), ("/a 'b\n", "not one command")):
        command.write_text(text)
        with pytest.raises(KeysError, match=reason):
            keys.load(folder)
    command.write_text("/opt/sign\n")
    command.chmod(0o664)
    with pytest.raises(KeysError, match="others may read or change"):
        keys.load(folder)
    command.chmod(0o600)
    url.write_text("file:///etc/passwd\n")
    with pytest.raises(KeysError, match="not one http"):
        keys.load(folder)


def test_a_log_key_whose_name_was_edited_is_refused(folder: Path) -> None:
    path = folder / keys.LOG_KEY
    path.write_text(path.read_text().replace("renderfarm-development", "someone-else"))
    with pytest.raises(KeysError, match="hash does not fit"):
        keys.load(folder)


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    (folder / keys.CHAIN_KEY).write_bytes(certificates.development_chain().key_pem)
    with pytest.raises(KeysError, match="does not belong to the signing certificate"):
        keys.load(folder)


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


def test_two_log_keys_of_one_name_are_refused(folder: Path) -> None:
    name = keys.load(folder).log_name
    line = keys.format_public(name, Ed25519PrivateKey.generate().public_key())
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


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RENDERFARM_KEYS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert keys.default_folder() == tmp_path / "config" / "renderfarm" / "keys"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keys.default_folder() == tmp_path / ".config" / "renderfarm" / "keys"
    monkeypatch.setenv("RENDERFARM_KEYS", str(tmp_path / "mine"))
    assert keys.default_folder() == tmp_path / "mine"
    assert keys.load_default_trust() is None
    first, made = keys.load_or_init_default()
    again, made_again = keys.load_or_init_default()
    assert (made, made_again) == (True, False) and first.log_name == again.log_name
    trust = keys.load_default_trust()
    assert trust is not None and first.log_name in trust.log_keys


def _start(folder: str) -> str:
    os.environ["RENDERFARM_KEYS"] = folder
    return keys.load_or_init_default()[0].log_name


def test_processes_that_start_at_once_end_with_one_set(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        names = pool.map(_start, [str(tmp_path / "keys")] * 8)
    assert len(set(names)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["keys"], "the losers clean up"


@settings(max_examples=50, deadline=None)
@given(st.from_regex(r"[a-z0-9./_-]{1,40}", fullmatch=True), st.binary(min_size=32, max_size=32))
def test_note_keys_round_trip_and_agree_with_the_log(name: str, seed: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    text = keys.format_public(name, key.public_key())
    assert keys.parse_public(text, "here") == (name, key.public_key())
    assert checkpoint.parse_verifier_key(text) == (name, key.public_key())
    back_name, back = keys.parse_private(keys.format_private(name, key), "here")
    assert back_name == name and back.private_bytes_raw() == seed


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(max_size=20).map(lambda text: f"w+1afbd705+{text}")))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    for parse in (keys.parse_public, keys.parse_witness, keys.parse_private):
        with pytest.raises(KeysError):
            parse(text, "here")


def test_the_published_note_key_is_read() -> None:
    """Example of Go's golang.org/x/mod/sumdb/note package documentation."""
    verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    signer = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
    name, key = keys.parse_private(signer, "here")
    assert name == "PeterNeumann"
    assert keys.format_public(name, key.public_key()) == verifier


LOG_SIGN_PROGRAM = """
import sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(open(sys.argv[1]).read()))
sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read()))
"""


def test_the_log_s_key_may_stay_behind_a_command(folder: Path, tmp_path: Path) -> None:
    before = keys.load(folder)
    assert before.log_key is not None
    (tmp_path / "token").write_text(before.log_key.private_bytes_raw().hex())
    (tmp_path / "sign.py").write_text(LOG_SIGN_PROGRAM)
    command = folder / keys.LOG_COMMAND
    command.touch(mode=0o600)
    command.write_text(f"{sys.executable} {tmp_path / 'sign.py'} {tmp_path / 'token'}\n")
    with pytest.raises(KeysError, match="as well as"):
        keys.load(folder)
    (folder / keys.LOG_KEY).unlink()
    with pytest.raises(KeysError, match="missing"):
        keys.load(folder)
    shutil.copy(folder / keys.TRUST / "log.vkey", folder / keys.LOG_PUBLIC)
    found = keys.load(folder)
    assert found.log_key is None and found.log_name == before.log_name
    found.log_public.verify(found.sign_log(b"a head\n"), b"a head\n")
    assert pickle.loads(pickle.dumps(found)).log_command == found.log_command
    storage = LocalStorage(tmp_path / "out", create=True)
    writer = LogWriter.open(storage, "mugs", Signer(found.log_name, found.log_public, found.sign_log))
    writer.append([Record("plan", job="mugs", plan_digest="p", planned=0, finished_us=1)])
    assert audit(storage, found.trust(), quick=True).found.keys() <= {"job-missing"}
    (tmp_path / "token").write_text("11" * 32)
    with pytest.raises(SignerAway, match="signed with another key"):
        found.sign_log(b"a head\n")
    (tmp_path / "token").unlink()
    with pytest.raises(SignerAway, match="gave no signature"):
        writer.append([Record("plan", job="mugs", plan_digest="q", planned=0, finished_us=2)])
    assert writer.size == 1, "what was not signed was not written"


def test_witness_keys_are_trusted_by_their_own_file(folder: Path) -> None:
    public = Ed25519PrivateKey.generate().public_key()
    line = keys.format_witness("witness.example/w1", public)
    (folder / keys.TRUST / "witnesses.witness").write_text(f"# ours\n{line}\n")
    assert keys.load_trust(folder).witness_keys == {"witness.example/w1": public}
    for text in (line[:-4] + "AAA=", keys.format_public("witness.example/w1", public), line.replace("w1", "w2")):
        (folder / keys.TRUST / "witnesses.witness").write_text(text)
        with pytest.raises(KeysError, match=r"witness|cosignature"):
            keys.load_trust(folder)
