"""Pairs of a radiograph and its lung mask: from a CSV or from folders, and which of them train, validate and test."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from enhancement.csv_cells import plain_cell
from enhancement.errors import InputError, RadiographError
from enhancement.files import find_images

from .model import CONVENTIONS

SPLITS = ("train", "validation", "test")

# Column names of the tables that come with public sets; the first that a table has counts.
ALIASES = {
    "image": ("image", "path", "filename", "file", "radiograph"),
    "mask": ("mask", "masks", "lung_mask", "mask_path"),
    "mask_left": ("mask_left", "left_mask", "left"),
    "mask_right": ("mask_right", "right_mask", "right"),
    "source": ("source", "dataset", "origin"),
    "convention": ("convention", "mask_convention"),
    "group": ("group_id", "patient", "patient_id", "patientid", "subject"),
    "split": ("split", "fold"),
}


_MOST_LABELS = 16  # a largest value up to this is a label's number, not a grey level


@dataclass(frozen=True)
class Pair:
    """A radiograph, the files whose union is its lung mask, and where it comes from.

    `group` names the patient ("" if unknown); `convention` one of `CONVENTIONS`; `split` is "" or given by the table.
    """

    image: Path
    masks: tuple[Path, ...]
    source: str = ""
    convention: str = CONVENTIONS[0]
    group: str = ""
    split: str = ""


def pairs_from_csv(path: str | Path, root: str | Path | None = None, convention: str = CONVENTIONS[0]) -> list[Pair]:
    """Read a CSV of image and mask (or ``mask_left`` and ``mask_right``); optional: source, convention, split, patient.

    Several masks in one cell are separated by ``;``; `ALIASES` lists other column names. Paths are relative to `root`,
    by default the CSV's own folder, then that folder's parent. `convention` is that of rows without one.
    """
    path = Path(path)
    try:
        # Excel begins UTF-8 with a byte order mark, which would become part of the first column's name.
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = _columns(path, reader.fieldnames or [])
            rows = [{name: plain_cell(cell) for name, cell in row.items()} for row in reader]
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read as CSV (not UTF-8; save it as UTF-8)") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as CSV; a quotation mark may not be closed") from error
    if not rows:
        raise InputError(f"{path}: no rows; one image and mask a row are expected")
    # The first row decides for all: a missing file further down is a gap in the data, not another folder.
    base = _base(path, root, rows[0][columns["image"]])
    pairs = []
    # Lines count from 1 as editors do, and the first holds the names.
    for number, row in enumerate(rows, 2):
        value = {name: (row[column] or "").strip() for name, column in columns.items()}
        cells = [value.get(key, "") for key in ("mask", "mask_left", "mask_right")]
        masks = [name.strip() for name in ";".join(cells).split(";") if name.strip()]
        if not value["image"] or not masks:
            raise InputError(f"{path}, line {number}: no image or no mask")
        kind = value.get("convention") or convention
        if kind not in CONVENTIONS:
            raise InputError(f"{path}, line {number}: convention {kind!r}, one of {', '.join(CONVENTIONS)} expected")
        if value.get("split", "") not in ("", *SPLITS):
            raise InputError(f"{path}, line {number}: split {value['split']!r}, one of {', '.join(SPLITS)} expected")
        files = base / value["image"], tuple(base / m for m in masks)
        pairs.append(Pair(*files, value.get("source", ""), kind, value.get("group", ""), value.get("split", "")))
    return pairs


def pairs_from_folders(
    images: str | Path, masks: Sequence[str | Path], convention: str = CONVENTIONS[0], source: str = ""
) -> list[Pair]:
    """Pair files by name: an image with the mask of the same stem in each mask folder (``_mask`` may follow).

    With several mask folders (left and right lungs, say) the union of their masks counts; an image must have a mask in
    each. Images without a mask are left out.
    """
    pictures, *others = [find_images(folder) for folder in (images, *masks)]
    unread = [path for paths in (pictures, *others) for path in paths if path.is_dir()]
    if unread:
        raise InputError(f"{unread[0]}: this folder cannot be read, and pairs in it would be left out")
    by_stem = [{_stem(path): path for path in paths} for paths in others]
    pairs = []
    for image in pictures:
        parts = [table[image.stem] for table in by_stem if image.stem in table]
        if parts and len(parts) == len(by_stem):
            pairs.append(Pair(image, tuple(parts), source or Path(images).name, convention))
    if not pairs:
        raise InputError(f"{images}: no image has a mask of the same name in {', '.join(str(m) for m in masks)}")
    return pairs


def read_mask(paths: Sequence[str | Path]) -> np.ndarray:
    """The union of mask files (left and right lungs, say), ``bool [H, W]``.

    Raises `RadiographError` if a file cannot be read or the files differ in size.
    """
    union = None
    for path in paths:
        try:
            # Not `imread`: it takes no path outside of ASCII on Windows, and says nothing of why it fails.
            data = np.fromfile(path, np.uint8)
        except OSError as error:
            raise RadiographError(path, f"mask cannot be read ({error.strerror})") from None
        image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH) if data.size else None
        colour = None if image is None else cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is None or colour is None:
            raise RadiographError(path, "mask is not an image, or is damaged")
        mask = _foreground(image, colour, path)
        if union is not None and union.shape != mask.shape:
            raise RadiographError(path, f"mask of shape {mask.shape}, {union.shape} expected like its other half")
        union = mask if union is None else union | mask
    if union is None:
        raise ValueError("no mask file given")
    return union


def _foreground(gray: np.ndarray, colour: np.ndarray, path: str | Path) -> np.ndarray:
    """Both lungs, whether they have one level, two (1 and 2, 127 and 255) or two colours; ``bool [H, W]``."""
    # Lungs in two colours are each bright in some channel, and dark in gray.
    if (colour.max(axis=2) - colour.min(axis=2)).max() > colour.max() / 4:
        gray = colour.max(axis=2)
    top = float(gray.max())
    if top <= _MOST_LABELS:
        labels = np.unique(gray[gray > 0])
        if len(labels) > 2:
            raise RadiographError(
                path, f"mask holds {len(labels)} labels; lungs alone expected, as one label or one for each side"
            )
        return gray > 0
    # Half of the file's own largest value, as JPEG blurs edges; less where half of it fills a lung and not just edges.
    middle = ((gray > top / 4) & (gray <= top * 3 / 4)).astype(np.uint8)
    filled = cv2.erode(middle, np.ones((5, 5), np.uint8)).sum() > (gray > top * 3 / 4).sum() / 10
    return gray > (top / 4 if filled else top / 2)


def split_pairs(
    pairs: Sequence[Pair],
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    *,
    by: str = "patient",
    holdout: Sequence[str] = (),
    seed: int = 0,
) -> list[str]:
    """Assign each pair to one of `SPLITS`, in shares of `fractions`; pairs that carry a split keep it.

    "patient" keeps patients together and fills the shares within each source (a pair without a patient stands for
    itself); "source" keeps whole sources together. Sources in `holdout` go to the test set whole, whatever their split,
    and with them the other pairs of their patients.
    """
    # A misspelt source would silently be trained on.
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
    # Sorted before they are shuffled: the seed decides, not the order of the table's rows.
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


def _columns(path: Path, names: Sequence[str]) -> dict[str, str]:
    lowered = {name.strip().lower(): name for name in names if name}
    matches = {key: [lowered[alias] for alias in aliases if alias in lowered] for key, aliases in ALIASES.items()}
    columns = {key: names[0] for key, names in matches.items() if names}
    if "image" not in columns or not {"mask", "mask_left", "mask_right"} & set(columns):
        raise InputError(f"{path}: columns {', '.join(names) or '(none)'}; one named image and one named mask expected")
    return columns


def _base(path: Path, root: str | Path | None, first: str) -> Path:
    candidates = [Path(root)] if root is not None else [path.parent, path.resolve().parent.parent]
    for base in candidates:
        if (base / first).is_file():
            return base
    tried = " or ".join(map(str, candidates))
    raise InputError(f"{path}: its first image {first!r} is not in {tried}; give the right folder with --root")


def _stem(path: Path) -> str:
    stem = path.stem
    for end in ("_mask", "-mask", "_left", "_right"):
        stem = stem.removesuffix(end)
    return stem


def _given(pairs: Sequence[Pair], holdout: Sequence[str]) -> list[str]:
    """The pairs' own split, with the held-out sources and their patients in test."""
    patients = {p.group for p in pairs if p.group and p.source in holdout}
    sides = ["test" if p.source in holdout or p.group in patients else p.split for p in pairs]
    if "" in sides:
        first = pairs[sides.index("")].image
        raise InputError(
            f"split: {sides.count('')} of {len(pairs)} pairs have none, the first {first}; give one to each or to none"
        )
    side_of: dict[str, str] = {}
    for pair, side in zip(pairs, sides, strict=True):
        if pair.group and side_of.setdefault(pair.group, side) != side:
            raise InputError(f"split: patient {pair.group!r} is both in {side_of[pair.group]} and in {side}")
    for side in ("train", "validation"):
        before = sum(p.split == side for p in pairs)
        if before and side not in sides:
            raise InputError(
                f"holdout: all {before} pairs that the split column gives to {side} are of {', '.join(holdout)} (or of "
                f"patients in it), so {side} is left empty; hold out less, or give other pairs to {side} in that column"
            )
    return sides
