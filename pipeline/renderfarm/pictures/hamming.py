"""Near hashes of 256 bits among millions, exactly: multi-index hashing (Norouzi, Punjani and Fleet, 2012) in NumPy.

Each hash is cut into 16 words of 16 bits. Where two hashes differ in at most 31 bits, one of the words differs in at most one; so a query
looks into 16 x 17 buckets and compares only what lies there. New hashes wait in a tail that is compared one by one, and are sorted into
buckets when the tail has grown by a quarter. Farther than 31 bits, everything is compared. About 100 bytes a hash.

Hashes much farther away are found beside, at no further cost, where one of the words differs in at most one bit: that depends on the two
hashes alone, never on what else is stored. Of pairs 47 bits apart 98 of 100 have such a word, of pairs 76 bits apart a half.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
"""uint64 (N, 4)."""
WORDS, REACH = 16, 31
TAIL_MIN, TAIL_SHARE = 16384, 4
_FLIPS = np.array([0, *(1 << bit for bit in range(16))], np.int64)


class HammingIndex:
    """Hashes by their places 0, 1, 2, … in the order in which they came. One process, no lock."""

    def __init__(self) -> None:
        self._stored: Hashes = np.empty((1024, 4), np.uint64)
        self._count = 0
        self._sealed = 0
        self._starts = np.zeros((WORDS, (1 << 16) + 1), np.int64)
        self._order = np.empty((WORDS, 0), np.int32)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, places: npt.NDArray[np.int64]) -> Hashes:
        """The hashes at these places."""
        return self._stored[: self._count][places]

    def extend(self, many: Hashes) -> None:
        """Appends hashes."""
        need = self._count + len(many)
        if need > len(self._stored):
            grown = np.empty((max(need, 2 * len(self._stored)), 4), np.uint64)
            grown[: self._count] = self._stored[: self._count]
            self._stored = grown
        self._stored[self._count : need] = many
        self._count = need
        if need - self._sealed > TAIL_MIN + self._sealed // TAIL_SHARE:
            self._seal()

    def _seal(self) -> None:
        """Sorts all hashes into buckets, one word after the other."""
        words = _words(self._stored[: self._count])
        self._order = np.empty((WORDS, self._count), np.int32)
        for at in range(WORDS):
            self._order[at] = np.argsort(words[:, at], kind="stable")
            np.cumsum(np.bincount(words[:, at], minlength=1 << 16), out=self._starts[at, 1:])
        self._sealed = self._count

    def search(self, forms: Hashes, radius: int, far: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Places int64 (N), ascending, of hashes within `radius` bits of any form, uint64 (F, 4), and all their distances (N, F). With them
        those within `far` bits of the first form that share a word with it but for one bit."""
        if radius > REACH:
            near = np.arange(self._count)
        else:
            near = np.concatenate([self._buckets(forms, radius, far), np.arange(self._sealed, self._count)])
        found = distances(self._stored[near], forms)
        close = np.asarray((found <= radius).any(axis=1))
        beside = np.flatnonzero(~close & (found[:, 0] <= far))
        words = np.bitwise_count(_words(self._stored[near[beside]]) ^ _words(forms[:1]))
        close[beside[(words <= 1).any(axis=1)]] = True
        return near[close], found[close]

    def _buckets(self, forms: Hashes, radius: int, far: int) -> npt.NDArray[np.int64]:
        """The sorted hashes that are near one of the forms, or within `far` bits of the first, each place once."""
        if not self._sealed:
            return np.empty(0, np.int64)
        keys = _words(forms)[:, :, None] ^ _FLIPS  # (F, 16, 17)
        at = np.arange(WORDS)[None, :, None]
        first = self._starts[at, keys]
        sizes = (self._starts[at, keys + 1] - first).ravel()
        ends = np.cumsum(sizes)
        inside = np.arange(int(ends[-1])) + np.repeat((first + at * self._sealed).ravel() - ends + sizes, sizes)
        places = self._order.ravel()[inside]
        asked = np.repeat(np.repeat(np.arange(len(forms)), WORDS * len(_FLIPS)), sizes)
        gap = np.bitwise_count(self._stored[places] ^ forms[asked]).sum(axis=1, dtype=np.int64)
        return np.unique(places[(gap <= radius) | ((asked == 0) & (gap <= far))]).astype(np.int64)


def distances(stored: Hashes, forms: Hashes) -> npt.NDArray[np.int64]:
    """Hamming distances int64 (N, F) of uint64 (N, 4) to uint64 (F, 4), a word at a time so that no (N, F, 4) array is made."""
    total = np.zeros((len(stored), len(forms)), np.int64)
    for word in range(stored.shape[1]):
        total += np.bitwise_count(stored[:, word, None] ^ forms[None, :, word])
    return total


def _words(hashes: Hashes) -> npt.NDArray[np.int64]:
    """int64 (N, 16) of 0..65535."""
    return np.ascontiguousarray(hashes).view(np.uint16).astype(np.int64)
