"""A folder of pairs: each radiograph as it is, and with a drawn opacity. An auxiliary task that no place can solve."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.opacities import draw_opacities
from enhancement import read_radiograph
from enhancement.errors import InputError, RadiographError
from enhancement.files import whole_file
from segmentation.regions import bring_down

TABLE, LEFT_OUT = "pairs.csv", "left_out.csv"
CLEAR, OPACITY = "normal", "opacity"
_BATCH = 32


def make_opacity_pairs(
    dataset: Dataset,
    folder: str | Path,
    segmenter,
    *,
    size: int = 384,
    seed: int = 0,
    split: pd.DataFrame | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write each radiograph twice, both by the same steps: as it is, and with opacities drawn into its lungs.

    Parameters
    ----------
    dataset : Dataset
        Radiographs without opacities.
    folder : path
        Takes ``images/``, ``lesions/`` (where something was drawn, PNG), ``pairs.csv`` and ``left_out.csv``. Names
        follow from path, size and seed; pictures that are there already are kept: an interrupted call goes on.
    segmenter : LungSegmenter
    size : int
        Longest side of the written images, pixels; smaller ones stay as they are.
    seed : int
        An image's opacities follow from it and the image's path.
    split : DataFrame, optional
        Columns path and split, of the radiographs; both of a pair take it.
    progress : bool

    Returns
    -------
    table, left out : DataFrame
        Columns path, label ("normal" or "opacity"), original, lesion, kinds, those of the dataset, and split; and path
        with reason, of files that cannot be read or whose lungs are not found with certainty.

    Raises
    ------
    InputError
        If no radiograph can be used, or one is not in the split.
    """
    from tqdm import tqdm

    folder = Path(folder)
    sides = None if split is None else split.set_index("path")["split"]
    if sides is not None and not set(dataset.table["path"]) <= set(sides.index):
        missing = sorted(set(dataset.table["path"]) - set(sides.index))
        raise InputError(f"split: {len(missing)} radiographs are not in it, the first {missing[0]}")
    for part in ("images", "lesions"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    paths = dataset.paths
    rows: list[dict] = []
    left: list[dict] = []
    bar = tqdm(total=len(dataset), desc="drawing", unit="image", disable=None if progress else True)
    with bar, ThreadPoolExecutor(4) as pool:
        for start in range(0, len(dataset), _BATCH):
            taken = range(start, min(start + _BATCH, len(dataset)))
            images = list(pool.map(lambda i: _read(paths[i], size), taken))
            readable = [image for image in images if isinstance(image, np.ndarray)]
            found = iter(segmenter.predict(readable) if readable else [])
            for i, image in zip(taken, images, strict=True):
                row = dataset.table.iloc[i]
                record = row.drop(["label", "path", "mask", "lesion"], errors="ignore").to_dict()
                if sides is not None:
                    record["split"] = sides[row["path"]]
                lungs = next(found) if isinstance(image, np.ndarray) else None
                try:
                    rows += _pair(folder, row["path"], image, lungs, record, (size, seed))
                except InputError as error:
                    left.append({"path": row["path"], "reason": str(error)})
            bar.update(len(taken))
    if not rows:
        raise InputError(f"{dataset.name}: no radiograph could be used; the first: {left[0]['reason']}")
    table = pd.DataFrame(rows)
    refused = pd.DataFrame(left, columns=["path", "reason"])
    for made, name in ((table, TABLE), (refused, LEFT_OUT)):
        with whole_file(folder / name) as partial:
            made.to_csv(partial, index=False)
    return table, refused


def _read(path: Path, size: int) -> np.ndarray | InputError:
    try:
        return bring_down(read_radiograph(path), size)
    except InputError as error:
        return error


def _pair(folder: Path, original: str, image, lungs, record: dict, how: tuple[int, int]) -> Iterator[dict]:
    """The two rows of a radiograph, its pictures written."""
    if isinstance(image, InputError):
        raise image
    if not lungs.verdict.trusted:
        raise RadiographError(original, f"lungs not found with certainty: {'; '.join(lungs.verdict.reasons)}")
    key = hashlib.sha256(f"{how} {original}".encode()).digest()
    generator = np.random.default_rng(list(key))
    try:
        drawn = draw_opacities(image, lungs.mask, generator)
    except InputError as error:
        raise RadiographError(original, str(error)) from None
    # which of the two comes first says nothing
    names = [f"{key.hex()[:16]}{letter}.png" for letter in generator.permutation(["a", "b"])]
    pictures = {
        f"images/{names[0]}": image,
        f"images/{names[1]}": drawn.image,
        f"lesions/{names[1]}": drawn.where.astype(np.uint8) * 255,
    }
    for name, picture in pictures.items():
        if not (folder / name).exists():
            with whole_file(folder / name) as partial:
                if not cv2.imwrite(str(partial), picture):
                    raise OSError(f"{folder / name}: could not be written; is the disk full?")
    common = {**record, "original": original}
    yield {"path": f"images/{names[0]}", "label": CLEAR, **common, "lesion": "", "kinds": ""}
    yield {
        "path": f"images/{names[1]}",
        "label": OPACITY,
        **common,
        "lesion": f"lesions/{names[1]}",
        "kinds": ";".join(drawn.kinds),
    }
