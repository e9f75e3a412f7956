"""Building a store: prepare what is new, copy what is not, go on where a run was broken off."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.preparation import pipeline
from covidcxnet.preparation.outcome import Outcome, Segmenter
from covidcxnet.preparation.partial import PartialStore
from covidcxnet.preparation.pipeline import prepare_files
from covidcxnet.preparation.reuse import (
    OWN_COLUMNS,
    Known,
    content_keys,
    cores,
    digest,
    known_rows,
    made_by,
    new_record,
    reusable,
    up_to_date,
)
from covidcxnet.preparation.store import FORMAT, Store
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError

SEGMENTER_OPTIONS = ("convention", "threshold", "components", "fill_holes", "dilation", "limits")  # that shape a mask


def prepare(
    dataset: Dataset,
    settings: InputSettings,
    path: str | Path,
    *,
    segmenter: Segmenter | None = None,
    jobs: int | None = None,
    progress: bool = True,
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
        The store, an HDF5 file. One that is there already is brought up to date: only radiographs whose file content
        is new are prepared, the others are copied; with other settings or another segmenter everything is made anew.
        Labels and other columns may change without touching a pixel.
    segmenter : LungSegmenter, optional
        Finds the lungs. Needed for a region other than "none" unless the data set has masks.
    jobs : int, optional
        Worker processes; None: one a core, none at all for a few files.
    progress : bool
        Show progress bars with images per second, and say what was done.

    Returns
    -------
    Store
        Rows in the data set's order, rejected files left out and listed in ``rejected``.

    Raises
    ------
    InputError
        If no radiograph can be prepared, the region needs lungs and there are none, the disk is too small, or another
        process is at work on the same store.
    KeyboardInterrupt
        On Ctrl-C, with all finished work kept: the same call goes on from there, and so it does after a kill.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file, for example {path / 'store.h5'}")
    masks = dataset.table["mask"] if "mask" in dataset.table and segmenter is None else None
    if settings.region != "none" and segmenter is None and (masks is None or masks.isna().all()):
        raise InputError(
            f"input.region: {settings.region!r} needs lungs; give a lung segmenter, "
            "masks in the data set, or region none"
        )
    say = print if progress else _silent
    keys = content_keys(dataset, masks, progress)
    about = about_of(dataset, settings, segmenter, path)
    old = reusable(path, about)
    if old is not None and up_to_date(old, dataset, keys, about):
        say(f"{path}: up to date, {len(old)} stacks", file=sys.stderr)
        return old
    _build(dataset, settings, path, segmenter, jobs, progress, keys, about, old)
    store = Store(path)
    say(_summary(store), file=sys.stderr)
    return store


def _build(dataset, settings, path, segmenter, jobs, progress, keys, about, old) -> None:
    plan = {"made": made_by(about), "keys": digest(keys)}
    partial = PartialStore(path, plan, settings, len(dataset))
    bar = tqdm(total=len(dataset), initial=len(partial.records), desc="preparing", unit="image", disable=not progress)
    try:
        known = {**partial.earlier(), **({} if old is None else known_rows(old))}
        _fill(partial, dataset, settings, segmenter, jobs, keys, known, bar)
        if not partial.rows:
            first = partial.records[0]["error"]
            partial.discard()
            raise InputError(
                f"{path}: none of {len(dataset)} radiographs could be prepared; the first, {dataset.paths[0]}: {first}"
            )
        if old is not None:
            old.close()
        partial.finish(about, *_tables(dataset, partial.records))
    except KeyboardInterrupt:
        partial.close()
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


def _fill(partial: PartialStore, dataset, settings, segmenter, jobs, keys, known: dict[str, Known], bar) -> None:
    """Every radiograph from where the last run stopped, in order: copied where its row is known, else prepared."""
    begin = len(partial.records)
    todo = [i for i in range(begin, len(keys)) if keys[i] and keys[i] not in known]
    paths, refused = dataset.paths, dataset.rejected
    known_masks: list[Any] | None = None
    if segmenter is None and "mask" in dataset.table:
        masks = dataset.masks
        known_masks = [masks[i] for i in todo]
    jobs = jobs or min(cores(), max(1, len(todo) // 48))  # starting a worker costs as much as some 50 images
    items = [paths[i] for i in todo]
    fresh = prepare_files(items, settings, segmenter=segmenter, jobs=jobs, known_masks=known_masks)
    i = begin
    while i < len(keys):
        count = 1
        if not keys[i]:
            partial.reject(new_record("", error=refused[i] or "no such file, or it may not be read"))
        elif keys[i] in known:
            run = _run(keys, i, known)
            partial.copy(run[0].file, run[0].row, [row.record for row in run])
            count = len(run)
        else:
            _add(partial, next(fresh), keys[i])
        i += count
        bar.update(count)


def _add(partial: PartialStore, outcome: Outcome, key: str) -> None:
    if outcome.prepared is None:
        partial.reject(new_record(key, error=outcome.error or "unknown"))
        return
    area = getattr(outcome.verdict, "area_fraction", None)
    if area is None and outcome.prepared.lungs is not None:
        area = outcome.prepared.lungs.mean()
    height, width = outcome.radiograph_shape or (0, 0)
    partial.add(
        outcome.prepared,
        new_record(
            key,
            height=int(height),
            width=int(width),
            trusted=outcome.trusted,
            reasons="; ".join(outcome.reasons),
            area=None if area is None else float(area),
        ),
    )


def _run(keys, i: int, known: dict[str, Known], longest: int = 64) -> list[Known]:
    """Known rows from `i` on that stand one after the other in one file: copied in one go."""
    run = [known[keys[i]]]
    for key in keys[i + 1 : i + longest]:
        row = known.get(key)
        if row is None or row.file is not run[0].file or row.row != run[-1].row + 1:
            break
        run.append(row)
    return run


def _tables(dataset: Dataset, records) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = pd.DataFrame(
        {
            "sha256": pd.Series([r["key"].partition(":")[0] for r in records], dtype="str"),
            "mask_sha256": pd.Series([r["key"].partition(":")[2] for r in records], dtype="str"),
            "height": [r["height"] for r in records],
            "width": [r["width"] for r in records],
            "lungs_trusted": pd.array([r["trusted"] for r in records], dtype="boolean"),
            "lungs_reasons": pd.Series([r["reasons"] for r in records], dtype="str"),
            "lungs_area": pd.Series([r["area"] for r in records], dtype="float64"),
        }
    )
    failed = pd.Series([r["error"] is not None for r in records])
    own = dataset.table.drop(columns=[c for c in (*OWN_COLUMNS, "reason") if c in dataset.table])
    table = pd.concat([own, found], axis=1)[~failed].reset_index(drop=True)
    reasons = pd.Series([r["error"] for r in records], dtype="str")
    rejected = own.assign(sha256=found["sha256"], mask_sha256=found["mask_sha256"], reason=reasons)
    rejected = rejected[failed].reset_index(drop=True)
    return table, rejected


def about_of(dataset: Dataset, settings: InputSettings, segmenter, path: Path) -> dict[str, Any]:
    """What a store made of these would say of itself."""
    about = {} if segmenter is None else {"name": str(segmenter.name), "sha256": str(segmenter.sha256)}
    options = {name: str(getattr(segmenter, name)) for name in SEGMENTER_OPTIONS if hasattr(segmenter, name)}
    root = os.path.relpath(dataset.root.absolute(), path.absolute().parent)
    return {
        "format": FORMAT,
        "pipeline": pipeline.VERSION,
        "settings": settings.to_dict(),
        "segmenter": about,
        "segmenter_options": options,
        "classes": list(dataset.classes),
        "root": root,
        "name": dataset.name,
    }


def _summary(store: Store) -> str:
    text = f"{store.path}: {len(store)} stacks"
    if len(store.rejected):
        text += f", {len(store.rejected)} files rejected (the first, {store.rejected['path'].iloc[0]}: "
        text += f"{store.rejected['reason'].iloc[0]})"
    distrusted = int((store.table["lungs_trusted"] == False).fillna(False).sum())  # noqa: E712
    return text + (f", {distrusted} without a lung mask that can be trusted" if distrusted else "")


def _silent(*_, **__) -> None:
    pass
