"""Key sets and what an auditor trusts: reads and writes their folders, and decides nothing else.

A key set folder holds what a renderer needs; its `trust/` folder holds what an auditor needs, and can be copied away:

    log.skey             C2SP signed-note private key: name and Ed25519 seed       0600
    log.command          instead of log.skey: a command that signs the log         0600
    log.vkey             beside log.command: the C2SP public key that it signs with
    watermark.key        the watermark's secret, 64 hex digits                     0600
    certificates.pem     signing certificate, then its issuers, without the root
    certificate.key      the certificate's private key, PKCS#8 PEM                 0600
    certificate.command  instead of certificate.key: a command that signs          0600
    timestamp.url        if there: an RFC 3161 time stamp authority to ask for each picture
    DEVELOPMENT          there when `renderfarm keys init` made the set
    trust/*.vkey         C2SP signed-note public keys, one a line
    trust/*.pem          root certificates
    trust/*.markkey      watermark secrets, one a line; symmetric, so 0600
    trust/*.witness      C2SP public keys of witnesses (cosignature/v1), one a line

The commands are how a key stays in a token or a KMS: a line like `/usr/local/bin/sign-with-token --slot 2`, without a
shell. It gets the bytes to sign on stdin and answers with the signature on stdout: `log.command` 64 bytes of Ed25519,
`certificate.command` DER or r||s over a hash that it makes itself.

Rotation: sign with the new set, and keep the old files beside the new ones in the trust folder. A private file that
others may read is refused, because a key that leaked proves nothing; the group may read, as Kubernetes mounts secrets
so. Keys never lie under an output. Secrets never reach a message, a repr or a pickle: a key set pickles as the path of
its folder.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from renderfarm.errors import KeysError
from renderfarm.keys.certificates import check_chain, development_chain, load_certificates
from renderfarm.keys.signing import SignerAway, signature_by
from renderfarm.watermark.types import MarkKey

LOG_KEY, MARK_KEY = "log.skey", "watermark.key"
LOG_COMMAND, LOG_PUBLIC = "log.command", "log.vkey"
CHAIN, CHAIN_KEY = "certificates.pem", "certificate.key"
CHAIN_COMMAND, TIME_STAMPS = "certificate.command", "timestamp.url"
DEVELOPMENT, TRUST = "DEVELOPMENT", "trust"
INIT_REMEDY = "make a development set with `renderfarm keys init DIR`, or name the right folder"
FILE_BYTES_MAX = 1 << 20
MARK_BYTES = 32
ED25519, COSIGNATURE = b"\x01", b"\x04"
"""Key types of C2SP signed-note: plain Ed25519, and a witness's timestamped cosignature (tlog-cosignature)."""

TRUST_README = """\
What an auditor needs to check the outputs of one renderfarm key set. Give it to auditors by a way they trust;
never take it from the output itself.

*.vkey      public keys of the provenance log (C2SP signed note)
*.witness   public keys of witnesses that must have cosigned the log (C2SP tlog-cosignature); none unless you add some
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

    def trust(self) -> Trust:
        """What this set's own trust folder says: enough to check what the set itself signed. Raises: KeysError."""
        return load_trust(self.folder / TRUST)


@dataclass(frozen=True, slots=True)
class Trust:
    """What an auditor believes: log keys by their note key name, root certificates, watermark keys; keys of witnesses.

    `folder`: where all of it was read from, None for one that was put together otherwise.
    """

    log_keys: Mapping[str, Ed25519PublicKey]
    anchors_pem: bytes = field(repr=False)
    mark_keys: tuple[MarkKey, ...] = field(repr=False)
    witness_keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    folder: Path | None = field(init=False, default=None, compare=False, repr=False)


def default_folder() -> Path:
    """$RENDERFARM_KEYS, else renderfarm/keys under $XDG_CONFIG_HOME or ~/.config."""
    named = os.environ.get("RENDERFARM_KEYS")
    if named:
        return Path(named).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "renderfarm" / "keys"


def init(folder: Path) -> KeySet:
    """Makes a development key set and its trust folder. The folder appears whole or not at all.

    Raises: KeysError when the folder already holds something, or cannot be made.
    """
    folder = folder.expanduser().absolute()
    taken = KeysError("there is something in this folder already; keys are never overwritten", str(folder), "name a new folder")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise taken
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))  # mode 0700
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        _write_set(made)
        # A crash before this line leaves a hidden folder and no set. Of two racers one wins: the other finds it full.
        os.rename(made, folder)
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        if folder.exists():
            raise taken from error
        raise _unwritable(folder, error) from error
    return load(folder)


def _unwritable(folder: Path, error: OSError) -> KeysError:
    return KeysError(f"cannot make a key set here: {error.strerror}", str(folder), "name a folder you may write")


def _write_set(folder: Path) -> None:
    log_key = Ed25519PrivateKey.generate()
    log_name = f"renderfarm-development/{secrets.token_hex(4)}"
    mark_secret = secrets.token_bytes(MARK_BYTES).hex()
    chain = development_chain()
    _write(folder / LOG_KEY, format_private(log_name, log_key) + "\n")
    _write(folder / MARK_KEY, mark_secret + "\n")
    _write(folder / CHAIN, chain.chain_pem.decode(), 0o644)
    _write(folder / CHAIN_KEY, chain.key_pem.decode())
    _write(folder / DEVELOPMENT, DEVELOPMENT_README, 0o644)
    trust = folder / TRUST
    trust.mkdir(mode=0o700)
    _write(trust / "README.txt", TRUST_README, 0o644)
    _write(trust / "log.vkey", format_public(log_name, log_key.public_key()) + "\n", 0o644)
    _write(trust / "anchors.pem", chain.anchor_pem.decode(), 0o644)
    _write(trust / "watermark.markkey", mark_secret + "\n")


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def load(folder: Path) -> KeySet:
    """The key set in a folder, checked as far as it can be without signing.

    Raises: KeysError for a file that is missing, malformed or open to others, or a certificate that cannot sign now.
    """
    folder = folder.expanduser().absolute()
    log_command = _command(folder, LOG_COMMAND, LOG_KEY)
    log_key: Ed25519PrivateKey | None = None
    if log_command:
        log_name, log_public = parse_public(_read(folder / LOG_PUBLIC), str(folder / LOG_PUBLIC))
    else:
        log_name, log_key = parse_private(_read(folder / LOG_KEY, private=True), str(folder / LOG_KEY))
        log_public = log_key.public_key()
    mark_key = _mark_key(_read(folder / MARK_KEY, private=True), str(folder / MARK_KEY))
    chain_pem = _read(folder / CHAIN).encode()
    key_pem, command = b"", _command(folder, CHAIN_COMMAND, CHAIN_KEY)
    if not command:
        key_pem = _read(folder / CHAIN_KEY, private=True).encode()
    check_chain(chain_pem, None if command else key_pem, str(folder / CHAIN))
    development, time_stamps = (folder / DEVELOPMENT).exists(), _time_stamp_url(folder)
    return KeySet(log_name, log_public, log_key, mark_key, chain_pem, key_pem, development, folder, command, time_stamps, log_command)


def _command(folder: Path, name: str, key: str) -> tuple[str, ...]:
    """The command that signs instead of a key, where there is one. It is private because whoever writes it runs programs as us."""
    path = folder / name
    if not path.exists():
        return ()
    if (folder / key).exists():
        raise KeysError(f"there is a {key} as well as a {name}", str(folder), "remove one of them")
    try:
        (line,) = _lines(_read(path, private=True))
        command = tuple(shlex.split(line))
    except ValueError:
        raise KeysError("this is not one command on one line", str(path), "write the program and its arguments") from None
    if not Path(command[0]).is_absolute():
        raise KeysError(f"the program {command[0]!r} is not named by its full path", str(path), "write the full path")
    return command


def _time_stamp_url(folder: Path) -> str | None:
    path = folder / TIME_STAMPS
    if not path.exists():
        return None
    lines = _lines(_read(path))
    if len(lines) != 1 or not re.fullmatch(r"https?://[^\s]+", lines[0]):
        raise KeysError("this is not one http or https address", str(path), "write the time stamp authority's address")
    return lines[0]


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


def load_trust(folder: Path) -> Trust:
    """What a trust folder, or the one inside a key set's folder, says.

    Anchors and watermark keys may be absent: less can be checked then. A rotated log key has a new name, as C2SP
    signed-note advises. Raises: KeysError when there is no log key, two have one name, or a file is malformed.
    """
    folder = folder.expanduser().absolute()
    if (folder / TRUST).is_dir():
        folder = folder / TRUST
    if not folder.is_dir():
        raise KeysError("there is no trust folder here", str(folder), "name the `trust` folder of a key set")
    log_keys: dict[str, Ed25519PublicKey] = {}
    for path in sorted(folder.glob("*.vkey")):
        for line in _lines(_read(path)):
            name, public = parse_public(line, str(path))
            if log_keys.setdefault(name, public) != public:
                raise KeysError(f"two log keys are named {name!r}", str(path), "give each log key a name of its own")
    if not log_keys:
        remedy = "copy log.vkey from the key set's trust folder"
        raise KeysError("no log key (*.vkey) in this trust folder", str(folder), remedy)
    anchors = []
    for path in sorted(folder.glob("*.pem")):
        text = _read(path)
        load_certificates(text.encode(), str(path))
        anchors.append(text if text.endswith("\n") else text + "\n")
    marks: dict[str, MarkKey] = {}
    for path in sorted(folder.glob("*.markkey")):
        for line in _lines(_read(path, private=True)):
            key = _mark_key(line, str(path))
            marks[key.key_id] = key
    trust = Trust(log_keys, "".join(anchors).encode(), tuple(marks.values()), _witness_keys(folder))
    object.__setattr__(trust, "folder", folder)
    return trust


def _witness_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    found: dict[str, Ed25519PublicKey] = {}
    for path in sorted(folder.glob("*.witness")):
        for line in _lines(_read(path)):
            name, public = parse_witness(line, str(path))
            if found.setdefault(name, public) != public:
                raise KeysError(f"two witnesses are named {name!r}", str(path), "give each witness a name of its own")
    return found


def load_default_trust() -> Trust | None:
    """What the user's own configuration trusts, or None where there is none. Raises: KeysError when it is malformed."""
    folder = default_folder() / TRUST
    return load_trust(folder) if folder.is_dir() else None


def key_hash(name: str, public: Ed25519PublicKey, kind: bytes = ED25519) -> str:
    """C2SP signed-note key id, 8 hex digits: SHA-256(name, newline, type, public key), its first 4 bytes."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public.public_bytes_raw()).hexdigest()[:8]


def format_public(name: str, public: Ed25519PublicKey) -> str:
    """C2SP signed-note verifier key: `name+hash+base64(0x01 || public key)`."""
    return f"{name}+{key_hash(name, public)}+{base64.b64encode(ED25519 + public.public_bytes_raw()).decode()}"


def format_private(name: str, key: Ed25519PrivateKey) -> str:
    """Signer key in the form of Go's sumdb/note: `PRIVATE+KEY+name+hash+base64(0x01 || seed)`."""
    encoded = base64.b64encode(ED25519 + key.private_bytes_raw()).decode()
    return f"PRIVATE+KEY+{name}+{key_hash(name, key.public_key())}+{encoded}"


def parse_public(text: str, where: str) -> tuple[str, Ed25519PublicKey]:
    """The inverse of `format_public`. Raises: KeysError, also when the hash does not fit."""
    name, digest, raw = _parse_note_key(text, where, "name+hash+base64")
    public = Ed25519PublicKey.from_public_bytes(raw)
    if key_hash(name, public) != digest:
        raise KeysError("the log key's hash does not fit its name and key", where, "copy the whole line again")
    return name, public


def format_witness(name: str, public: Ed25519PublicKey) -> str:
    """C2SP tlog-cosignature verifier key: `name+hash+base64(0x04 || public key)`."""
    return f"{name}+{key_hash(name, public, COSIGNATURE)}+{base64.b64encode(COSIGNATURE + public.public_bytes_raw()).decode()}"


def parse_witness(text: str, where: str) -> tuple[str, Ed25519PublicKey]:
    """The inverse of `format_witness`. Raises: KeysError, also when the hash does not fit."""
    name, digest, raw = _parse_note_key(text, where, "name+hash+base64 of a cosignature/v1 key", COSIGNATURE)
    public = Ed25519PublicKey.from_public_bytes(raw)
    if key_hash(name, public, COSIGNATURE) != digest:
        raise KeysError("the witness key's hash does not fit its name and key", where, "copy the whole line again")
    return name, public


def parse_private(text: str, where: str) -> tuple[str, Ed25519PrivateKey]:
    """The inverse of `format_private`. Raises: KeysError; no part of the key is repeated."""
    form = "PRIVATE+KEY+name+hash+base64"
    prefix, text = "PRIVATE+KEY+", text.strip()
    if not text.startswith(prefix):
        raise KeysError(f"this is not a signed-note private key ({form})", where, INIT_REMEDY)
    name, digest, raw = _parse_note_key(text.removeprefix(prefix), where, form)
    key = Ed25519PrivateKey.from_private_bytes(raw)
    if key_hash(name, key.public_key()) != digest:
        raise KeysError("the log key's hash does not fit its name and key", where, "restore the file from your backup")
    return name, key


def _parse_note_key(text: str, where: str, form: str, kind: bytes = ED25519) -> tuple[str, str, bytes]:
    parts = text.strip().split("+", 2)
    malformed = KeysError(f"this is not a signed-note key ({form}, Ed25519)", where, "copy the whole line again")
    if len(parts) != 3 or not re.fullmatch(r"[^\s+]+", parts[0]):
        raise malformed
    try:
        raw = base64.b64decode(parts[2], validate=True)
    except ValueError:  # not base64, or not ASCII
        raise malformed from None
    if len(raw) != 33 or raw[:1] != kind:
        raise malformed
    return parts[0], parts[1], raw[1:]


def _mark_key(text: str, where: str) -> MarkKey:
    """The key in a file of `init`. Shorter ones would do for `MarkKey`, but here they are a file that was cut off."""
    if len(text.strip()) != 2 * MARK_BYTES:
        raise KeysError(f"a watermark key has {2 * MARK_BYTES} hex digits", where, "restore the file from your backup")
    try:
        return MarkKey.from_hex(text)
    except KeysError as error:
        raise KeysError(error.what, where, error.remedy) from None


def _lines(text: str) -> list[str]:
    return [line for line in (raw.strip() for raw in text.splitlines()) if line and not line.startswith("#")]


def _read(path: Path, private: bool = False) -> str:
    """A small ASCII file. Raises: KeysError when it is missing, too large, not text, or private and open to others."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise KeysError("this key file is missing", str(path), INIT_REMEDY) from None
    except OSError as error:
        raise KeysError(f"this key file cannot be read: {error.strerror}", str(path), "mend its permissions") from None
    if private and mode & 0o027:
        raise KeysError(f"others may read or change this private file (mode {mode & 0o777:04o})", str(path), f"chmod 600 '{path}'")
    if len(data) > FILE_BYTES_MAX:
        raise KeysError("this is too large for a key file", str(path), INIT_REMEDY)
    with contextlib.suppress(UnicodeDecodeError):
        return data.decode("ascii")
    raise KeysError("this key file is not text", str(path), INIT_REMEDY)
