"""What need not be prepared again: told by the settings that made it and by the content of its file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
from tqdm import tqdm

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.preparation.store import Store
from enhancement.errors import InputError

OWN_COLUMNS = ("sha256", "mask_sha256", "height", "width", "lungs_trusted", "lungs_reasons", "lungs_area")


@dataclass(frozen=True)
class Known:
    """A radiograph prepared before: where its row is, and what was recorded of it."""

    file: h5py.File
    row: int
    record: dict[str, Any]


def made_by(about) -> dict[str, Any]:
    """What decides the pixels of a stack, the file's content apart."""
    settings = dict(about["settings"])
    settings.pop("segmenter")  # by content, not by name: a weights file may have moved
    return {
        "format": about["format"],
        "pipeline": about["pipeline"],
        "settings": settings,
        "segmenter": about["segmenter"].get("sha256", ""),
        "segmenter_options": about["segmenter_options"],
    }


def reusable(path: Path, about) -> Store | None:
    """The store that stands there, if its rows were made in the same way."""
    if not path.exists():
        return None
    try:
        old = Store(path)
    except InputError:
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                if "covidcxnet" in file.attrs and "stacks" in file:  # an older format of ours
                    return None
        raise InputError(f"{path}: exists and is no store; name another file, or remove it") from None
    if made_by(old.about) != made_by(about):
        old.close()
        return None
    return old


def up_to_date(old: Store, dataset: Dataset, keys: list[str], about) -> bool:
    """Would the store come out as it is?"""
    before = {k: v for k, v in old.about.items() if k != "rows"}
    # by content these are the same, as was checked; their names may differ
    before["settings"] = {**before["settings"], "segmenter": about["settings"]["segmenter"]}
    before["segmenter"] = about["segmenter"]
    if before != about:
        return False
    kept, rejected = old.table, old.rejected
    columns = [str(c) for c in dataset.table if c not in (*OWN_COLUMNS, "reason")]
    if [c for c in kept if c not in OWN_COLUMNS] != columns:
        return False
    columns = [*columns, "sha256", "mask_sha256"]
    now = dataset.table.assign(
        sha256=[key.partition(":")[0] for key in keys], mask_sha256=[key.partition(":")[2] for key in keys]
    )
    out = now["path"].isin(set(rejected["path"])).to_numpy()
    return _same(now[~out], kept, columns) and _same(now[out], rejected, columns)


def _same(one: pd.DataFrame, two: pd.DataFrame, columns: list[str]) -> bool:
    """Equal as text, which is what a store keeps of anything that is no number."""
    if len(one) != len(two):
        return False
    text = [t[columns].map(lambda v: "" if pd.isna(v) else str(v)).reset_index(drop=True) for t in (one, two)]
    return bool((text[0].to_numpy() == text[1].to_numpy()).all())


def known_rows(old: Store) -> dict[str, Known]:
    """Content key to row. Rejected files are not among them: they are tried again, memory may have been short."""
    known, file = {}, old.stacks.file
    rows = old.table[list(OWN_COLUMNS)].itertuples(index=False)
    for i, (sha, mask, height, width, trusted, reasons, area) in enumerate(rows):
        key = sha if pd.isna(mask) else f"{sha}:{mask}"
        known[key] = Known(
            file,
            i,
            new_record(
                key,
                height=int(height),
                width=int(width),
                trusted=None if pd.isna(trusted) else bool(trusted),
                reasons="" if pd.isna(reasons) else reasons,
                area=None if pd.isna(area) else float(area),
            ),
        )
    return known


def new_record(key: str, *, error=None, height=0, width=0, trusted=None, reasons="", area=None) -> dict[str, Any]:
    """What is written down of a radiograph: plain values, ready for a line of JSON."""
    return {
        "key": key,
        "error": error,
        "height": height,
        "width": width,
        "trusted": trusted,
        "reasons": reasons,
        "area": area,
    }


def content_keys(dataset: Dataset, masks: pd.Series | None, progress: bool) -> list[str]:
    """sha256 of each file, joined by its mask's where that decides the stack; "" for a file that cannot be opened.

    The data set's own rejections give "" too.
    """
    known = [None] * len(dataset) if masks is None else dataset.masks
    files = list(zip(dataset.paths, known, dataset.rejected, strict=True))

    def key(entry: tuple[Path, tuple[Path, ...] | None, str | None]) -> str:
        image, mask, refused = entry
        own = "" if refused else content_sha256(image)
        return own if mask is None or not own else f"{own}:{'+'.join(map(content_sha256, mask))}"

    with ThreadPoolExecutor(cores()) as pool:
        bar = tqdm(pool.map(key, files), "checking", len(files), unit="file", disable=not progress, leave=False)
        return list(bar)


def digest(keys: Iterable[str]) -> str:
    """One key for many."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def content_sha256(path: Path) -> str:
    """SHA-256 of a file; "" for one that cannot be opened."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
