"""Building a store: prepare what is new, copy what is not, continue where a run was broken off."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from covidcxnet.cluster import IMAGES, Cluster
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.preparation import pipeline
from covidcxnet.preparation.pipeline import BATCH, Outcome, Segmenter, prepare_files
from covidcxnet.preparation.store import (
    COLUMNS,
    FORMAT,
    PartialStore,
    Store,
    bytes_a_row,
    check_room,
    columns_of,
    finish_shard,
    join,
    remove_shards,
    shard_paths,
    shard_records,
)
from covidcxnet.reporting.table import count
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from enhancement.files import whole_file
from enhancement.lock import locked
from enhancement.parallel import cores, sha256
from enhancement.progress import ProgressBar

SEGMENTER_OPTIONS = ("convention", "threshold", "components", "fill_holes", "dilation", "limits")  # that shape a mask
# Of a store. Reading rows in random order slows down with every shard, which costs an open file or the time to open it.
_MOST_SHARDS = 500
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
    cluster: Cluster | None = None,
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
        Finds the lungs. Needed for a region other than "none" unless the data set has masks. Whatever engine runs it,
        the store is the same, so that its precision must be f32.
    jobs : int, optional
        Worker processes; None: one per core, fewer for a few files.
    progress : bool
        Show progress bars with images per second, and print what was done.
    shared : bool
        An existing store is completed and keeps its other images, see `Store.select`; columns may be those of an
        earlier call. It is refused if it was made with other settings, another segmenter or from another folder.
    cluster : covidcxnet.cluster.Cluster, optional
        Its workers prepare, in place of `jobs` here, each into shards of about 100 images in the folder
        ``PATH.shards``, which the store joins. Bytes are those of one process.

    Returns
    -------
    Store
        Rows in the data set's order, rejected files left out and listed in ``rejected``.

    Raises
    ------
    InputError
        If no radiograph can be prepared, lungs are needed and there are none, or found in another precision than f32,
        the disk is too small, or another process is at work on the same store.
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
    if (precision := getattr(segmenter, "precision", "f32")) != "f32":
        # It moves the edges of masks, which nobody who opens the store later would know.
        raise InputError(f"precision: {precision} of the lung segmenter given, f32 expected for a store")
    about = _about(dataset, settings, segmenter, path)
    # Before the content is hashed, which takes minutes for a large set: a file that is no store is refused at once.
    old = _reusable(path, about)
    keys = _content_keys(dataset, by_mask, progress, cluster)
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
        keys = _content_keys(dataset, by_mask, progress, cluster)
    if old is not None and _up_to_date(old, dataset, keys, about):
        if progress:
            print(f"{path}: up to date, {len(old)} stacks", file=sys.stderr)
        return old
    build = _build if cluster is None else bound(_build_shards, cluster=cluster)
    build(dataset, settings, path, segmenter, jobs, progress, keys, about, old)
    store = Store(path)
    if progress:
        text, rejected = f"{path}: {len(store)} stacks", store.rejected
        if len(rejected):
            first = f"{rejected['path'].iloc[0]}: {rejected['reason'].iloc[0]}"
            text += f", {len(rejected)} of {count(len(dataset), 'file')} could not be used (the first, {first})"
        # Not the complement of the trusted: where lungs were not looked for the value is missing.
        untrusted = int((store.table["lungs_trusted"] == False).fillna(False).sum())  # noqa: E712
        if untrusted:
            text += f", {untrusted} whole, as no lung mask was trusted (covidcxnet predict says why)"
        print(text, file=sys.stderr)
    return store


def content_sha256(path: Path) -> str:
    """SHA-256 of a file; "" for one that cannot be opened."""
    try:
        return sha256(path)
    except OSError:
        return ""


@dataclass(frozen=True)
class _Part:
    """Radiographs to prepare one after the other: all of a data set, or those of a shard; plain values for a worker."""

    paths: list[Path]
    masks: list[Any] | None  # None where a segmenter finds the lungs
    refused: list[str | None]
    keys: list[str]
    known: dict[str, tuple[int, dict[str, Any]]]  # content key to row and record of the old store
    shard: Path | None = None  # where it is written

    def __len__(self) -> int:
        return len(self.keys)

    def cut(self, first: int, stop: int, shard: Path) -> _Part:
        keys, masks = self.keys[first:stop], None if self.masks is None else self.masks[first:stop]
        known = {key: self.known[key] for key in keys if key in self.known}
        return _Part(self.paths[first:stop], masks, self.refused[first:stop], keys, known, shard)

    def files(self) -> list[Path]:
        """What will be read."""
        masks = self.masks or [None] * len(self)
        fresh = [
            (p, m) for p, m, key in zip(self.paths, masks, self.keys, strict=True) if key and key not in self.known
        ]
        return [file for path, mask in fresh for file in (path, *(mask or ()))]


def _whole(dataset: Dataset, segmenter: Segmenter | None, keys: list[str], old: Store | None) -> _Part:
    masks = dataset.masks if segmenter is None and "mask" in dataset.table else None
    known = {} if old is None else _known_rows(old)
    return _Part(dataset.paths, masks, dataset.rejected, keys, known)


def _build(dataset, settings, path, segmenter, jobs, progress, keys, about, old) -> None:
    plan = {"made": _made_by(about), "keys": hashlib.sha256("\n".join(keys).encode()).hexdigest()}
    partial = PartialStore(path, plan, settings, len(dataset))
    begun = len(partial.records)
    bar = ProgressBar(total=len(dataset), initial=begun, desc="preparing", unit="image", disable=not progress)
    try:
        _fill(partial, _whole(dataset, segmenter, keys, old), settings, segmenter, jobs, old, bar)
        records = partial.records
        if all(record["error"] is not None for record in records):
            partial.discard()
            raise _none_prepared(path, dataset, records)
        if old is not None:
            old.close()  # the new file takes its name
        partial.finish(about, _tables(dataset, partial.records))
        remove_shards(path)
    except KeyboardInterrupt:
        partial.close()  # before anything is said: a second Ctrl-C may follow
        bar.close()
        _say_broken_off(path, len(partial.records), len(dataset))
        raise
    finally:
        bar.close()
        partial.close()
        if old is not None:
            old.close()


def _build_shards(dataset, settings, path, segmenter, jobs, progress, keys, about, old, *, cluster: Cluster) -> None:
    """As `_build`, by the workers of a cluster: they write shards, whole or not at all, and this process joins them."""
    whole = _whole(dataset, segmenter, keys, old)
    cuts = _cuts(keys)
    # Shards are named by all that decides their bytes, so that those that are there need not be made again.
    plan = hashlib.sha256(json.dumps([_made_by(about), keys, cuts], sort_keys=True).encode()).hexdigest()[:12]
    shards = shard_paths(path, plan, len(cuts) - 1)
    parts = [whole.cut(*rows) for rows in zip(cuts, cuts[1:], map(Path.absolute, shards), strict=False)]
    shards[0].parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock"), f"is preparing {path.name}", target=path):
        results: list[Any] = [shard_records(shard) for shard in shards]
        missing = [part for part, records in zip(parts, results, strict=True) if records is None]
        check_room(path, sum(map(len, missing)) * bytes_a_row(settings))
        done = len(dataset) - sum(map(len, missing))
        source = old.path.absolute() if whole.known else None
        needs = [shards[0].parent.absolute(), *([source] if source else [])]
        work = bound(_prepare_shard, settings=settings, segmenter=segmenter, old=source)
        fresh = cluster.map(
            work, missing, files=_Part.files, needs=needs, done=done, desc="preparing", progress=progress
        )
        try:
            for k, part in enumerate(parts):
                if results[k] is None:
                    results[k] = next(fresh)
                    done += len(part)
                    if not shards[k].is_file():
                        raise InputError(f"{shards[k]}: written by a worker, but not there; is the folder shared?")
            next(fresh, None)  # ends the bar
        except KeyboardInterrupt:
            _say_broken_off(path, done, len(dataset))
            raise
        finally:
            if old is not None:
                old.close()
        rows = [sum(record["error"] is None for record in records) for records in results]
        records = [record for records in results for record in records]
        if not any(rows):
            remove_shards(path)
            raise _none_prepared(path, dataset, records)
        join(path, settings, about, _tables(dataset, records), plan, rows)
        for remains in path.parent.glob(f".{glob.escape(path.name)}.partial.*"):  # of a run without the cluster
            remains.unlink()


def _cuts(keys: list[str]) -> list[int]:
    """Where shards begin and end, so that each has the same number of readable files, the last one fewer."""
    size = max(IMAGES, -(-len(keys) // _MOST_SHARDS))
    # Whole batches of the segmenter, the very batches of one process: the last bits of a network depend on them.
    size = -(-size // BATCH) * BATCH
    readable = np.cumsum([bool(key) for key in keys])
    ends = [int(np.searchsorted(readable, n)) + 1 for n in range(size, int(readable[-1]), size)]
    return [0, *ends, len(keys)]


def _prepare_shard(part: _Part, jobs: int, *, settings, segmenter, old: Path | None) -> list[dict[str, Any]]:
    """A worker's share: one shard; its records."""
    assert part.shard is not None
    before = Store(old) if old is not None and part.known else None
    # Under a name of its own until it is whole: a worker that was taken for dead may be at work on the same shard.
    with whole_file(part.shard) as temporary:
        partial = PartialStore(temporary, {}, settings, len(part))
        try:
            with ProgressBar(disable=True) as bar:
                _fill(partial, part, settings, segmenter, jobs, before, bar)
            finish_shard(partial)
        except BaseException:
            partial.discard()
            raise
        finally:
            if before is not None:
                before.close()
    return partial.records


def _none_prepared(path: Path, dataset: Dataset, records: list[dict[str, Any]]) -> InputError:
    first = records[0]["error"]
    text = f"none of {len(dataset)} radiographs could be prepared; the first, {dataset.paths[0]}: {first}"
    return InputError(f"{path}: {text}")


def _say_broken_off(path: Path, done: int, total: int) -> None:
    print(f"{path}: broken off at {done} of {total}; the same command goes on from there", file=sys.stderr)


def _fill(partial: PartialStore, part: _Part, settings, segmenter, jobs, old: Store | None, bar) -> None:
    """Every radiograph from where the last run stopped, in order: copied where `old` has it, else prepared."""
    keys, known = part.keys, part.known
    i = len(partial.records)
    todo = [k for k in range(i, len(keys)) if keys[k] and keys[k] not in known]
    # A generator: a file is read when its turn comes, between rows that are copied.
    fresh = prepare_files(
        [part.paths[k] for k in todo],
        settings,
        segmenter=segmenter,
        jobs=jobs or min(cores(), max(1, len(todo) // 48)),  # starting a worker costs as much as some 50 images
        known_masks=None if part.masks is None else [part.masks[k] for k in todo],
    )
    while i < len(keys):
        count = 1
        if not keys[i]:
            partial.note([_RECORD | {"error": part.refused[i] or "no such file, or it may not be read"}])
        elif old is not None and keys[i] in known:
            # Neighbours go in one go, but not all: they are in memory at once.
            first, record = known[keys[i]]
            records = [record]
            for key in keys[i + 1 : i + 64]:
                row, record = known.get(key, (-1, {}))
                if row != first + len(records):
                    break
                records.append(record)
            partial.copy(old, first, records)
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


def _tables(dataset: Dataset, records) -> dict[str, pd.DataFrame]:
    """What is known of the stacks, and of the files that could not be prepared."""
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
    return {"table": table, "rejected": rejected[failed].reset_index(drop=True)}


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
    before = {key: value for key, value in old.about.items() if key not in ("rows", "shards")}
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


def _content_keys(dataset: Dataset, by_mask: bool, progress: bool, cluster: Cluster | None = None) -> list[str]:
    """SHA-256 of each file, with `by_mask` that of its mask too; "" where it cannot be opened or is rejected."""
    masks = dataset.masks if by_mask else [None] * len(dataset)
    files = list(zip(dataset.paths, masks, dataset.rejected, strict=True))
    if cluster is not None:
        batches = [files[i : i + IMAGES] for i in range(0, len(files), IMAGES)]
        hashed = cluster.map(_hash_files, batches, files=_opened, desc="checking", progress=progress)
        return [key for keys in hashed for key in keys]
    with ThreadPoolExecutor(cores()) as pool:
        keys = pool.map(_content_key, files)
        bar = ProgressBar(keys, "checking", len(files), unit="file", disable=not progress, leave=False)
        return list(bar)


def _content_key(file: tuple[Path, tuple[Path, ...] | None, str | None]) -> str:
    image, mask, refused = file
    content = "" if refused else content_sha256(image)
    return content if mask is None or not content else f"{content}:{'+'.join(map(content_sha256, mask))}"


def _hash_files(files: list[Any], jobs: int) -> list[str]:
    return list(map(_content_key, files))


def _opened(files: list[Any]) -> list[Path]:
    return [path for image, mask, refused in files if not refused for path in (image, *(mask or ()))]


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
