"""Merkle trees and checkpoints, against published vectors, pymerkle, and hypothesis."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from renderfarm.log.parts import PartDamaged
from renderfarm.log.tree import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    part_leaf,
    root_from_inclusion,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from renderfarm.notes import checkpoint as notes
from renderfarm.notes.checkpoint import Checkpoint, NoteMalformed, NoteUntrusted, Signer

# The test vectors of the Certificate Transparency project for RFC 6962 (certificate-transparency, merkle_tree_test.cc).
CT_INPUTS = [
    bytes.fromhex(item) for item in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION = {  # (leaf, size): path
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCY = {  # (old size, new size): path
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def _hex(items: tuple[bytes, ...]) -> list[str]:
    return [item.hex() for item in items]


def _leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def test_published_roots() -> None:
    leaves = [leaf_hash(item) for item in CT_INPUTS]
    assert [tree_root(leaves[: size + 1]).hex() for size in range(8)] == CT_ROOTS
    assert tree_root([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(("place", "path"), CT_INCLUSION.items())
def test_published_inclusion_paths(place: tuple[int, int], path: list[str]) -> None:
    index, size = place
    leaves = [leaf_hash(item) for item in CT_INPUTS[:size]]
    assert _hex(inclusion_proof(leaves, index)) == path
    assert root_from_inclusion(leaves[index], index, size, [bytes.fromhex(item) for item in path]) == tree_root(leaves)


@pytest.mark.parametrize(("sizes", "path"), CT_CONSISTENCY.items())
def test_published_consistency_paths(sizes: tuple[int, int], path: list[str]) -> None:
    old, new = sizes
    leaves = [leaf_hash(item) for item in CT_INPUTS[:new]]
    assert _hex(consistency_proof(leaves, old)) == path
    roots = bytes.fromhex(CT_ROOTS[old - 1]), bytes.fromhex(CT_ROOTS[new - 1])
    assert verify_consistency(old, new, *roots, [bytes.fromhex(item) for item in path])


def test_pymerkle_agrees() -> None:
    from pymerkle import InmemoryTree

    oracle = InmemoryTree(algorithm="sha256")
    frontier, data = Frontier(), [f"part {number}".encode() for number in range(40)]
    for item in data:
        oracle.append_entry(item)
        frontier = frontier.append(leaf_hash(item))
        assert frontier.root() == oracle.get_root()
    assert tree_root([leaf_hash(item) for item in data]) == oracle.get_root()
    assert tree_root([leaf_hash(item) for item in data[:17]]) == oracle.get_root(17)


def test_every_proof_of_small_trees_verifies_and_no_other_place_does() -> None:
    for size in range(1, 18):
        leaves = _leaves(size)
        root, frontier = tree_root(leaves), Frontier()
        for index, leaf in enumerate(leaves):
            proof = inclusion_proof(leaves, index)
            assert verify_inclusion(leaf, index, size, proof, root)
            others = [other for other in range(size) if other != index]
            assert not any(verify_inclusion(leaf, other, size, proof, root) for other in others)
            if index == size - 1:
                assert proof == tuple(reversed(frontier.hashes))
            frontier = frontier.append(leaf)
        for old in range(1, size + 1):
            assert verify_consistency(old, size, tree_root(leaves[:old]), root, consistency_proof(leaves, old))


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 300), st.data())
def test_an_edited_proof_fails(size: int, data: st.DataObject) -> None:
    leaves = _leaves(size)
    root = tree_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size - 1))
    for kind in ("inclusion", "consistency"):
        proof = list(inclusion_proof(leaves, index) if kind == "inclusion" else consistency_proof(leaves, old))
        edit = data.draw(st.sampled_from(["flip", "drop", "repeat", "swap"]))
        place = data.draw(st.integers(0, len(proof) - 1))
        if edit == "flip":
            proof[place] = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        elif edit == "drop":
            del proof[place]
        elif edit == "repeat":
            proof.insert(place, proof[place])
        elif len(proof) > 1:
            proof = proof[1:] + proof[:1]
        else:
            continue
        if kind == "inclusion":
            assert not verify_inclusion(leaves[index], index, size, proof, root)
        else:
            assert not verify_consistency(old, size, tree_root(leaves[:old]), root, proof)


def test_hostile_proofs_are_false_not_slow() -> None:
    million = [bytes(32)] * 1_000_000
    assert not verify_inclusion(bytes(32), 0, 2, million, bytes(32))
    assert not verify_consistency(1, 2, bytes(32), bytes(32), million)
    assert not verify_consistency(0, 2, EMPTY_ROOT, bytes(32), [])
    assert not verify_consistency(3, 2, bytes(32), bytes(32), [])
    assert not verify_consistency(3, 5, bytes(32), bytes(32), [])
    assert not verify_consistency(2, 2, bytes(32), bytes(32), [bytes(32)])
    assert not verify_inclusion(bytes(32), 5, 3, [], bytes(32))
    assert not verify_inclusion(bytes(32), 0, 2, [bytes(31)], bytes(32))


def test_what_no_tree_has() -> None:
    with pytest.raises(ValueError, match="no leaf 3 among 3"):
        inclusion_proof(_leaves(3), 3)
    with pytest.raises(ValueError, match="no tree of 0"):
        consistency_proof(_leaves(3), 0)
    for size, hashes in ((3, (bytes(32),)), (1, (bytes(31),)), (-1, ())):
        with pytest.raises(ValueError):
            Frontier(size, hashes)


def test_a_part_leaf_depends_on_each_of_its_fields() -> None:
    leaves = {part_leaf(1, 11, bytes(32)), part_leaf(11, 1, bytes(32)), part_leaf(1, 1, bytes(32))}
    assert len(leaves | {part_leaf(1, 11, bytes([1]) * 32)}) == 4
    text = f"renderfarm-part/1\n1\n11\n{'00' * 32}\n"
    assert part_leaf(1, 11, bytes(32)) == hashlib.sha256(b"\0" + text.encode()).digest()
    assert node_hash(bytes(32), bytes(32)) == hashlib.sha256(b"\1" + bytes(64)).digest()


# Key, text and signature of the documentation of golang.org/x/mod/sumdb/note, which C2SP's signed-note describes.
NEUMANN_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
NEUMANN_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NEUMANN_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
# The example of C2SP's tlog-checkpoint.
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+"
    "zyWE+xeMcTOAYQ8=\n"
).encode()

LOG = Signer.of("renderfarm/test", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WITNESS = Signer.of("witness.example", Ed25519PrivateKey.from_private_bytes(bytes([7] * 32)))
HEAD = Checkpoint("renderfarm/mugs", 43, bytes(range(32)))


def test_the_published_note_vector() -> None:
    name, public_key = notes.parse_verifier_key(NEUMANN_KEY)
    assert name == "PeterNeumann" and notes.verifier_key(name, public_key) == NEUMANN_KEY
    signer = Signer.of(name, Ed25519PrivateKey.from_private_bytes(NEUMANN_SEED))
    line = base64.b64encode(notes.key_id(name, signer.public_key) + signer.sign(NEUMANN_TEXT)).decode()
    assert line == NEUMANN_SIGNATURE


def test_the_published_checkpoint() -> None:
    head = notes.parse(SOFA)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    assert base64.b64encode(head.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert head.signatures[0].key_id.hex() == "033de0ae" and len(head.signatures[0].value) == 64
    assert head.to_bytes() == SOFA


def test_sign_write_parse_verify() -> None:
    signed = notes.sign(notes.sign(HEAD, WITNESS), LOG)
    again = notes.parse(signed.to_bytes())
    assert again == signed and again.text().startswith(b"renderfarm/mugs\n43\n")
    assert notes.verify(again, {LOG.name: LOG.public_key}) == LOG.name
    assert notes.verify(again, {WITNESS.name: WITNESS.public_key}) == WITNESS.name


def test_who_is_not_believed() -> None:
    signed = notes.sign(HEAD, LOG)
    with pytest.raises(NoteUntrusted, match="no signature by a known key; signed by renderfarm/test"):
        notes.verify(signed, {LOG.name: WITNESS.public_key})
    with pytest.raises(NoteUntrusted, match="signed by nobody"):
        notes.verify(HEAD, {LOG.name: LOG.public_key})
    for edited in (
        dataclasses.replace(signed, size=44),
        dataclasses.replace(signed, root=bytes(32)),
        dataclasses.replace(signed, origin="renderfarm/cups"),
    ):
        with pytest.raises(NoteUntrusted, match="the signature by renderfarm/test is bad"):
            notes.verify(edited, {LOG.name: LOG.public_key})


def test_one_bad_signature_by_a_known_key_spoils_the_note() -> None:
    signed = notes.sign(notes.sign(HEAD, LOG), WITNESS)
    bad = dataclasses.replace(signed.signatures[1], value=bytes(64))
    spoiled = dataclasses.replace(signed, signatures=(signed.signatures[0], bad))
    with pytest.raises(NoteUntrusted, match=r"by witness\.example is bad"):
        notes.verify(spoiled, {LOG.name: LOG.public_key, WITNESS.name: WITNESS.public_key})


GOOD = notes.sign(HEAD, LOG).to_bytes()


@pytest.mark.parametrize(
    ("note", "word"),
    [
        (b"", "no signature"),
        (GOOD[:-1], "no signature"),
        (GOOD.replace(b"\n43\n", b"\n043\n"), "size"),
        (GOOD.replace(b"\n43\n", b"\n-43\n"), "size"),
        (GOOD.replace(b"\n43\n", b"\n99999999999\n"), "size"),
        (GOOD.replace(b"\n43\n", "\n٤٣\n".encode()), "size"),
        (GOOD.replace(b"\n43\n", b"\n43\nmore\n"), "three lines"),
        (GOOD.replace(b"renderfarm/mugs\n", b"\n"), "origin"),
        (GOOD.replace(b"renderfarm/mugs\n", b"a\x00\n"), "control"),
        (GOOD.replace(b"renderfarm/mugs\n", b"\xff\n"), "UTF-8"),
        (GOOD.replace(b"AAECAwQF", b"AAECAwQ"), "base64|32 bytes"),
        (GOOD.replace("\u2014".encode(), b"-"), "em dash"),
        (GOOD.replace(b"renderfarm/test ", b"a+b "), "key name"),
        (GOOD.replace(b"renderfarm/test ", b"renderfarm/test  "), "base64"),
        (GOOD + GOOD.split(b"\n\n")[1] * 40, "41 signatures"),
        (b"a" * (1 << 20), "bytes are too many"),
        (b"a\n1\n" + base64.b64encode(bytes(31)) + b"\n\n\xe2\x80\x94 k AAAAAAA=\n", "32 bytes"),
        (b"a\n1\n" + base64.b64encode(bytes(32)) + b"\n\n\xe2\x80\x94 k AAAAAB==\n", "canonical|base64"),
        (b"a\n1\n" + base64.b64encode(bytes(32)) + b"\n\n\xe2\x80\x94 k AAAA\n", "signature line"),
    ],
)
def test_notes_that_are_not_read(note: bytes, word: str) -> None:
    with pytest.raises(NoteMalformed, match=word):
        notes.parse(note)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "name"),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "id does not fit"),
        ("Peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "id does not fit"),
        ("PeterNeumann+c74f20a3+AhpC", "no Ed25519"),
        ("a" * 5000, "name"),
    ],
)
def test_verifier_keys_that_are_not_read(text: str, word: str) -> None:
    with pytest.raises(NoteMalformed, match=word):
        notes.parse_verifier_key(text)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.integers(0, len(GOOD) * 8 - 1))
def test_any_bytes_parse_or_are_refused_and_no_flip_is_believed(noise: bytes | int) -> None:
    if isinstance(noise, int):
        data = bytearray(GOOD)
        data[noise // 8] ^= 1 << noise % 8
        noise = bytes(data)
    try:
        head = notes.parse(noise)
    except NoteMalformed:
        return
    assert notes.parse(head.to_bytes()) == head
    with pytest.raises(NoteUntrusted):
        notes.verify(head, {LOG.name: LOG.public_key})


def test_origins() -> None:
    assert notes.origin("mugs") == "renderfarm/mugs"
    assert notes.origin("a b+c/\n") == "renderfarm/a%20b%2Bc%2F%0A"


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(PartDamaged("part-missing", "key", "gone")))
    assert (error.finding, error.key, error.reason) == ("part-missing", "key", "gone")
    assert isinstance(LOG.public_key, Ed25519PublicKey)
