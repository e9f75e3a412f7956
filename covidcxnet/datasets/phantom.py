"""Phantom radiographs: an analytic torso, X-rayed; for first runs, tests and a known ground truth, never patients.

Classes: ``normal``; ``pneumonia``, one-sided lobar consolidation; ``covid19``, bilateral, peripheral ground-glass
opacities, mostly in the lower zones. Build, breath, pose, exposure and noise are drawn independently of the class.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.phantom_anatomy import Torso, draw_anatomy, trace
from enhancement.errors import InputError
from enhancement.parallel import cores
from enhancement.progress import ProgressBar

PHANTOM_CLASSES = ("normal", "pneumonia", "covid19")
VERSION = 3  # of the pictures: raise it when any pixel changes, so that folders made before are not mistaken for new
_PARTS = ("images", "lungs", "lesions")
# per cm at about 70 keV: water-like tissue, inflated lung (0.26 of water), rib and vertebra with their marrow
_MU_SOFT, _MU_LUNG, _MU_BONE = 0.19, 0.05, 0.34


@dataclass(frozen=True)
class Phantom:
    """One phantom."""

    image: np.ndarray  # uint8 [S, S], the radiograph
    lungs: np.ndarray  # bool [S, S], true lung field: aerated lung, heart excluded
    lesion: np.ndarray  # bool [S, S], within `lungs`; empty for ``normal``


def phantom(label: str, seed: int, size: int = 256, image: int = 0) -> Phantom:
    """One radiograph of one made-up patient.

    One seed under two labels is the same patient, pose, exposure and noise with another lesion. `image` says which of
    the patient's radiographs: pose, breath, exposure and noise differ, the lesion waxes or wanes. `size` is the side in
    pixels. `InputError` if the label is none of `PHANTOM_CLASSES` or the size below 32.
    """
    if label not in PHANTOM_CLASSES:
        raise InputError(f"phantom: label {label!r} given, one of {', '.join(PHANTOM_CLASSES)} expected")
    if size < 32:
        raise InputError(f"phantom: size {size} given, 32 pixels or more expected")
    # anatomy, take and lesion have streams of their own, so that the same patient can be drawn with another lesion
    anatomy = draw_anatomy(np.random.default_rng([seed, 0]))
    take = np.random.default_rng([seed, 1, image])
    torso = _stand(anatomy, take, size)
    lesion = np.zeros((size, size), np.float32)
    if label != "normal":
        shape, now = np.random.default_rng([seed, 2]), np.random.default_rng([seed, 3, image])
        lesion = _lesion_path(label, torso, shape, now, size)
    # its faint rim is no part of the truth: nobody could see it
    visible = (lesion > 0.25 * lesion.max()) & torso.lungs
    return Phantom(_expose(torso, lesion, take), torso.lungs, visible)


def _stand(anatomy, rng, size: int) -> Torso:
    """The patient in front of the detector: field of view, shift, tilt, and how deep this breath is."""
    height, rotation = anatomy.height + rng.normal(0, 0.5), anatomy.rotation + rng.normal(0, 0.4)
    anatomy = replace(anatomy, height=height, rotation=rotation)
    wide = 2 * (anatomy.half_width + anatomy.wall) + rng.uniform(0.5, 6.0)
    scale = size / wide
    tilt = np.deg2rad(rng.normal(0, 2.2))
    room = wide - (anatomy.height + 6.0)  # above and below the lungs; a technologist centres on them
    cx, cy = size / 2 + scale * rng.normal(0, 0.7), scale * (0.55 * room + rng.normal(0, 0.8))
    cos, sin = np.cos(tilt), np.sin(tilt)
    rows, cols = np.mgrid[:size, :size].astype(np.float32)
    dx, dy = (cols - cx) / scale, (rows - cy) / scale
    x, y = (cos * dx + sin * dy).astype(np.float32), (cos * dy - sin * dx).astype(np.float32)

    def to_pixel(px, py):
        return cx + scale * (cos * px - sin * py), cy + scale * (sin * px + cos * py)

    return trace(anatomy, x, y, scale, to_pixel)


def _lesion_path(label: str, torso: Torso, rng, now, size: int) -> np.ndarray:
    """Centimetres of lung filled along each ray, float32 [S, S].

    `rng` draws what all radiographs of a patient share, `now` how far the lesion has waxed or waned in this one.
    """
    strength = float(np.exp(rng.normal(0, 0.5)) * np.exp(now.normal(0, 0.15)))
    cloud = _clouds(rng, size)
    fill = np.zeros((size, size), np.float32)
    if label == "pneumonia":
        side = rng.choice([-1, 1])
        v, u = rng.uniform(0.2, 0.9), rng.uniform(0.25, 0.75)
        fill = _blob(torso, side, u, v, rng.uniform(0.38, 0.65), rng.uniform(0.18, 0.32), cloud, 0.45)
        if rng.random() < 0.6:  # a fissure cuts it off sharply
            sign = rng.choice([-1, 1])
            edge = v - sign * rng.uniform(-0.02, 0.1)  # the middle stays on the side that is kept
            slant = rng.normal(0, 0.08) * (torso.lateral - 0.5)
            fill = fill * np.clip(0.5 + sign * (torso.vertical + slant - edge) * 40, 0, 1)
        fill = 1.5 * strength * fill
    else:
        for side in (-1, 1):
            for _ in range(rng.integers(2, 5)):
                v, u = np.clip(rng.normal(0.72, 0.17), 0.2, 1.0), rng.uniform(0.68, 0.98)
                fill = np.maximum(
                    fill,
                    rng.uniform(0.6, 1.0)
                    * _blob(torso, side, u, v, rng.uniform(0.14, 0.32), rng.uniform(0.08, 0.18), cloud, 0.7),
                )
        fill = 0.85 * strength * fill
    filled = 0.9 * (1 - np.exp(-fill / 0.9))  # what is full cannot be filled further
    return filled * np.clip(torso.lung, 0, 9.0) * torso.lungs


def _expose(torso: Torso, lesion: np.ndarray, rng) -> np.ndarray:
    """Beer-Lambert, scatter, quantum noise, detector, and the processing that every digital system applies.

    Scatter, window and local equalisation follow the torso without its lesion: the lesion changes the image where it
    is and nowhere else.
    """
    size = lesion.shape[0]
    healthy = _MU_SOFT * torso.soft + _MU_LUNG * torso.lung + _MU_BONE * torso.bone
    primary = np.exp(-healthy)
    scatter = rng.uniform(0.15, 0.5) * _spread(np.minimum(primary, 0.12), 0.09)
    clean = primary + scatter
    signal = np.exp(-(healthy + (_MU_SOFT - _MU_LUNG) * lesion)) + scatter
    blur = rng.uniform(0.35, 0.8) * size / 256
    photons = np.exp(rng.uniform(np.log(2e4), np.log(4e5))) * (256 / size) ** 2
    noise = cv2.GaussianBlur(rng.standard_normal(signal.shape).astype(np.float32), (0, 0), 0.5)
    signal = cv2.GaussianBlur(signal, (0, 0), blur)
    signal = signal + 1.6 * noise * np.sqrt(signal / photons)
    density = -np.log(np.clip(signal, 1e-4, None))
    reference = -np.log(clean)
    inside = torso.soft > 3
    low = _spread(np.minimum(reference, 6), 0.10)
    keep = rng.uniform(0.55, 0.9)
    density, reference = density - (1 - keep) * low, reference - (1 - keep) * low
    bottom, top = np.percentile(reference[inside], [rng.uniform(0.5, 3.0), rng.uniform(98.0, 99.8)])
    value = (density - bottom) / (top - bottom)
    value = np.clip(value * rng.uniform(0.85, 1.0) + rng.uniform(0.0, 0.12), 0, 1) ** rng.uniform(0.8, 1.3)
    return np.round(255 * value).astype(np.uint8)


def _blob(torso: Torso, side, u, v, ru, rv, cloud, rough):
    """A soft patch in the lung's own coordinates: u from mediastinum to chest wall, v from apex to dome."""
    r = np.sqrt(((torso.lateral - u) / ru) ** 2 + ((torso.vertical - v) / rv) ** 2) + rough * 0.5 * cloud
    return (torso.side == side) * np.clip(1.25 - r, 0, 1) * np.clip(0.85 + 0.3 * rough * cloud, 0, 1.5)


def _clouds(rng, size: int) -> np.ndarray:
    """Noise over several scales, mean 0, deviation about 1; the same cloud at every size."""
    total = np.zeros((size, size), np.float32)
    for cells, weight in ((5, 1.0), (11, 0.7), (23, 0.5), (47, 0.3)):
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        total += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return total


def _spread(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur by a fraction of the side; so wide a blur is done on a small copy."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), 64 * sigma), image.shape[::-1], interpolation=cv2.INTER_CUBIC)


def make_phantoms(
    folder: str | Path,
    n: int = 600,
    seed: int = 0,
    size: int = 256,
    classes: Sequence[str] = PHANTOM_CLASSES,
    *,
    progress: bool = True,
) -> Dataset:
    """A folder of phantoms: ``images/``, ``lungs/`` and ``lesions/`` as PNG, ``phantom.csv`` and ``phantom.json``.

    Parameters
    ----------
    folder : str or Path
        New, empty, or one that this function made. One made with the same parameters is used as it stands.
    n : int
        Number of images; patients have 1 to 3 each, all under one label, and classes come out even.
    seed : int
        Same parameters, same files to the bit.
    size : int
        Side in pixels.
    classes : sequence of str
        From `PHANTOM_CLASSES`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Dataset
        With columns path, label, patient, source ("phantom"), view ("PA"), mask and lesion.

    Raises
    ------
    InputError
        If the folder holds something else, or a parameter makes no sense.
    """
    folder = Path(folder)
    parameters = {"version": VERSION, "n": int(n), "seed": int(seed), "size": int(size), "classes": list(classes)}
    unknown = [c for c in classes if c not in PHANTOM_CLASSES]
    if unknown or not classes or n < len(classes) or size < 32:
        raise InputError(
            f"phantoms: {n} images of {size} pixels, classes {', '.join(classes) or 'none'} given; an image or more "
            f"for each class, 32 pixels or more, classes from {', '.join(PHANTOM_CLASSES)} expected"
        )
    if not _usable(folder, parameters):
        # written beside its place and moved there whole: an interrupted call leaves nothing that looks like phantoms
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            _write(temporary, parameters, progress)
            _put(temporary, folder, parameters)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Dataset(pd.read_csv(folder / "phantom.csv", dtype=str), folder, tuple(classes), "phantom")


def plan(parameters) -> list[tuple[str, int, int]]:
    """(label, patient, image) of each file: patients get their number of images first, then labels fill up evenly."""
    rng = np.random.default_rng([parameters["seed"], 17])
    counts: list[int] = []
    while sum(counts) < parameters["n"]:
        counts.append(min(int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])), parameters["n"] - sum(counts)))
    filled = dict.fromkeys(parameters["classes"], 0)
    rows = []
    for patient, count in enumerate(counts):
        fewest = min(filled.values())
        label = str(rng.choice([c for c, number in filled.items() if number == fewest]))
        filled[label] += count
        rows += [(label, patient, image) for image in range(count)]
    return rows


def _write(folder: Path, parameters, progress: bool) -> None:
    for part in _PARTS:
        (folder / part).mkdir(parents=True)
    images = plan(parameters)
    seeds = np.random.default_rng([parameters["seed"], 18]).integers(2**62, size=len(images))

    def make(label, patient, image) -> dict[str, str]:
        drawn = phantom(label, int(seeds[patient]), parameters["size"], image)
        name = f"p{patient:05d}_{image}.png"  # says nothing about the label
        pictures = (drawn.image, drawn.lungs * np.uint8(255), drawn.lesion * np.uint8(255))
        for part, picture in zip(_PARTS, pictures, strict=True):
            if not cv2.imwrite(str(folder / part / name), picture):
                raise OSError(f"{folder / part / name}: could not be written; is the disk full?")
        about = {"path": f"images/{name}", "label": label, "patient": name.partition("_")[0], "source": "phantom"}
        return {**about, "view": "PA", "mask": f"lungs/{name}", "lesion": f"lesions/{name}"}

    # threads do: nearly all of the time is spent in NumPy and OpenCV, which let go of the interpreter
    with ThreadPoolExecutor(cores()) as pool:
        rows = list(
            ProgressBar(pool.map(make, *zip(*images, strict=True)), "phantoms", len(images), disable=not progress)
        )
    pd.DataFrame(rows).to_csv(folder / "phantom.csv", index=False)
    (folder / "phantom.json").write_text(json.dumps(parameters, indent=1) + "\n")


def _usable(folder: Path, parameters) -> bool:
    """Whether this is the complete folder of these phantoms; `InputError` if it holds anything else."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    try:
        there = json.loads((folder / "phantom.json").read_text())
    except (OSError, ValueError):
        raise InputError(f"{folder}: is not empty and holds no phantoms; name a new folder") from None
    if there != parameters:
        raise InputError(f"{folder}: holds phantoms made with {there}, not with {parameters}; name another folder")
    names = {f"p{patient:05d}_{image}.png" for _, patient, image in plan(parameters)}
    # a listing a folder is much faster than a look at each file
    return (folder / "phantom.csv").is_file() and all(
        (folder / part).is_dir() and names <= set(os.listdir(folder / part)) for part in _PARTS
    )


def _put(temporary: Path, folder: Path, parameters) -> None:
    """Move a finished folder into its place; where another process was faster, its copy stands."""
    if folder.exists() and any(folder.iterdir()) and not _usable(folder, parameters):
        for part in _PARTS:  # files went missing, and only phantoms lie here, as the check above says
            shutil.rmtree(folder / part, ignore_errors=True)
        (folder / "phantom.csv").unlink(missing_ok=True)
        (folder / "phantom.json").unlink(missing_ok=True)
    try:
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError:
        if not (folder.exists() and _usable(folder, parameters)):
            raise
