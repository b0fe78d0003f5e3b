"""The stream that version 1 of the mark was dealt by, in whole numbers: NumPy's PCG64 and `Generator.permutation` as they were in 2026.

NumPy does not promise that stream to other versions of itself (NEP 19), and marks of version 1 must read for ever. Nothing new
may use it. M. O'Neill, "PCG: A family of simple fast space-efficient statistically good algorithms for random number generation",
2014: the 128-bit generator with the output function XSL-RR, seeded by NumPy's `SeedSequence`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

_LOW_32, _LOW_64, _LOW_128 = (1 << 32) - 1, (1 << 64) - 1, (1 << 128) - 1
_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645


def permutations(seed: int, length: int) -> Iterator[list[int]]:
    """Permutations of 0..length-1, without end: Durstenfeld's shuffle, each place by masking and rejection. seed: 128 bits."""
    draws = _halves(seed)
    while True:
        order = list(range(length))
        for at in range(length - 1, 0, -1):
            other = at + 1
            while other > at:
                other = next(draws) & ((1 << at.bit_length()) - 1)
            order[at], order[other] = order[other], order[at]
        yield order


def _halves(seed: int) -> Iterator[int]:
    """The generator's 64-bit numbers as two of 32 bits each, the lower one first."""
    words = _seeded(seed)
    a, b, c, d = (words[i] | words[i + 1] << 32 for i in range(0, 8, 2))
    increment = (c << 64 | d) << 1 | 1
    state = (increment + (a << 64 | b)) * _MULTIPLIER + increment
    while True:
        state = (state * _MULTIPLIER + increment) & _LOW_128
        folded, turn = (state >> 64 ^ state) & _LOW_64, state >> 122
        turned = folded >> turn | folded << (64 - turn)
        yield turned & _LOW_32
        yield turned >> 32 & _LOW_32


def _seeded(seed: int) -> list[int]:
    """`SeedSequence(seed).generate_state(8)`."""
    stir, draw = _hash(0x43B0D7E5, 0x931E8875), _hash(0x8B51F9DD, 0x58F38DED)
    pool = [stir(seed >> shift & _LOW_32) for shift in range(0, 128, 32)]
    for source, target in itertools.permutations(range(4), 2):
        mixed = 0xCA01F9DD * pool[target] - 0x4973F715 * stir(pool[source]) & _LOW_32
        pool[target] = mixed ^ mixed >> 16
    return [draw(word) for word in pool + pool]


def _hash(constant: int, factor: int) -> Callable[[int], int]:
    """A hash of 32 bits whose constant moves on with each call."""

    def hashed(value: int) -> int:
        nonlocal constant
        mixed, constant = value ^ constant, constant * factor & _LOW_32
        mixed = mixed * constant & _LOW_32
        return mixed ^ mixed >> 16

    return hashed
