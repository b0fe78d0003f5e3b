"""What an index shows, by the outsider's own functions: all rows that speak of an image, or that none does; nobody can hide one."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

import pytest

from renderfarm.log import index
from renderfarm.log.tree import inclusion_proof, leaf_hash, tree_root
from renderfarm.records.tables import to_table
from renderfarm.schema import Record, Subject
from tests.formats import EXAMPLES

Shown = list[tuple[int, bytes, Sequence[bytes]]]


@pytest.fixture(scope="module")
def outsider() -> Iterator[ModuleType]:
    """`evidence.py` of the examples."""
    path = EXAMPLES / "evidence.py"
    module = ModuleType("outsiders_evidence")
    sys.modules[module.__name__] = module  # where dataclasses look for their module
    exec(compile(path.read_text("utf-8"), path, "exec"), module.__dict__)
    yield module
    del sys.modules[module.__name__]


def pages_over(ids: Sequence[str], subjects: Sequence[tuple[str, ...]]) -> list[bytes]:
    about = [tuple(Subject(name, "0" * 64) for name in names) for names in subjects]
    return index.pages(to_table([Record("superseded", image_id=name, subjects=said) for name, said in zip(ids, about, strict=True)]))


def shown(pages: Sequence[bytes], numbers: Sequence[int]) -> Shown:
    leaves = [leaf_hash(page) for page in pages]
    return [(number, pages[number], inclusion_proof(leaves, number)) for number in numbers]


def around(pages: Sequence[bytes], image_id: str) -> list[int]:
    """The pages that show what a part says of an image: those with its entries, and what stands before and behind them."""
    image = bytes.fromhex(image_id)
    first = max((n for n, page in enumerate(pages) if page[:16] < image), default=0)
    last = min((n for n, page in enumerate(pages) if page[-20:-4] > image), default=len(pages) - 1)
    return list(range(first, last + 1))


@pytest.mark.parametrize("seed", range(8))
def test_all_rows_of_an_image_are_shown_or_that_there_is_none(seed: int, outsider: ModuleType) -> None:
    rng = random.Random(seed)
    names = [f"{rng.getrandbits(128):032x}" for _ in range(rng.choice((1, 5, 40)))]
    ids = [rng.choice(names) for _ in range(rng.choice((1, 17, 150)))]
    subjects = [tuple(rng.choices(names, k=rng.choice((0, 0, 0, 3)))) for _ in ids]
    pages = pages_over(ids, subjects)
    root = tree_root([leaf_hash(page) for page in pages])
    for name in {*names, *(f"{rng.getrandbits(128):032x}" for _ in range(20)), "0" * 32, "f" * 32}:
        rows = [row for row, (one, more) in enumerate(zip(ids, subjects, strict=True)) if name in (one, *more)]
        assert outsider.rows_of(name, shown(pages, around(pages, name)), len(pages), root) == rows


def test_a_part_without_images_shows_that_there_is_none(outsider: ModuleType) -> None:
    assert pages_over(["not an id"], [()]) == []
    assert outsider.rows_of("0" * 32, [], 0, tree_root([])) == []
    with pytest.raises(outsider.Fault, match="no page is shown"):
        outsider.rows_of("0" * 32, [], 0, bytes(32))


def test_nobody_hides_a_row_whatever_the_number_of_pages_that_is_claimed(outsider: ModuleType) -> None:
    """Neither with fewer pages, nor with true pages under false numbers of a tree of a false size."""
    ids = [f"{image:032x}" for image in range(0, 56) for _ in range(2)]  # seven pages, eight images each
    pages = pages_over(ids, [()] * len(ids))
    leaves = [leaf_hash(page) for page in pages]
    assert len(pages) == 7
    root = tree_root(leaves)
    truth = {f"{image:032x}": [2 * image, 2 * image + 1] if image < 56 else [] for image in (0, 3, 8, 30, 55, 56)}
    held = 0
    for claimed, first, count in itertools.product(range(1, 20), range(20), (1, 2)):
        for true_first in range(7 - count + 1):
            page = [(first + n, pages[true_first + n], inclusion_proof(leaves, true_first + n)) for n in range(count)]
            for name, rows in truth.items():
                try:
                    found = outsider.rows_of(name, page, claimed, root)
                except outsider.Fault:
                    continue
                held += 1
                assert found == rows, (claimed, first, true_first, name)
    assert held > len(truth)
