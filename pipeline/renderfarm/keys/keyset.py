"""Key sets: what a renderer signs and marks with. Makes, reads and checks their folders; `files` says what lies in one.

Its `trust/` folder holds what an auditor needs, and can be copied away. Keys never lie under an output. Secrets never
reach a message, a repr or a pickle: a key set pickles as the path of its folder.

The commands are how a key stays in a token or a KMS: a line like `/usr/local/bin/sign-with-token --slot 2`, without a
shell. It gets the bytes to sign on stdin and answers with the signature on stdout: `log.command` 64 bytes of Ed25519,
`certificate.command` DER or r||s over a hash that it makes itself.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from renderfarm import notes
from renderfarm.errors import KeysError
from renderfarm.keys.certificates import check_chain, development_chain, pkcs8
from renderfarm.keys.files import (
    CHAIN,
    CHAIN_COMMAND,
    CHAIN_KEY,
    DEVELOPMENT,
    LOG_COMMAND,
    LOG_KEY,
    LOG_PUBLIC,
    MARK_BYTES,
    MARK_KEY,
    TIME_STAMPS,
    TRUST,
    default_folder,
    lines,
    parse_mark,
    parse_private,
    parse_public,
    read,
    write,
)
from renderfarm.keys.signing import SignerAway, signature_by
from renderfarm.keys.trust import Trust, load_trust
from renderfarm.storage.local import make_folder, sync
from renderfarm.watermark.types import MarkKey

TRUST_README = """\
What an auditor needs to check the outputs of one renderfarm key set. Give it to auditors by a way they trust;
never take it from the output itself.

*.vkey      public keys of the provenance log (C2SP signed note)
*.witness   public keys of witnesses that must have cosigned the log (C2SP tlog-cosignature); none unless you add some
*.person    public keys of people whose statements count (C2SP signed note); the log's own key counts as well
*.pem       root certificates that credentials must lead to (C2PA), and those of time stamp authorities
*.markkey   the watermark's secret. It is symmetric: who can read the mark can also forge one. Hand this file only to
            auditors who may know it; without it, log and credentials are still checked, and only the mark is not.
"""

DEVELOPMENT_README = """\
`renderfarm keys init` made these keys for development. The certificate authority behind them was made with them, so a
credential signed with them shows that the holder of this folder signed, not who that is. For production put the chain
and key of a certificate authority into certificates.pem and certificate.key and remove this file.
"""


@dataclass(frozen=True, slots=True)
class KeySet:
    """What a renderer signs and marks with. Pickles as its folder.

    log_key: None where log_command signs instead; certificate_chain_pem: leaf first, no root; certificate_key_pem: empty
    where sign_command signs instead, an argument list; time_stamp_url: an RFC 3161 authority, or None.
    """

    log_name: str
    log_public: Ed25519PublicKey
    log_key: Ed25519PrivateKey | None = field(repr=False)
    mark_key: MarkKey = field(repr=False)
    certificate_chain_pem: bytes = field(repr=False)
    certificate_key_pem: bytes = field(repr=False)
    development: bool
    folder: Path
    sign_command: tuple[str, ...] = ()
    time_stamp_url: str | None = None
    log_command: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return load, (self.folder,)

    def sign_log(self, text: bytes) -> bytes:
        """The log's signature over a note's text, 64 bytes. Raises: SignerAway when the command gives none that fits."""
        if self.log_key is not None:
            return self.log_key.sign(text)
        signature = signature_by(self.log_command, text)
        try:
            self.log_public.verify(signature, text)
        except InvalidSignature:
            raise SignerAway(f"{self.log_command[0]} signed with another key than {LOG_PUBLIC} names") from None
        return signature

    def signer(self) -> notes.Signer:
        """Who signs the log."""
        return notes.Signer(self.log_name, self.log_public, self.sign_log)

    def trust(self) -> Trust:
        """What this set's own trust folder says: enough to check what the set itself signed. Raises: KeysError."""
        return load_trust(self.folder / TRUST)


def init(folder: Path, fsync: Callable[[int], None] = os.fsync) -> KeySet:
    """Makes a development key set and its trust folder. The folder appears whole or not at all, and a power cut keeps it.

    Raises: KeysError when the folder already holds something, or cannot be made.
    """
    folder = folder.expanduser().absolute()
    taken = KeysError("there is something in this folder already; keys are never overwritten", str(folder), "name a new folder")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise taken
        make_folder(folder.parent, fsync)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))  # mode 0700
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        _write_set(made)
        for path in (*made.rglob("*"), made):
            sync(path, fsync)
        # A crash before this line leaves a hidden folder and no set. Of two racers one wins: the other finds it full.
        os.rename(made, folder)
        sync(folder.parent, fsync)
    except OSError as error:
        lost = made.exists() and folder.exists()
        shutil.rmtree(made, ignore_errors=True)
        raise (taken if lost else _unwritable(folder, error)) from error
    return load(folder)


def _unwritable(folder: Path, error: OSError) -> KeysError:
    return KeysError(f"cannot make a key set here: {error.strerror}", str(folder), "name a folder you may write")


def _write_set(folder: Path) -> None:
    log_key, log_name = Ed25519PrivateKey.generate(), f"renderfarm-development/{secrets.token_hex(4)}"
    mark_secret = secrets.token_bytes(MARK_BYTES).hex()
    chain = development_chain()
    write(folder / LOG_KEY, notes.signer_key(log_name, log_key) + "\n")
    write(folder / MARK_KEY, mark_secret + "\n")
    write(folder / CHAIN, chain.chain_pem.decode(), 0o644)
    write(folder / CHAIN_KEY, chain.key_pem.decode())
    write(folder / DEVELOPMENT, DEVELOPMENT_README, 0o644)
    trust = folder / TRUST
    trust.mkdir(mode=0o700)
    write(trust / "README.txt", TRUST_README, 0o644)
    write(trust / "log.vkey", notes.verifier_key(log_name, log_key.public_key()) + "\n", 0o644)
    write(trust / "anchors.pem", chain.anchor_pem.decode(), 0o644)
    write(trust / "watermark.markkey", mark_secret + "\n")


def load(folder: Path) -> KeySet:
    """The key set in a folder, checked as far as it can be without signing.

    Raises: KeysError for a file that is missing, malformed or open to others, or a certificate that cannot sign now.
    """
    folder = folder.expanduser().absolute()
    log_command = _command(folder, LOG_COMMAND, LOG_KEY)
    log_key: Ed25519PrivateKey | None = None
    if log_command:
        log_name, log_public = parse_public(read(folder / LOG_PUBLIC), str(folder / LOG_PUBLIC))
    else:
        log_name, log_key = parse_private(read(folder / LOG_KEY, private=True), str(folder / LOG_KEY))
        log_public = log_key.public_key()
    mark_key = parse_mark(read(folder / MARK_KEY, private=True), str(folder / MARK_KEY))
    chain_pem = read(folder / CHAIN).encode()
    command = _command(folder, CHAIN_COMMAND, CHAIN_KEY)
    key_pem = b"" if command else pkcs8(read(folder / CHAIN_KEY, private=True).encode(), str(folder / CHAIN_KEY))
    check_chain(chain_pem, None if command else key_pem, str(folder / CHAIN))
    development, time_stamps = (folder / DEVELOPMENT).exists(), _time_stamp_url(folder / TIME_STAMPS)
    return KeySet(log_name, log_public, log_key, mark_key, chain_pem, key_pem, development, folder, command, time_stamps, log_command)


def _command(folder: Path, name: str, key: str) -> tuple[str, ...]:
    """The command that signs instead of a key, where there is one. It is private because whoever writes it runs programs as us."""
    path = folder / name
    if not path.exists():
        return ()
    if (folder / key).exists():
        raise KeysError(f"there is a {key} as well as a {name}", str(folder), "remove one of them")
    try:
        (line,) = lines(path, private=True)
        command = tuple(shlex.split(line))
    except ValueError:
        raise KeysError("this is not one command on one line", str(path), "write the program and its arguments") from None
    if not Path(command[0]).is_absolute():
        raise KeysError(f"the program {command[0]!r} is not named by its full path", str(path), "write the full path")
    return command


def _time_stamp_url(path: Path) -> str | None:
    if not path.exists():
        return None
    found = lines(path)
    if len(found) != 1 or not re.fullmatch(r"https?://[^\s]+", found[0]):
        raise KeysError("this is not one http or https address", str(path), "write the time stamp authority's address")
    return found[0]


def load_or_init_default() -> tuple[KeySet, bool]:
    """The default key set, and whether it was made just now. Two processes that start at once end with the same set.

    Raises: KeysError.
    """
    folder = default_folder()
    if not _there(folder):
        try:
            return init(folder), True
        except KeysError:
            if not _there(folder):
                raise
    return load(folder), False


def _there(folder: Path) -> bool:
    return (folder / LOG_KEY).exists() or (folder / LOG_COMMAND).exists()
