"""Key sets and trust folders: what a renderer signs with, and what an auditor believes."""

from renderfarm.keys.files import TRUST, default_folder, parse_private, parse_public
from renderfarm.keys.keyset import KeySet, init, load, load_or_init_default
from renderfarm.keys.person import load_person, make_person
from renderfarm.keys.signing import SignerAway
from renderfarm.keys.trust import Trust, load_default_trust, load_trust, mark_keys

__all__ = [
    "TRUST",
    "KeySet",
    "SignerAway",
    "Trust",
    "default_folder",
    "init",
    "load",
    "load_default_trust",
    "load_or_init_default",
    "load_person",
    "load_trust",
    "make_person",
    "mark_keys",
    "parse_private",
    "parse_public",
]
