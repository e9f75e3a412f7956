"""Opacities drawn into radiographs, and a folder of pairs: each radiograph once without and once with an opacity.

Public sets take their patients from one source and their normals from another, so that a network can learn the source.
Between a radiograph and its copy with a drawn opacity nothing differs but the opacity. Anomalies made in normal
radiographs are the idea of Foreign Patch Interpolation (Tan et al. 2020) and of Natural Synthetic Anomalies (Schlueter
et al. 2022); these opacities are drawn, not cut out of other radiographs.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.tables import save_table
from enhancement import read_radiograph
from enhancement.errors import InputError, RadiographError
from enhancement.files import whole_file
from enhancement.progress import ProgressBar
from segmentation.regions import bring_down
from segmentation.segmenter import LungSegmenter

KINDS = ("patches", "diffuse", "basal", "lobar", "reticular")
TABLE, LEFT_OUT = "pairs.csv", "left_out.csv"
CLEAR, OPACITY = "normal", "opacity"
_LEAST_CHANGE, _LEAST_AREA, _TRIES = 6, 0.02, 20  # gray levels, share of the lungs, drawings
_BATCH = 32  # radiographs whose lungs are found at once


@dataclass(frozen=True)
class Drawn:
    """A radiograph with opacities."""

    image: np.ndarray  # uint8 [H, W]
    where: np.ndarray  # bool [H, W], brighter by 6 gray levels or more: what a heatmap should point at
    kinds: tuple[str, ...]  # from `KINDS`


def draw_opacities(image: np.ndarray, lungs: np.ndarray, generator: np.random.Generator) -> Drawn:
    """Fill parts of the lungs (bool [H, W]) of `image`, uint8 [H, W], as ground-glass, consolidation or effusion would.

    Gray levels go towards those of the soft tissue around the lungs and vessels lose contrast; edges fade at their
    outline. One to three kinds, faint to dense, at least 2% of the lungs visibly brighter, or else `InputError`.
    """
    if image.shape != lungs.shape or image.dtype != np.uint8 or not lungs.any():
        raise InputError(
            f"opacities: image {image.dtype} {image.shape}, lungs {lungs.shape} of {np.count_nonzero(lungs)} pixels; "
            "a uint8 radiograph and lungs of its size expected"
        )
    geometry = _Geometry(lungs)
    for _ in range(_TRIES):
        filled, kinds = _draw(image.astype(np.float32), geometry, generator)
        where = filled.astype(np.int16) - image >= _LEAST_CHANGE
        if np.count_nonzero(where & lungs) >= _LEAST_AREA * np.count_nonzero(lungs):
            return Drawn(filled, where, kinds)
    raise InputError("opacities: the lungs are about as bright as what surrounds them; nothing drawn there would show")


def make_opacity_pairs(
    dataset: Dataset,
    folder: str | Path,
    segmenter: LungSegmenter,
    *,
    size: int = 384,
    seed: int = 0,
    split: pd.DataFrame | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write each radiograph twice, both by the same steps: as it is, and with opacities drawn into its lungs.

    `folder` receives ``images/``, ``lesions/`` (where something was drawn), and what is returned: the table of pairs
    and that of files left out. `size` is the longest side in pixels; smaller radiographs stay as they are. Names and
    opacities follow from path, size and `seed`; pictures that are there already are kept, so that an interrupted call
    goes on. Both of a pair take the side that `split` gives the radiograph.
    """
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
    bar = ProgressBar(total=len(dataset), desc="drawing", unit="image", disable=not progress)
    with bar, ThreadPoolExecutor(4) as pool:
        for start in range(0, len(dataset), _BATCH):
            taken = range(start, min(start + _BATCH, len(dataset)))
            images = list(pool.map(lambda i: _read(paths[i], size), taken))
            readable = [image for image in images if isinstance(image, np.ndarray)]
            masks = iter(segmenter.predict(readable) if readable else [])
            for i, image in zip(taken, images, strict=True):
                row = dataset.table.iloc[i]
                record = row.drop(["label", "path", "mask", "lesion"], errors="ignore").to_dict()
                if sides is not None:
                    record["split"] = sides[row["path"]]
                lungs = next(masks) if isinstance(image, np.ndarray) else None
                try:
                    rows += _pair(folder, row["path"], image, lungs, record, (size, seed))
                except InputError as error:
                    left.append({"path": row["path"], "reason": str(error)})
            bar.update(len(taken))
    if not rows:
        raise InputError(f"{dataset.name}: no radiograph could be used; the first: {left[0]['reason']}")
    table = pd.DataFrame(rows)
    refused = pd.DataFrame(left, columns=["path", "reason"])
    for written, name in ((table, TABLE), (refused, LEFT_OUT)):
        save_table(written, folder / name)
    return table, refused


class _Geometry:
    """Where a pixel lies in its lung: side, `lateral` 0 (mediastinum) to 1 (chest wall), `vertical` 0 (apex) to 1."""

    def __init__(self, lungs: np.ndarray):
        self.lungs, self.shape, self.scale = lungs, lungs.shape, float(np.sqrt(np.count_nonzero(lungs)))
        rows, columns = np.nonzero(lungs)
        middle = (columns.min() + columns.max()) / 2
        half = max(1.0, (columns.max() - columns.min()) / 2)
        self.y, self.x = np.mgrid[: lungs.shape[0], : lungs.shape[1]].astype(np.float32)
        self.right = self.x > middle
        self.lateral = (np.abs(self.x - middle) / half).clip(0, 1)
        self.vertical = ((self.y - rows.min()) / max(1, rows.max() - rows.min())).clip(0, 1)
        self.soft = cv2.GaussianBlur(lungs.astype(np.float32), (0, 0), max(0.5, self.scale / 60))

    def sides(self, generator: np.random.Generator) -> np.ndarray:
        """One lung or both, bool [H, W]."""
        drawn = generator.random()
        return np.ones(self.shape, bool) if drawn < 0.5 else self.right if drawn < 0.75 else ~self.right

    def centre(self, sides: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
        """A pixel of the lungs, lower and outer ones oftener, (y, x)."""
        ys, xs = np.nonzero(self.lungs & sides)
        if not len(ys):
            ys, xs = np.nonzero(self.lungs)
        chance = 0.15 + self.vertical[ys, xs] + 0.7 * self.lateral[ys, xs]
        i = generator.choice(len(ys), p=chance / chance.sum())
        return float(ys[i]), float(xs[i])


def _draw(
    values: np.ndarray, geometry: _Geometry, generator: np.random.Generator
) -> tuple[np.ndarray, tuple[str, ...]]:
    count = int(generator.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    kinds = tuple(generator.choice(KINDS, count, replace=False).tolist())
    empty, coarse = np.ones_like(values), np.zeros_like(values)
    for kind in kinds:
        fill = _FILLS[kind](geometry, generator) * float(generator.uniform(0.2, 0.9))
        if kind == "reticular":
            coarse += fill * _lines(geometry, generator)
            fill = fill * 0.35
        empty *= 1 - fill.clip(0, 0.97)
    alpha = (1 - empty) * geometry.soft
    smooth = cv2.GaussianBlur(values, (0, 0), max(0.6, geometry.scale / 80))
    detail = values - smooth
    # vessels and ribs are a detail over the smooth image; filled lung swallows most of it
    tissue = _tissue(values, geometry.lungs, generator) * (1 + 0.06 * _clouds(values.shape, (9, 20, 45), generator))
    filled = smooth + alpha * np.maximum(tissue - smooth, 0) + detail * (1 - 0.7 * alpha) + coarse * geometry.soft
    return np.rint(filled).clip(0, 255).astype(np.uint8), kinds


def _tissue(values: np.ndarray, lungs: np.ndarray, generator: np.random.Generator) -> float:
    """How bright filled lung is: about as soft tissue of the chest, above the lungs as they are."""
    outside = values[~lungs & (values > 10)]
    level = float(np.percentile(outside, generator.uniform(45, 90))) if outside.size else 200.0
    return min(250.0, max(level, float(np.percentile(values[lungs], 75)) + 15))


def _patches(geometry: _Geometry, generator: np.random.Generator) -> np.ndarray:
    sides, cloud = geometry.sides(generator), _clouds(geometry.shape, (5, 11, 23), generator)
    fill = np.zeros(geometry.shape, np.float32)
    for _ in range(int(generator.integers(1, 7))):
        y, x = geometry.centre(sides, generator)
        radius = geometry.scale * float(generator.uniform(0.06, 0.3))
        long, angle = float(generator.uniform(0.7, 1.6)), float(generator.uniform(0, np.pi))
        along = (geometry.y - y) * np.cos(angle) + (geometry.x - x) * np.sin(angle)
        across = (geometry.x - x) * np.cos(angle) - (geometry.y - y) * np.sin(angle)
        distance = np.sqrt((along / (radius * long)) ** 2 + (across / radius) ** 2)
        edge, depth = float(generator.uniform(2, 7)), generator.uniform(0.6, 1)
        fill = np.maximum(fill, depth / (1 + np.exp(edge * (distance - 0.8 + 0.3 * cloud).clip(-9, 9))))
    return fill


def _diffuse(geometry: _Geometry, generator: np.random.Generator) -> np.ndarray:
    cloud = _clouds(geometry.shape, (3, 6, 13), generator)
    field = 0.55 + 0.3 * cloud + float(generator.uniform(-0.3, 0.5)) * (geometry.vertical - 0.5)
    return (field * geometry.sides(generator)).clip(0, 1) * float(generator.uniform(0.4, 0.9))


def _basal(geometry: _Geometry, generator: np.random.Generator) -> np.ndarray:
    # higher at the chest wall than at the mediastinum, as fluid stands
    level = float(generator.uniform(0.45, 0.95)) - float(generator.uniform(0, 0.25)) * (geometry.lateral - 0.4)
    cloud = _clouds(geometry.shape, (5, 11), generator)
    depth = (geometry.vertical - level + 0.03 * cloud) * float(generator.uniform(8, 40))
    return geometry.sides(generator) / (1 + np.exp(-depth.clip(-30, 30)))


def _lobar(geometry: _Geometry, generator: np.random.Generator) -> np.ndarray:
    slant = float(generator.uniform(-0.35, 0.35)) * (geometry.lateral - 0.5)
    top, height = float(generator.uniform(0, 0.75)), float(generator.uniform(0.2, 0.5))
    sharp = float(generator.uniform(15, 60))
    below, above = (
        1 / (1 + np.exp(-(sharp * distance).clip(-30, 30)))
        for distance in (geometry.vertical + slant - top, top + height - geometry.vertical - slant)
    )
    side = geometry.right if generator.random() < 0.5 else ~geometry.right
    return below * above * side * (0.8 + 0.2 * _clouds(geometry.shape, (6, 14), generator)).clip(0, 1)


def _reticular(geometry: _Geometry, generator: np.random.Generator) -> np.ndarray:
    cloud = _clouds(geometry.shape, (3, 7), generator)
    return ((0.4 + 0.4 * cloud + 0.5 * geometry.vertical) * geometry.sides(generator)).clip(0, 1)


def _lines(geometry: _Geometry, generator: np.random.Generator) -> np.ndarray:
    """A net of short lines, gray levels around 0."""
    noise = generator.standard_normal(geometry.shape).astype(np.float32)
    width = max(0.7, geometry.scale / float(generator.uniform(70, 160)))
    band = cv2.GaussianBlur(noise, (0, 0), width) - cv2.GaussianBlur(noise, (0, 0), 2 * width)
    return np.abs(band) / (band.std() + 1e-6) * float(generator.uniform(3, 11))


def _clouds(shape: tuple[int, ...], cells: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Smooth noise of several scales, mean 0 and deviation about 1."""
    total = np.zeros(shape, np.float32)
    for n, count in enumerate(cells):
        grid = generator.standard_normal((count, count)).astype(np.float32)
        total += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) / (n + 1)
    return (total - total.mean()) / (total.std() + 1e-6)


_FILLS = {"patches": _patches, "diffuse": _diffuse, "basal": _basal, "lobar": _lobar, "reticular": _reticular}


def _read(path: Path, size: int) -> np.ndarray | InputError:
    try:
        return bring_down(read_radiograph(path), size)
    except InputError as error:
        return error


def _pair(folder: Path, original: str, image, lungs, record: dict, how: tuple[int, int]) -> list[dict]:
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
    lesion, kinds = f"lesions/{names[1]}", ";".join(drawn.kinds)
    return [
        {"path": f"images/{names[0]}", "label": CLEAR, **common, "lesion": "", "kinds": ""},
        {"path": f"images/{names[1]}", "label": OPACITY, **common, "lesion": lesion, "kinds": kinds},
    ]
