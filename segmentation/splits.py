"""Which pairs train, validate and test: by patient or by source, with whole sources held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enhancement.errors import InputError

from .pairs import SPLITS, Pair


def split_pairs(
    pairs: Sequence[Pair],
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    *,
    by: str = "patient",
    holdout: Sequence[str] = (),
    seed: int = 0,
) -> list[str]:
    """Assign each pair to train, validation or test; all pairs of a patient (or source) go to one side.

    Parameters
    ----------
    pairs : sequence of Pair
    fractions : tuple of float
        Shares of the three; they sum to 1.
    by : {"patient", "source"}
        "patient" keeps patients together and fills the shares within each source (a pair without a patient stands
        for itself); "source" keeps whole sources together.
    holdout : sequence of str
        Sources that go to the test set whole, and with them the other pairs of their patients; whatever split the
        pairs carry.
    seed : int

    Returns
    -------
    list of str
        One of `SPLITS` for each pair. Pairs that carry a split already keep it, all but those held out.

    Raises
    ------
    InputError
        If a part comes out empty, a patient is on two sides of a given split, only some pairs have one, or a source is
        not there.
    """
    unknown = sorted(set(holdout) - {p.source for p in pairs})
    if unknown:
        raise InputError(f"holdout: no source {unknown[0]!r}; there are {', '.join(sorted({p.source for p in pairs}))}")
    if any(p.split for p in pairs):
        return _given(pairs, holdout)
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(f"fractions: {fractions} given, three shares that sum to 1 expected")
    if by not in ("patient", "source"):
        raise InputError(f"split-by: {by!r} given, patient or source expected")
    groups: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        key = pair.source if by == "source" else (pair.group or str(pair.image))
        groups.setdefault(key, []).append(i)
    strata: dict[str, list[str]] = {}
    for key, members in groups.items():
        strata.setdefault("" if by == "source" else pairs[members[0]].source, []).append(key)

    assigned = [""] * len(pairs)
    generator = np.random.default_rng(seed)
    for _, keys in sorted(strata.items()):
        shuffled = [sorted(keys)[i] for i in generator.permutation(len(keys))]
        shuffled = [k for k in shuffled if not {pairs[i].source for i in groups[k]} & set(holdout)]
        total = sum(len(groups[k]) for k in shuffled)
        filled = dict.fromkeys(SPLITS, 0.0)
        for n, key in enumerate(shuffled):
            lacking = {s: f * total - filled[s] for s, f in zip(SPLITS, fractions, strict=True)}
            empty = [s for s in SPLITS if not filled[s] and lacking[s] > 0]
            # What lacks most takes the next group; the last few groups go to parts that would come out empty.
            side = max(empty if len(shuffled) - n <= len(empty) else SPLITS, key=lambda s: lacking[s])
            filled[side] += len(groups[key])
            for i in groups[key]:
                assigned[i] = side
    assigned = [a or "test" for a in assigned]
    for side, share in zip(SPLITS, fractions, strict=True):
        if side not in assigned and (share > 0 or side == "train"):
            count = f"{len(groups)} {'sources' if by == 'source' else 'patients'}"
            remedy = ", other fractions or fewer sources to hold out" if holdout else " or other fractions"
            raise InputError(f"split: {count} leave nothing for {side}; give more pairs{remedy}")
    return assigned


def _given(pairs: Sequence[Pair], holdout: Sequence[str]) -> list[str]:
    """The pairs' own split, with the held-out sources and their patients in test."""
    patients = {p.group for p in pairs if p.group and p.source in holdout}
    sides = ["test" if p.source in holdout or p.group in patients else p.split for p in pairs]
    if "" in sides:
        first = pairs[sides.index("")].image
        raise InputError(
            f"split: {sides.count('')} of {len(pairs)} pairs have none, the first {first}; give one to each or to none"
        )
    _refuse_leaks(pairs, sides)
    for side in ("train", "validation"):
        before = sum(p.split == side for p in pairs)
        if before and side not in sides:
            raise InputError(
                f"holdout: all {before} pairs that the split column gives to {side} are of {', '.join(holdout)} (or of "
                f"patients in it), so {side} is left empty; hold out less, or give other pairs to {side} in that column"
            )
    return sides


def _refuse_leaks(pairs: Sequence[Pair], given: Sequence[str]) -> None:
    sides: dict[str, str] = {}
    for pair, side in zip(pairs, given, strict=True):
        if pair.group and sides.setdefault(pair.group, side) != side:
            raise InputError(f"split: patient {pair.group!r} is both in {sides[pair.group]} and in {side}")
