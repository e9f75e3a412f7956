"""Pairs of 64-bit hashes that are near each other, found by an index over chosen bits and not by trying all pairs.

Locality-sensitive hashing by bit sampling (Indyk and Motwani 1998): in each of some tables entries are sorted by a few
bits of their hash; what agrees in all of those is compared in full.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

TABLES = 24
_AT_ONCE = 1 << 21  # comparisons held in memory
_CROWD = 2000  # entries of one key; beyond it the key says nothing (blank or test images) and is passed over


def near(
    queries: np.ndarray, entries: np.ndarray, radius: int, *, bits: int | None = None, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Queries and entries that differ in few bits.

    Parameters
    ----------
    queries : uint64 [Q]
    entries : uint64 [E]
    radius : int
        Bits that may differ.
    bits : int, optional
        Of a table's key; None: as many as keep the comparisons at about a million a table. A pair that differs in a
        share p of its bits is met with probability 1 - (1 - (1 - p) ** bits) ** `TABLES`.
    seed : int
        Of the choice of bits.

    Yields
    ------
    query, entry : int64 [K]
        Indices; a pair may come again from another table.
    distance : uint8 [K]
        Bits in which they differ, at most `radius`.
    """
    if not len(queries) or not len(entries):
        return
    bits = bits or int(np.clip(np.log2(len(queries) * float(len(entries))) - 20, 8, 24))
    random = np.random.default_rng(seed)
    for _ in range(TABLES):
        # bit 7 of the first byte is the constant coefficient and says nothing
        chosen = random.permutation([bit for bit in range(64) if bit != 7])[:bits]
        keys = _key(entries, chosen)
        order = np.argsort(keys, kind="stable")
        keys, wanted = keys[order], _key(queries, chosen)
        first = np.searchsorted(keys, wanted, "left")
        count = np.searchsorted(keys, wanted, "right") - first
        count[count > _CROWD] = 0
        yield from _compared(queries, entries, order, first, count, radius)


def _compared(queries, entries, order, first, count, radius):
    ends = np.cumsum(count)
    start = 0
    while start < len(queries):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _AT_ONCE, "right")))
        number = count[start:stop]
        total = int(number.sum())
        if total:
            query = np.repeat(np.arange(start, stop), number)
            within = np.arange(total) - np.repeat(np.cumsum(number) - number, number)
            entry = order[np.repeat(first[start:stop], number) + within]
            distance = np.bitwise_count(queries[query] ^ entries[entry])
            keep = distance <= radius
            yield query[keep], entry[keep], distance[keep]
        start = stop


def _key(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    key = np.zeros(len(values), np.uint32)
    for bit in chosen:
        key = (key << np.uint32(1)) | ((values >> np.uint64(bit)) & np.uint64(1)).astype(np.uint32)
    return key
