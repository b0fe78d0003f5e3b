"""A person's own key: made as one private file, with a line beside it that goes into trust folders; read to sign statements with."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm import notes
from renderfarm.errors import KeysError
from renderfarm.keys.files import parse_private, read, write
from renderfarm.notes import Signer
from renderfarm.notes.statement import person_key_name
from renderfarm.storage import segment
from renderfarm.storage.local import make_folder, sync

NAME_CHARS_MAX = 120
PRIVATE, PUBLIC = ".skey", ".person"


def make_person(folder: Path, name: str) -> tuple[Path, Path]:
    """A new key for a person: the private file, and the line for trust folders. Raises: KeysError where one of that name lies already."""
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise KeysError(f"not a usable name: {name[:40]!r}", "keys person", f"write 1 to {NAME_CHARS_MAX} printable characters")
    folder, key, key_name = folder.expanduser().absolute(), Ed25519PrivateKey.generate(), person_key_name(name)
    private, public = (folder / f"{segment(name)}{suffix}" for suffix in (PRIVATE, PUBLIC))
    try:
        make_folder(folder)
        write(private, notes.signer_key(key_name, key) + "\n")  # a crash before the next line leaves a key that nobody trusts yet
        write(public, notes.verifier_key(key_name, key.public_key()) + "\n", 0o644)
        for path in (private, public, folder):
            sync(path)
    except FileExistsError as error:
        what = "there is a key of this name already; keys are never overwritten"
        raise KeysError(what, str(error.filename), "name a new folder") from None
    except OSError as error:
        raise KeysError(f"cannot make a key here: {error.strerror}", str(folder), "name a folder you may write") from error
    return private, public


def load_person(path: Path) -> Signer:
    """Who signs with this private file. Raises: KeysError for a file that is missing, malformed or open to others."""
    return Signer.of(*parse_private(read(path.expanduser(), private=True), str(path)))
