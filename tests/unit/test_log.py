"""Merkle trees, against published vectors, pymerkle, and hypothesis."""

from __future__ import annotations

import hashlib
import pickle

import pytest
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


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(PartDamaged("part-missing", "key", "gone")))
    assert (error.finding, error.key, error.reason) == ("part-missing", "key", "gone")
