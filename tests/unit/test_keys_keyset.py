"""Key sets: made whole, read strictly, never repeated in a message."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import stat
import sys
from pathlib import Path

import pytest

from renderfarm import keys
from renderfarm.audit.audit import audit
from renderfarm.errors import KeysError
from renderfarm.keys import KeySet, SignerAway, certificates, files
from renderfarm.log.writer import LogWriter
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage
from tests import keysets


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    return keys.init(tmp_path_factory.mktemp("keys") / "set")


@pytest.fixture
def folder(made: KeySet, tmp_path: Path) -> Path:
    return keysets.copy(made, tmp_path / "set")


def test_a_new_set_is_private_complete_and_loads_back(made: KeySet) -> None:
    modes = {str(p.relative_to(made.folder)): stat.S_IMODE(p.stat().st_mode) for p in made.folder.rglob("*")}
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    for name in (files.LOG_KEY, files.MARK_KEY, files.CHAIN_KEY, "trust/watermark.markkey"):
        assert modes[name] == 0o600, name
    assert {"trust/README.txt", "trust/log.vkey", "trust/anchors.pem", files.DEVELOPMENT, files.CHAIN} <= set(modes)
    again = keys.load(made.folder)
    assert made.development and again.log_name == made.log_name and again.mark_key == made.mark_key
    assert again.log_key.private_bytes_raw() == made.log_key.private_bytes_raw()
    assert "symmetric" in (made.folder / "trust" / "README.txt").read_text()


def test_no_secret_is_in_a_repr_or_a_pickle(made: KeySet) -> None:
    shown = repr(made) + str(made) + repr(made.trust()) + repr(pickle.dumps(made))
    for secret in keysets.secrets_of(made):
        assert secret not in shown
    assert pickle.loads(pickle.dumps(made)).log_name == made.log_name


def test_a_taken_folder_is_refused_and_left_alone(made: KeySet, tmp_path: Path) -> None:
    before = (made.folder / files.LOG_KEY).read_bytes()
    with pytest.raises(KeysError, match="never overwritten"):
        keys.init(made.folder)
    assert (made.folder / files.LOG_KEY).read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(KeysError, match="never overwritten"):
        keys.init(tmp_path / "file")
    with pytest.raises(KeysError, match="cannot make a key set here"):
        keys.init(tmp_path / "file" / "below")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"], "nothing half-made stays behind"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert keys.init(tmp_path).folder == tmp_path


def test_a_command_and_a_time_stamp_authority_are_read_strictly(folder: Path) -> None:
    command, url = folder / files.CHAIN_COMMAND, folder / files.TIME_STAMPS
    command.touch(mode=0o600)
    command.write_text("# how we sign\n/opt/sign --slot '2 a'\n")
    with pytest.raises(KeysError, match="as well as"):
        keys.load(folder)
    (folder / files.CHAIN_KEY).unlink()
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
    path = folder / files.LOG_KEY
    path.write_text(path.read_text().replace("renderfarm-development", "someone-else"))
    with pytest.raises(KeysError, match="id does not fit"):
        keys.load(folder)


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    (folder / files.CHAIN_KEY).write_bytes(certificates.development_chain().key_pem)
    with pytest.raises(KeysError, match="does not belong to the signing certificate"):
        keys.load(folder)


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
    command = folder / files.LOG_COMMAND
    command.touch(mode=0o600)
    command.write_text(f"{sys.executable} {tmp_path / 'sign.py'} {tmp_path / 'token'}\n")
    with pytest.raises(KeysError, match="as well as"):
        keys.load(folder)
    (folder / files.LOG_KEY).unlink()
    with pytest.raises(KeysError, match="missing"):
        keys.load(folder)
    shutil.copy(folder / files.TRUST / "log.vkey", folder / files.LOG_PUBLIC)
    found = keys.load(folder)
    assert found.log_key is None and found.log_name == before.log_name
    found.log_public.verify(found.sign_log(b"a head\n"), b"a head\n")
    assert pickle.loads(pickle.dumps(found)).log_command == found.log_command
    storage = LocalStorage(tmp_path / "out", create=True)
    writer = LogWriter.open(storage, "mugs", found.signer())
    writer.append([Record("plan", job="mugs", plan_digest="p", planned=0, finished_us=1)])
    assert audit(storage, found.trust(), quick=True).found.keys() <= {"job-missing"}
    (tmp_path / "token").write_text("11" * 32)
    with pytest.raises(SignerAway, match="signed with another key"):
        found.sign_log(b"a head\n")
    (tmp_path / "token").unlink()
    with pytest.raises(SignerAway, match="gave no signature"):
        writer.append([Record("plan", job="mugs", plan_digest="q", planned=0, finished_us=2)])
    assert writer.size == 1, "what was not signed was not written"
