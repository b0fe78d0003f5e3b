"""The error correction: the extended binary BCH code (128, 64, 22) with ordered-statistics decoding of soft values.

The generator polynomial comes from the cyclotomic cosets of GF(2^7) (Lin & Costello, *Error Control Coding*, 2nd ed.,
6.1): t = 10, degree 63; one parity bit extends it. Decoding is Fossorier & Lin, "Soft-decision decoding of linear
block codes based on ordered statistics", IEEE Trans. IT 41(5), 1995: Gaussian elimination on the most reliable
columns, then every error pattern of up to `order` bits there. Patterns of two and three bits are scored by matrix
products in the +-1 domain instead of being re-encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

N = 128
K = 64
_FIELD_POLYNOMIAL = 0b10001001  # x^7 + x^3 + 1, primitive
_T = 10

Bits = NDArray[np.uint8]
Floats = NDArray[np.float32]


def _minimal_polynomials_product() -> int:
    """The generator polynomial of BCH(127, 64), bit i = coefficient of x^i."""
    exp = [1]
    for _ in range(126):
        value = exp[-1] << 1
        exp.append(value ^ _FIELD_POLYNOMIAL if value & 128 else value)
    log = {value: power for power, value in enumerate(exp)}
    generator, covered = 1, set[int]()
    for power in range(1, 2 * _T):
        if power in covered:
            continue
        coset = {power * 2**i % 127 for i in range(7)}
        covered |= coset
        poly = [1]  # product of (x + alpha^c), coefficients in GF(2^7), lowest first
        for c in coset:
            shifted, scaled = [0, *poly], [0 if p == 0 else exp[(log[p] + c) % 127] for p in poly] + [0]
            poly = [a ^ b for a, b in zip(shifted, scaled, strict=True)]
        minimal = sum(bit << i for i, bit in enumerate(poly))
        generator = _multiply(generator, minimal)
    return generator


def _multiply(a: int, b: int) -> int:
    """Product of two GF(2) polynomials."""
    out = 0
    while b:
        if b & 1:
            out ^= a
        a, b = a << 1, b >> 1
    return out


@cache
def generator() -> Bits:
    """uint8 (64, 128): systematic generator matrix [I | P | parity]."""
    g = _minimal_polynomials_product()
    assert g.bit_length() == N - K, "BCH(127, 64) has a generator of degree 63"
    rows = np.zeros((K, N), np.uint8)
    for i in range(K):
        remainder = 1 << (N - 1 - K + i)
        while remainder.bit_length() >= g.bit_length():
            remainder ^= g << (remainder.bit_length() - g.bit_length())
        rows[i, i] = 1
        rows[i, K : N - 1] = [remainder >> j & 1 for j in range(N - 1 - K)]
    rows[:, N - 1] = rows.sum(1) % 2
    rows.setflags(write=False)
    return rows


def encode(word: bytes) -> Bits:
    """uint8 (128,) of 0 and 1: the codeword of 8 bytes."""
    bits = np.unpackbits(np.frombuffer(word, np.uint8))
    assert bits.shape == (K,)
    out: Bits = np.bitwise_xor.reduce(generator()[bits == 1], axis=0, initial=0)
    return out


def candidates(soft: Floats, order: int, keep: int = 8) -> Iterator[Bits]:
    """Codewords near the soft values (128,; positive = 0), the best `keep` of each order 0..`order` (<= 3).

    Yields uint8 (128,). The first 64 bits of each are the word.
    """
    basis, positions = _reliable_basis(soft)
    sign = 1.0 - 2.0 * basis.astype(np.float32)
    hard = (soft[positions] < 0).astype(np.int64)
    base: Bits = (hard @ basis % 2).astype(np.uint8)
    yield base
    w = soft * (1.0 - 2.0 * base.astype(np.float32))
    flipped = sign * w
    upper = np.triu_indices(K, 1)
    if order >= 1:
        single = flipped.sum(1)
        for i in np.argsort(-single)[:keep]:
            yield base ^ basis[i]
    if order >= 2:
        double = (flipped @ sign.T)[upper]
        for i in np.argpartition(-double, keep)[:keep]:
            yield base ^ basis[upper[0][i]] ^ basis[upper[1][i]]
    if order >= 3:
        yield from _order_three(base, basis, sign, flipped, keep)


def _order_three(base: Bits, basis: Bits, sign: Floats, flipped: Floats, keep: int) -> Iterator[Bits]:
    """The best `keep` of the 41,664 patterns of three flips, by one matrix product for each first flip."""
    best: list[tuple[float, int, int, int]] = []
    for i in range(K - 2):
        rest = sign[i + 1 :]
        three = (rest * flipped[i]) @ rest.T
        np.fill_diagonal(three, -np.inf)
        flat = int(three.argmax())
        j, k = divmod(flat, rest.shape[0])
        best.append((float(three[j, k]), i, i + 1 + j, i + 1 + k))
    for _, i, j, k in sorted(best, reverse=True)[:keep]:
        yield base ^ basis[i] ^ basis[j] ^ basis[k]


def _reliable_basis(soft: Floats) -> tuple[Bits, NDArray[np.intp]]:
    """uint8 (64, 128): the generator, systematic on its most reliable independent columns; their positions (64,)."""
    order = np.argsort(-np.abs(soft), kind="stable")
    packed = [int.from_bytes(np.packbits(row).tobytes(), "big") for row in generator()[:, order]]
    positions: list[int] = []
    row = 0
    for column in range(N):
        bit = 1 << (N - 1 - column)
        pivot = next((r for r in range(row, K) if packed[r] & bit), None)
        if pivot is None:
            continue
        packed[row], packed[pivot] = packed[pivot], packed[row]
        p = packed[row]
        packed = [v ^ p if v & bit and r != row else v for r, v in enumerate(packed)]
        positions.append(int(order[column]))
        row += 1
        if row == K:
            break
    flat = np.frombuffer(b"".join(v.to_bytes(N // 8, "big") for v in packed), np.uint8)
    basis = np.empty((K, N), np.uint8)
    basis[:, order] = np.unpackbits(flat).reshape(K, N)
    return basis, np.array(positions)
