"""Building a store: prepare what is new, copy what is not, continue where a run was broken off."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.preparation import pipeline
from covidcxnet.preparation.pipeline import Outcome, Segmenter, prepare_files
from covidcxnet.preparation.store import COLUMNS, FORMAT, PartialStore, Store, columns_of
from covidcxnet.reporting.table import count
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from enhancement.parallel import cores, sha256
from enhancement.progress import ProgressBar

SEGMENTER_OPTIONS = ("convention", "threshold", "components", "fill_holes", "dilation", "limits")  # that shape a mask
# What the journal and the table say of a radiograph: plain values, ready for a line of JSON.
_RECORD: dict = {"key": "", "error": None, "height": 0, "width": 0, "trusted": None, "reasons": "", "area": None}


def prepare(
    dataset: Dataset,
    settings: InputSettings,
    path: str | Path,
    *,
    segmenter: Segmenter | None = None,
    jobs: int | None = None,
    progress: bool = True,
    shared: bool = False,
) -> Store:
    """Prepare a data set once, for many trainings.

    Parameters
    ----------
    dataset : Dataset
        Its column ``mask``, where there is one and no segmenter is given, says where the lungs are. Images with a
        reason in its column ``rejected`` are not opened and listed as rejected for that reason.
    settings : InputSettings
        How a radiograph becomes a stack.
    path : str or Path
        The store, an HDF5 file. An existing one is brought up to date: only radiographs whose file content is new are
        prepared, the others are copied; with other settings or another segmenter all are prepared anew. Labels and
        other columns may change without touching a pixel.
    segmenter : LungSegmenter, optional
        Finds the lungs. Needed for a region other than "none" unless the data set has masks.
    jobs : int, optional
        Worker processes; None: one per core, fewer for a few files.
    progress : bool
        Show progress bars with images per second, and print what was done.
    shared : bool
        An existing store is completed and keeps its other images, see `Store.select`; columns may be those of an
        earlier call. It is refused if it was made with other settings, another segmenter or from another folder.

    Returns
    -------
    Store
        Rows in the data set's order, rejected files left out and listed in ``rejected``.

    Raises
    ------
    InputError
        If no radiograph can be prepared, lungs are needed and there are none, the disk is too small, or another process
        is at work on the same store.
    KeyboardInterrupt
        On Ctrl-C, with all finished work kept: the same call continues from there, and also after a kill.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file, for example {path / 'store.h5'}")
    by_mask = segmenter is None
    if settings.region != "none" and by_mask and not any(dataset.masks):
        raise InputError(
            f"input.region: {settings.region!r} needs lungs; give a lung segmenter, "
            "masks in the data set, or region none"
        )
    about = _about(dataset, settings, segmenter, path)
    # Before the content is hashed, which takes minutes for a large set: a file that is no store is refused at once.
    old = _reusable(path, about)
    keys = _content_keys(dataset, by_mask, progress)
    if shared and path.exists():
        # What cannot be completed is not written over either.
        if old is None:
            raise InputError(
                f"store: {path} holds stacks of other input settings or another segmenter than these weights ask for; "
                "name another file (one store serves all weights with the same input)"
            )
        if old.root.resolve() != dataset.root.resolve():
            old.close()
            where = f"images under {old.root}, these are under {dataset.root}"
            raise InputError(f"store: {path} holds {where}; name another file")
        if _holds(old, dataset, keys):
            return old
        dataset = _union(old, dataset)
        about = _about(dataset, settings, segmenter, path)
        keys = _content_keys(dataset, by_mask, progress)
    if old is not None and _up_to_date(old, dataset, keys, about):
        if progress:
            print(f"{path}: up to date, {len(old)} stacks", file=sys.stderr)
        return old
    _build(dataset, settings, path, segmenter, jobs, progress, keys, about, old)
    store = Store(path)
    if progress:
        text, rejected = f"{path}: {len(store)} stacks", store.rejected
        if len(rejected):
            first = f"{rejected['path'].iloc[0]}: {rejected['reason'].iloc[0]}"
            text += f", {len(rejected)} of {count(len(dataset), 'file')} could not be used (the first, {first})"
        # Not the complement of the trusted: where lungs were not looked for the value is missing.
        untrusted = int((store.table["lungs_trusted"] == False).fillna(False).sum())  # noqa: E712
        if untrusted:
            text += f", {untrusted} without a lung mask that can be trusted (see covidcxnet datasets check)"
        print(text, file=sys.stderr)
    return store


def content_sha256(path: Path) -> str:
    """SHA-256 of a file; "" for one that cannot be opened."""
    try:
        return sha256(path)
    except OSError:
        return ""


def _build(dataset, settings, path, segmenter, jobs, progress, keys, about, old) -> None:
    plan = {"made": _made_by(about), "keys": hashlib.sha256("\n".join(keys).encode()).hexdigest()}
    partial = PartialStore(path, plan, settings, len(dataset))
    begun = len(partial.records)
    bar = ProgressBar(total=len(dataset), initial=begun, desc="preparing", unit="image", disable=not progress)
    try:
        _fill(partial, dataset, settings, segmenter, jobs, keys, old, bar)
        if not partial.rows:
            first = partial.records[0]["error"]
            partial.discard()
            raise InputError(
                f"{path}: none of {len(dataset)} radiographs could be prepared; the first, {dataset.paths[0]}: {first}"
            )
        if old is not None:
            old.close()  # the new file takes its name
        partial.finish(about, *_tables(dataset, partial.records))
    except KeyboardInterrupt:
        partial.close()  # before anything is said: a second Ctrl-C may follow
        bar.close()
        print(
            f"{path}: broken off at {len(partial.records)} of {len(dataset)}; the same command goes on from there",
            file=sys.stderr,
        )
        raise
    finally:
        bar.close()
        partial.close()
        if old is not None:
            old.close()


def _fill(partial: PartialStore, dataset, settings, segmenter, jobs, keys, old: Store | None, bar) -> None:
    """Every radiograph from where the last run stopped, in order: copied where `old` has it, else prepared."""
    known = {} if old is None else _known_rows(old)
    i = len(partial.records)
    todo = [k for k in range(i, len(keys)) if keys[k] and keys[k] not in known]
    paths, refused = dataset.paths, dataset.rejected
    masks = dataset.masks if segmenter is None and "mask" in dataset.table else None
    # A generator: a file is read when its turn comes, between rows that are copied.
    fresh = prepare_files(
        [paths[k] for k in todo],
        settings,
        segmenter=segmenter,
        jobs=jobs or min(cores(), max(1, len(todo) // 48)),  # starting a worker costs as much as some 50 images
        known_masks=None if masks is None else [masks[k] for k in todo],
    )
    while i < len(keys):
        count = 1
        if not keys[i]:
            partial.note([_RECORD | {"error": refused[i] or "no such file, or it may not be read"}])
        elif old is not None and keys[i] in known:
            # Neighbours go in one go, but not all: they are in memory at once.
            first, record = known[keys[i]]
            records = [record]
            for key in keys[i + 1 : i + 64]:
                row, record = known.get(key, (-1, {}))
                if row != first + len(records):
                    break
                records.append(record)
            partial.copy(old.stacks.file, first, records)
            count = len(records)
        else:
            _add(partial, next(fresh), keys[i])
        i += count
        bar.update(count)


def _add(partial: PartialStore, outcome: Outcome, key: str) -> None:
    record = _RECORD | {"key": key}
    if outcome.prepared is None:
        partial.note([record | {"error": outcome.error or "unknown"}])
        return
    record["height"], record["width"] = map(int, outcome.radiograph_shape or (0, 0))
    record |= {"trusted": outcome.trusted, "reasons": "; ".join(outcome.reasons)}
    area = getattr(outcome.verdict, "area_fraction", None)
    if area is None and outcome.prepared.lungs is not None:
        area = outcome.prepared.lungs.mean()
    record["area"] = None if area is None else float(area)
    partial.add(outcome.prepared, record)


def _tables(dataset: Dataset, records) -> tuple[pd.DataFrame, pd.DataFrame]:
    # Kinds are given: a column in which every value is missing would have one of its own.
    kinds = {"height": "int64", "width": "int64", "trusted": "boolean", "reasons": "str", "area": "float64"}
    values = {name: pd.Series([record[name] for record in records], dtype=kind) for name, kind in kinds.items()}
    results = pd.DataFrame({**_key_columns(record["key"] for record in records), **values})
    results.columns = list(COLUMNS)
    errors = pd.Series([record["error"] for record in records], dtype="str")
    failed = np.array([record["error"] is not None for record in records])
    described = dataset.table[columns_of(dataset.table)]
    table = pd.concat([described, results], axis=1)[~failed].reset_index(drop=True)
    rejected = pd.concat([described, results[["sha256", "mask_sha256"]], errors.rename("reason")], axis=1)
    return table, rejected[failed].reset_index(drop=True)


def _about(dataset: Dataset, settings: InputSettings, segmenter, path: Path) -> dict[str, Any]:
    """What a store of these has in its attribute."""
    return {
        "format": FORMAT,
        "pipeline": pipeline.VERSION,
        "settings": settings.to_dict(),
        "segmenter": {} if segmenter is None else {"name": str(segmenter.name), "sha256": str(segmenter.sha256)},
        "segmenter_options": {k: str(getattr(segmenter, k)) for k in SEGMENTER_OPTIONS if hasattr(segmenter, k)},
        "classes": list(dataset.classes),
        # Relative, so that a store and its images can move together.
        "root": os.path.relpath(dataset.root.absolute(), path.absolute().parent),
        "name": dataset.name,
    }


def _union(old: Store, dataset: Dataset) -> Dataset:
    """All images of both, old ones first; what the data set says of an image replaces what the store says."""
    before = pd.concat([old.table, old.rejected.drop(columns="reason")], ignore_index=True)
    before = before.drop(columns=list(COLUMNS))
    order = list(dict.fromkeys([*before["path"], *dataset.table["path"]]))
    rest = before[~before["path"].isin(set(dataset.table["path"]))]
    table = pd.concat([dataset.table, rest], ignore_index=True).set_index("path").reindex(order)
    classes = tuple(dict.fromkeys([*old.classes, *dataset.classes]))
    return Dataset(table.rename_axis("path").reset_index(), dataset.root, classes, old.name)


def _made_by(about: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the pixels of a stack, except for the file's content."""
    # The segmenter by content, not by name: a weights file may have moved.
    settings = {key: value for key, value in about["settings"].items() if key != "segmenter"}
    content = {"settings": settings, "segmenter": about["segmenter"].get("sha256", "")}
    return {key: about[key] for key in ("format", "pipeline", "segmenter_options")} | content


def _reusable(path: Path, about: dict[str, Any]) -> Store | None:
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
    if _made_by(old.about) != _made_by(about):
        old.close()
        return None
    return old


def _up_to_date(old: Store, dataset: Dataset, keys: list[str], about: dict[str, Any]) -> bool:
    """Whether preparing the data set would give the same store again."""
    before = {key: value for key, value in old.about.items() if key != "rows"}
    # The segmenter's content is the same, as `_reusable` checked; its name may differ.
    before["settings"] = {**before["settings"], "segmenter": about["settings"]["segmenter"]}
    before["segmenter"] = about["segmenter"]
    columns = columns_of(dataset.table)
    if before != about or columns_of(old.table) != columns:
        return False
    now = dataset.table.assign(**_key_columns(keys))
    out = now["path"].isin(set(old.rejected["path"])).to_numpy()
    columns = [*columns, "sha256", "mask_sha256"]
    return _same(now[~out], old.table, columns) and _same(now[out], old.rejected, columns)


def _holds(old: Store, dataset: Dataset, keys: list[str]) -> bool:
    """Whether every image of the data set is in the store, or was rejected, as its file is now."""
    before = pd.concat([old.table, old.rejected], ignore_index=True)
    known = {path: _key(sha, mask) for path, sha, mask in before[["path", "sha256", "mask_sha256"]].itertuples(False)}
    return all(known.get(path) == key for path, key in zip(dataset.table["path"], keys, strict=True))


def _known_rows(old: Store) -> dict[str, tuple[int, dict[str, Any]]]:
    """Content key to row and record. Rejected files are tried again instead: memory may have been short."""
    known = {}
    for i, (sha, mask, height, width, trusted, reasons, area) in enumerate(old.table[list(COLUMNS)].itertuples(False)):
        record = _RECORD | {"key": _key(sha, mask), "height": int(height), "width": int(width)}
        record["trusted"] = None if pd.isna(trusted) else bool(trusted)
        record["reasons"] = "" if pd.isna(reasons) else reasons
        record["area"] = None if pd.isna(area) else float(area)
        known[record["key"]] = i, record
    return known


def _content_keys(dataset: Dataset, by_mask: bool, progress: bool) -> list[str]:
    """SHA-256 of each file, with `by_mask` that of its mask too; "" where it cannot be opened or is rejected."""
    masks = dataset.masks if by_mask else [None] * len(dataset)
    files = list(zip(dataset.paths, masks, dataset.rejected, strict=True))

    def key(file: tuple[Path, tuple[Path, ...] | None, str | None]) -> str:
        image, mask, refused = file
        content = "" if refused else content_sha256(image)
        return content if mask is None or not content else f"{content}:{'+'.join(map(content_sha256, mask))}"

    with ThreadPoolExecutor(cores()) as pool:
        bar = ProgressBar(pool.map(key, files), "checking", len(files), unit="file", disable=not progress, leave=False)
        return list(bar)


def _key_columns(keys: Iterable[str]) -> dict[str, pd.Series]:
    """Content keys as the two columns of a store's table."""
    parts = [key.partition(":") for key in keys]
    return {name: pd.Series([p[i] for p in parts], dtype="str") for name, i in (("sha256", 0), ("mask_sha256", 2))}


def _key(content: Any, mask: Any) -> str:
    return ("" if pd.isna(content) else content) + ("" if pd.isna(mask) else f":{mask}")


def _same(left: pd.DataFrame, right: pd.DataFrame, columns: list[str]) -> bool:
    """Equal as text, which is what a store keeps of anything that is no number."""
    if len(left) != len(right):
        return False
    text = [t[columns].map(lambda v: "" if pd.isna(v) else str(v)).to_numpy() for t in (left, right)]
    return bool((text[0] == text[1]).all())
