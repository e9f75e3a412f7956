"""What need not be prepared again: decided by the settings that made it and by the content of its file."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
from tqdm import tqdm

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.preparation.store import COLUMNS, Store, columns_of
from enhancement.errors import InputError
from enhancement.parallel import cores, sha256


def made_by(about: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the pixels of a stack, except for the file's content."""
    # The segmenter by content, not by name: a weights file may have moved.
    settings = {key: value for key, value in about["settings"].items() if key != "segmenter"}
    content = {"settings": settings, "segmenter": about["segmenter"].get("sha256", "")}
    return {key: about[key] for key in ("format", "pipeline", "segmenter_options")} | content


def reusable(path: Path, about: dict[str, Any]) -> Store | None:
    """The store at `path`, if its rows were made in the same way; `InputError` for a file that is no store."""
    if not path.exists():
        return None
    try:
        old = Store(path)
    except InputError:
        # Only what this program wrote may be written over.
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                if "covidcxnet" in file.attrs and "stacks" in file:  # an older format of this program
                    return None
        raise InputError(f"{path}: exists and is no store; name another file, or remove it") from None
    if made_by(old.about) != made_by(about):
        old.close()
        return None
    return old


def up_to_date(old: Store, dataset: Dataset, keys: list[str], about: dict[str, Any]) -> bool:
    """Whether preparing the data set would give the same store again."""
    before = {key: value for key, value in old.about.items() if key != "rows"}
    # The segmenter's content is the same, as `reusable` checked; its name may differ.
    before["settings"] = {**before["settings"], "segmenter": about["settings"]["segmenter"]}
    before["segmenter"] = about["segmenter"]
    columns = columns_of(dataset.table)
    if before != about or columns_of(old.table) != columns:
        return False
    now = dataset.table.assign(**key_columns(keys))
    out = now["path"].isin(set(old.rejected["path"])).to_numpy()
    columns = [*columns, "sha256", "mask_sha256"]
    return _same(now[~out], old.table, columns) and _same(now[out], old.rejected, columns)


def holds(old: Store, dataset: Dataset, keys: list[str]) -> bool:
    """Whether every image of the data set is in the store, or was rejected, as its file is now."""
    before = pd.concat([old.table, old.rejected], ignore_index=True)
    known = {path: _key(sha, mask) for path, sha, mask in before[["path", "sha256", "mask_sha256"]].itertuples(False)}
    return all(known.get(path) == key for path, key in zip(dataset.table["path"], keys, strict=True))


def known_rows(old: Store) -> dict[str, tuple[int, dict[str, Any]]]:
    """Content key to row and record. Rejected files are tried again instead: memory may have been short."""
    known = {}
    rows = old.table[list(COLUMNS)].itertuples(index=False)
    for i, (sha, mask, height, width, trusted, reasons, area) in enumerate(rows):
        record = new_record(
            _key(sha, mask),
            height=int(height),
            width=int(width),
            trusted=None if pd.isna(trusted) else bool(trusted),
            reasons="" if pd.isna(reasons) else reasons,
            area=None if pd.isna(area) else float(area),
        )
        known[record["key"]] = i, record
    return known


def new_record(key: str, *, error=None, height=0, width=0, trusted=None, reasons="", area=None) -> dict[str, Any]:
    """What is written down of a radiograph: plain values, ready for a line of JSON."""
    record = {"key": key, "error": error, "height": height, "width": width}
    return record | {"trusted": trusted, "reasons": reasons, "area": area}


def content_keys(dataset: Dataset, by_mask: bool, progress: bool) -> list[str]:
    """SHA-256 of each file, with `by_mask` that of its mask too; "" where it cannot be opened or is rejected."""
    masks = dataset.masks if by_mask else [None] * len(dataset)
    files = list(zip(dataset.paths, masks, dataset.rejected, strict=True))

    def key(file: tuple[Path, tuple[Path, ...] | None, str | None]) -> str:
        image, mask, refused = file
        content = "" if refused else content_sha256(image)
        return content if mask is None or not content else f"{content}:{'+'.join(map(content_sha256, mask))}"

    with ThreadPoolExecutor(cores()) as pool:
        bar = tqdm(pool.map(key, files), "checking", len(files), unit="file", disable=not progress, leave=False)
        return list(bar)


def key_columns(keys: Iterable[str]) -> dict[str, pd.Series]:
    """Content keys as the two columns of a store's table."""
    parts = [key.partition(":") for key in keys]
    return {name: pd.Series([p[i] for p in parts], dtype="str") for name, i in (("sha256", 0), ("mask_sha256", 2))}


def content_sha256(path: Path) -> str:
    """SHA-256 of a file; "" for one that cannot be opened."""
    try:
        return sha256(path)
    except OSError:
        return ""


def _key(content: Any, mask: Any) -> str:
    return ("" if pd.isna(content) else content) + ("" if pd.isna(mask) else f":{mask}")


def _same(left: pd.DataFrame, right: pd.DataFrame, columns: list[str]) -> bool:
    """Equal as text, which is what a store keeps of anything that is no number."""
    if len(left) != len(right):
        return False
    text = [t[columns].map(lambda v: "" if pd.isna(v) else str(v)).to_numpy() for t in (left, right)]
    return bool((text[0] == text[1]).all())
