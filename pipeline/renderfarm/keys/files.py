"""The files of key sets and trust folders: their names, how they are read and written, and nothing of what they mean together.

    log.skey             C2SP signed-note private key: name and Ed25519 seed       0600
    log.command          instead of log.skey: a command that signs the log         0600
    log.vkey             beside log.command: the C2SP public key that it signs with
    watermark.key        the watermark's secret, 64 hex digits                     0600
    certificates.pem     signing certificate, then its issuers, without the root
    certificate.key      the certificate's private key, PEM, not encrypted         0600
    certificate.command  instead of certificate.key: a command that signs          0600
    timestamp.url        if there: an RFC 3161 time stamp authority to ask for each picture
    DEVELOPMENT          there when `renderfarm keys init` made the set
    trust/*.vkey         C2SP signed-note public keys, one a line
    trust/*.pem          root certificates
    trust/*.markkey      watermark secrets, one a line; symmetric, so 0600
    trust/*.witness      C2SP public keys of witnesses (cosignature/v1), one a line
    trust/*.person       C2SP public keys of people whose statements count, one a line

A person's own key is one file, NAME.skey, as log.skey is written (0600), with NAME.person beside it for trust folders.

A private file that others may read is refused, because a key that leaked proves nothing; the group may read, as
Kubernetes mounts secrets so. No message repeats any part of a file.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from renderfarm import notes
from renderfarm.cache import home
from renderfarm.errors import KeysError
from renderfarm.watermark.types import MarkKey

LOG_KEY, MARK_KEY = "log.skey", "watermark.key"
LOG_COMMAND, LOG_PUBLIC = "log.command", "log.vkey"
CHAIN, CHAIN_KEY = "certificates.pem", "certificate.key"
CHAIN_COMMAND, TIME_STAMPS = "certificate.command", "timestamp.url"
DEVELOPMENT, TRUST = "DEVELOPMENT", "trust"
INIT_REMEDY = "make a development set with `renderfarm keys init DIR`, or name the right folder"
FILE_BYTES_MAX = 1 << 20
MARK_BYTES = 32


def default_folder() -> Path:
    """$RENDERFARM_KEYS, else renderfarm/keys under $XDG_CONFIG_HOME or ~/.config."""
    named = os.environ.get("RENDERFARM_KEYS")
    if named:
        return Path(named).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else (home() or Path(os.devnull)) / ".config") / "renderfarm" / "keys"


def read(path: Path, private: bool = False) -> str:
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


def lines(path: Path, private: bool = False) -> list[str]:
    """The lines of a small ASCII file that are neither empty nor a comment. Raises: KeysError, as `read` does."""
    return [line for line in (raw.strip() for raw in read(path, private).splitlines()) if line and not line.startswith("#")]


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """A new file; whoever makes the set syncs it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)


def parse_public(text: str, where: str, kind: bytes = notes.ED25519) -> tuple[str, Ed25519PublicKey]:
    """Name and key of a log or a person, or of a witness (`notes.COSIGNATURE`). Raises: KeysError."""
    try:
        return notes.parse_verifier_key(text, kind)
    except notes.NoteMalformed as error:
        raise KeysError(f"this is no key of a signed note: {error}", where, "copy the whole line again") from None


def parse_private(text: str, where: str) -> tuple[str, Ed25519PrivateKey]:
    """Name and key of a log or a person. Raises: KeysError."""
    try:
        return notes.parse_signer_key(text)
    except notes.NoteMalformed as error:
        remedy = f"restore the file from your backup; or {INIT_REMEDY}"
        raise KeysError(f"this is no private key of a signed note: {error}", where, remedy) from None


def parse_mark(text: str, where: str) -> MarkKey:
    """The watermark's key. Shorter ones would do for `MarkKey`, but here they are a file that was cut off. Raises: KeysError."""
    if len(text.strip()) != 2 * MARK_BYTES:
        raise KeysError(f"a watermark key has {2 * MARK_BYTES} hex digits", where, "restore the file from your backup")
    try:
        return MarkKey.from_hex(text)
    except KeysError as error:
        raise KeysError(error.what, where, error.remedy) from None
