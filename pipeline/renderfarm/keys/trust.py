"""What an auditor trusts: log keys, root certificates, watermark keys, keys of witnesses and of people. It never comes from an output.

Rotation: sign with the new set, and keep the old files beside the new ones in the trust folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from renderfarm import notes
from renderfarm.errors import KeysError
from renderfarm.keys import files
from renderfarm.keys.certificates import load_certificates
from renderfarm.notes.statement import PERSON, is_person
from renderfarm.watermark.types import MarkKey


@dataclass(frozen=True, slots=True)
class Trust:
    """What an auditor believes: log keys by their note key name, root certificates, watermark keys; keys of witnesses and of people.

    Of a person with several keys, the further ones stand under name, `+`, key id (`notes.statement.known_key`).

    `folder`: where all of it was read from, None for one that was put together otherwise.
    """

    log_keys: Mapping[str, Ed25519PublicKey]
    anchors_pem: bytes = field(repr=False)
    mark_keys: tuple[MarkKey, ...] = field(repr=False)
    witness_keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    person_keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    folder: Path | None = field(init=False, default=None, compare=False, repr=False)

    @property
    def people(self) -> Mapping[str, Ed25519PublicKey]:
        """Keys whose statements count: those of people, and those of the log, with which an operator speaks who has no other."""
        return {**self.log_keys, **self.person_keys}


def load_trust(folder: Path) -> Trust:
    """What a trust folder, or the one inside a key set's folder, says.

    Anchors and watermark keys may be absent: less can be checked then. A rotated log key has a new name, as C2SP
    signed-note advises; a person's keys may have one. Raises: KeysError when there is no log key, two others have one name, or a file is
    malformed.
    """
    folder = folder.expanduser().absolute()
    if (folder / files.TRUST).is_dir():
        folder = folder / files.TRUST
    if not folder.is_dir():
        raise KeysError("there is no trust folder here", str(folder), "name the `trust` folder of a key set")
    log_keys = _note_keys(folder, "*.vkey", "log key", notes.ED25519)
    if not log_keys:
        remedy = "copy log.vkey from the key set's trust folder"
        raise KeysError("no log key (*.vkey) in this trust folder", str(folder), remedy)
    anchors = ""
    for path in sorted(folder.glob("*.pem")):
        text = files.read(path)
        load_certificates(text.encode(), str(path))
        anchors += text.rstrip("\n") + "\n"
    marks = {key.key_id: key for key in (files.parse_mark(line, where) for line, where in _lines(folder, "*.markkey", private=True))}
    witnesses = _note_keys(folder, "*.witness", "witness key", notes.COSIGNATURE)
    people = _people(folder)
    if twice := sorted(set(people) & set(log_keys)):
        raise KeysError(f"a person's key and a log key are both named {twice[0]!r}", str(folder), "make the person a key of its own")
    trust = Trust(log_keys, anchors.encode(), tuple(marks.values()), witnesses, people)
    object.__setattr__(trust, "folder", folder)
    return trust


def load_default_trust() -> Trust | None:
    """What the user's own configuration trusts, or None where there is none. Raises: KeysError when it is malformed."""
    folder = files.default_folder() / files.TRUST
    return load_trust(folder) if folder.is_dir() else None


def mark_keys(folder: Path) -> tuple[MarkKey, ...]:
    """The watermark keys of a key set: what it marks with, then what its trust folder keeps. Raises: KeysError."""
    own = folder.expanduser() / files.MARK_KEY
    now = (files.parse_mark(files.read(own, private=True), str(own)),) if own.exists() else ()
    return (*now, *load_trust(folder).mark_keys)


def _note_keys(folder: Path, pattern: str, what: str, kind: bytes) -> dict[str, Ed25519PublicKey]:
    found: dict[str, Ed25519PublicKey] = {}
    for line, where in _lines(folder, pattern):
        name, public = files.parse_public(line, where, kind)
        if found.setdefault(name, public) != public:
            raise KeysError(f"two {what}s are named {name!r}", where, f"give each {what} a name of its own")
    return found


def _people(folder: Path) -> dict[str, Ed25519PublicKey]:
    """Keys of people by name, further ones of a name by name, `+`, id: who changes their key leaves the old one for what it signed."""
    found: dict[str, Ed25519PublicKey] = {}
    for line, where in _lines(folder, "*.person"):
        name, public = files.parse_public(line, where, notes.ED25519)
        if name.startswith(PERSON) and not is_person(name):
            remedy = "`renderfarm keys person NAME` makes a key with its name as it should be"
            raise KeysError(f"not how a person's key is named: {name[:60]!r}", where, remedy)
        if found.setdefault(name, public) != public:
            found[f"{name}+{notes.key_id(name, public).hex()}"] = public
    return found


def _lines(folder: Path, pattern: str, private: bool = False) -> Iterator[tuple[str, str]]:
    """(line, path) of each line of the files that fit."""
    return ((line, str(path)) for path in sorted(folder.glob(pattern)) for line in files.lines(path, private))
