"""`match_to: training`: the mean grey-level histogram of the training images, every source with the same weight."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from covidcxnet.preparation import prepare_files
from covidcxnet.preparation.reuse import content_sha256
from enhancement.errors import InputError
from enhancement.parallel import cores

from .base_image import grey_levels, unmatched

if TYPE_CHECKING:
    import pandas as pd

    from covidcxnet.datasets import Dataset
    from covidcxnet.settings import InputSettings

A_SOURCE = 150
"""Images drawn of each source: the mean of more hardly differs."""
SIGMA, RADIUS = 4.0, 12
"""Of the Gaussian that smooths the mean, in grey levels."""
TOTAL = 100_000
"""About what the counts add up to."""


def mean_histogram(
    dataset: Dataset,
    split: pd.DataFrame,
    settings: InputSettings,
    segmenter=None,
    *,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
) -> tuple[int, ...]:
    """Mean counts of the training images' 256 grey levels over what `prepare_image` matches.

    The histogram of each image counts the same, whatever its pixels, and so does each source, whatever its images. The
    mean is smoothed, so that gaps in one source's grey levels do not become gaps in everybody's.

    Parameters
    ----------
    dataset : Dataset
        Its column ``source``, where there is one, says where each image is from; without it all are of one source.
    split : pd.DataFrame
        Row by row of the data set. Only images of train count, and no pixel of another does: a file of train that is an
        exact copy of one outside is left out, as training leaves it out.
    settings : InputSettings
        Of the stacks that are to be matched.
    segmenter : LungSegmenter, optional
        Needed where the region is cropped.
    seed : int
        Of the draw of up to `A_SOURCE` images from each source.
    jobs : int, optional
        Processes that read; None: one a core, none at all for a few files.
    progress : bool
        Show a progress bar.

    Returns
    -------
    tuple of int
        256 counts that add up to about `TOTAL`.

    Raises
    ------
    InputError
        If no image is left of those drawn: they cannot be read, or their lungs are not found where the region is
        cropped.
    """
    drawn = draw(dataset, split, seed)
    paths, plain = dataset.paths, unmatched(settings)
    jobs = jobs or min(cores(), max(1, len(drawn) // 48))
    outcomes = prepare_files([paths[row] for row, _ in drawn], plain, segmenter=segmenter, jobs=jobs)
    bar = tqdm(outcomes, "grey levels", len(drawn), unit="image", leave=False, disable=not progress)
    shares: dict[str, list[np.ndarray]] = defaultdict(list)
    reason = "there is none that is no copy of another side's"
    for (row, source), outcome in zip(drawn, bar, strict=True):
        found = outcome.prepared is not None and (plain.region != "crop" or outcome.trusted)
        if outcome.prepared is not None and found:
            counts = grey_levels(outcome.prepared)
            shares[source].append(counts / counts.sum())
        else:
            said = outcome.error or f"its lungs are not found ({'; '.join(outcome.reasons)})"
            reason = f"the last, {paths[row]}: {said}"
    if not shares:
        raise InputError(f"match_to: training: none of {len(drawn)} training images can be used; {reason}")
    mean = np.mean([np.mean(own, axis=0) for own in shares.values()], axis=0)
    return counts_of(mean)


def draw(dataset: Dataset, split: pd.DataFrame, seed: int) -> list[tuple[int, str]]:
    """Rows of the data set to look at, each with its source: up to `A_SOURCE` training images of each.

    The draw depends on the seed and on which images train, not on the order of the table.
    """
    table = dataset.table
    train = (split["split"] == "train").to_numpy() & np.array([reason is None for reason in dataset.rejected])
    names = table["source"] if "source" in table else [""] * len(table)
    members: dict[str, list[int]] = defaultdict(list)
    for row in sorted(np.flatnonzero(train).tolist(), key=table["path"].tolist().__getitem__):
        source = names[row]
        members[source if isinstance(source, str) else ""].append(row)
    generator = np.random.default_rng(seed)
    rows = []
    for source, own in sorted(members.items()):
        rows += [(row, source) for row in generator.permutation(own)[:A_SOURCE].tolist()]
    copies = _copies(dataset, [row for row, _ in rows], (split["split"] != "train").to_numpy())
    return [(row, source) for row, source in rows if row not in copies]


def counts_of(mean: np.ndarray) -> tuple[int, ...]:
    """Whole counts of a mean histogram, float [256] of sum 1, smoothed by a Gaussian; the edges count as going on."""
    steps = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-0.5 * (steps / SIGMA) ** 2)
    smooth = np.convolve(np.pad(mean, RADIUS, mode="edge"), weights / weights.sum(), mode="valid")
    return tuple(int(count) for count in np.rint(TOTAL * smooth / smooth.sum()))


def _copies(dataset: Dataset, rows: list[int], outside: np.ndarray) -> set[int]:
    """Those of `rows` whose files are exact copies of ones that are `outside`, bool [N]."""
    paths = dataset.paths

    def size(row: int) -> int:
        try:
            return paths[row].stat().st_size
        except OSError:
            return -1

    # only files of one size can be copies: few are read
    sizes = {row: size(row) for row in rows}
    wanted = set(sizes.values()) - {-1}
    others = [row for row in np.flatnonzero(outside).tolist() if size(row) in wanted]
    contents = {content_sha256(paths[row]) for row in others} - {""}
    return {row for row in rows if contents and content_sha256(paths[row]) in contents}
