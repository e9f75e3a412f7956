"""A data set is a labelled table over image files: one row an image, paths relative to one root.

Every source (a folder per class, a CSV, a published set, the phantom) ends up as the same `Dataset`, so nothing
downstream knows where the images came from.
"""

from __future__ import annotations

import os
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.tables import as_text, cell_paths, is_text, listed_path, moved, plain_word, read_text
from covidcxnet.datasets.vocabulary import DEFINITIONS, FINDINGS, PREFIX, findings_of, independent_targets
from covidcxnet.reporting.table import Table
from enhancement.errors import InputError, has_controls, listed, printable
from enhancement.notebook import NotebookDisplay

TASKS = ("exclusive", "independent")
VERDICTS = ("use", "look", "reject")


@dataclass(frozen=True)
class Dataset(NotebookDisplay):
    """Labelled images; a notebook shows `summary`.

    Parameters
    ----------
    table : pandas.DataFrame
        One row an image. Columns ``path`` (relative to `root`, with ``/``) and ``label``; optionally ``patient`` (what
        splits are grouped by), ``view``, ``source``, ``mask`` and ``lesion`` (relative paths of mask images; several
        in one cell, separated by ``;``, count as their union), ``rejected`` (why an image is not to be used, empty
        where it is) and ``finding_...`` (1 present, 0 absent, NaN unknown; see `covidcxnet.datasets.vocabulary`); any
        other column is kept. The index is renumbered from 0.
    root : Path
        Folder that all paths are relative to.
    classes : tuple of str, optional
        In the order of the model's outputs: labels, or the findings to learn where `task` is "independent". Of labels
        ``normal`` always comes first, in whatever order they are given; none given: the others follow sorted.
    name : str, optional
        What reports call it.
    definitions : mapping, optional
        What labels rest on, as keys of `covidcxnet.datasets.vocabulary.DEFINITIONS`; empty where it is not known.
    task : {"exclusive", "independent"}, optional
        Whether each image has exactly one of the classes, its ``label``, or any number of them, each in a column
        ``finding_NAME``. In the second case ``label`` is a single-label view: the only finding, ``normal``,
        ``several`` or ``unknown``.

    Raises
    ------
    InputError
        If ``path`` or ``label`` is missing or empty, a path is listed twice, there are no rows, a label is not among
        `classes`, or a finding has no column. Files are not opened: a missing one is reported when it is prepared.
    """

    table: pd.DataFrame
    root: Path
    classes: tuple[str, ...] = ()
    name: str = "dataset"
    definitions: Mapping[str, str] = field(default_factory=dict)
    task: str = "exclusive"

    def __post_init__(self):
        if self.task not in TASKS:
            raise InputError(f"{self.name}: task {self.task!r} given, one of {', '.join(TASKS)} expected")
        table, classes = _checked(self.table, self.name), tuple(self.classes)
        if self.task == "exclusive":
            labels = set(table["label"])
            if len(set(classes)) < len(classes):
                raise InputError(f"{self.name}: classes {listed(classes)} name one class twice")
            if classes and labels - set(classes):
                raise InputError(
                    f"{self.name}: label {min(labels - set(classes))!r} is not among the classes {listed(classes)}; "
                    "add it, or keep the others with filter(label=[...])"
                )
            # normal is class 0 whatever order was given, so that a single output always means "not normal"
            classes = tuple(sorted(classes or sorted(labels), key=lambda c: c.lower() != "normal"))
        else:
            missing = [name for name in classes if PREFIX + name not in table]
            if missing or len(set(classes)) < len(classes):
                there = listed(findings_of(table), 12) or "none"
                raise InputError(f"{self.name}: no finding {(missing or classes)[0]!r} (or twice); there are {there}")
        if garbled := [name for name in classes if has_controls(name)]:
            what = "holds a line break, tab or other control character"
            raise InputError(f"{self.name}: class {printable(garbled[0])} {what}; rename it")
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "classes", classes)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self):,} images, classes={self.classes})"

    def _html(self) -> str:
        counts = self.summary()
        rows = [(label, *values) for label, values in zip(counts.index, counts.to_numpy().tolist(), strict=True)]
        return str(Table((self.name, *counts.columns), rows).html())

    @property
    def paths(self) -> list[Path]:
        """Absolute path of every image, in table order."""
        root = self.root.absolute()
        return [root / path for path in self.table["path"]]

    @property
    def targets(self) -> np.ndarray:
        """Index into `classes`, int64 [N]; for independent classes float32 [N, K]: 1 present, 0 absent, NaN unknown."""
        if self.task == "independent":
            return independent_targets(self.table, self.classes)
        return pd.Index(self.classes).get_indexer(pd.Index(self.table["label"])).astype(np.int64)

    @property
    def group(self) -> pd.Series | None:
        """What a split must keep together: the ``patient`` column, or None where the table has none."""
        if "patient" not in self.table or self.table["patient"].isna().all():
            return None
        return self.table["patient"]

    @property
    def masks(self) -> list[tuple[Path, ...] | None]:
        """Absolute paths of the files whose union is the lung mask of each image, in table order; None for none."""
        if "mask" not in self.table:
            return [None] * len(self)
        root = self.root.absolute()
        return [tuple(root / part for part in cell_paths(cell)) or None for cell in self.table["mask"]]

    @property
    def rejected(self) -> list[str | None]:
        """Why an image is not to be used, in table order; None where it is."""
        if "rejected" not in self.table:
            return [None] * len(self)
        return [as_text(reason) or None for reason in self.table["rejected"]]

    @property
    def findings(self) -> pd.DataFrame | None:
        """Findings, several an image: float64 [N, K], 1 present, 0 absent, NaN unknown; None where there are none."""
        columns = [c for c in self.table if str(c).startswith(PREFIX) and str(c)[len(PREFIX) :] in FINDINGS]
        if not columns:
            return None
        return self.table[columns].astype(float).rename(columns=lambda c: c[len(PREFIX) :])

    def filter(self, **where: Any) -> Dataset:
        """Rows whose columns hold the given value, or one of a list of values: ``filter(source=["nih"], view="PA")``.

        Filtering by ``label`` narrows exclusive `classes` to the labels given, in their order here.
        """
        keep = self.rows(where)
        if not keep.any():
            wanted = " and ".join(f"{k}={listed(_values(v))}" for k, v in where.items())
            raise InputError(f"{self.name}: no image has {wanted}; see summary() for what there is")
        classes = self.classes
        if "label" in where and self.task == "exclusive":
            labels = {plain_word(v) for v in _values(where["label"])}
            classes = tuple(c for c in classes if c in labels)
        return replace(self, table=self.table[keep], classes=classes)

    def rows(self, where: Mapping[str, Any]) -> np.ndarray:
        """Which rows `filter` would keep, bool [N]."""
        keep = np.ones(len(self), bool)
        for column, wanted in where.items():
            if column not in self.table:
                raise InputError(f"{self.name}: no column {column!r}; there are {listed(self.table.columns, 12)}")
            # compared as text, so that a value from a command line or a YAML file matches a number or a word alike
            keep &= self.table[column].map(plain_word).isin({plain_word(v) for v in _values(wanted)}).to_numpy()
        return keep

    def summary(self) -> pd.DataFrame:
        """Images by class and source, with totals and the number of patients where they are known."""
        table = self.table
        source = table["source"].fillna("unknown") if "source" in table else pd.Series(self.name, table.index)
        counts = pd.crosstab(table["label"], source).reindex(self.classes, fill_value=0)
        counts.index.name, counts.columns.name = "label", None
        counts.insert(0, "images", counts.sum(axis=1))
        counts.loc["total"] = counts.sum()
        if self.group is not None:
            patients = table.groupby("label")["patient"].nunique().reindex(self.classes, fill_value=0)
            patients["total"] = table["patient"].nunique()
            counts.insert(1, "patients", patients)
        return counts


def merge(*datasets: Dataset, accept: Sequence[str] = ()) -> Dataset:
    """Several data sets as one, its root the deepest folder that holds them all.

    Classes keep the order in which they are first met, ``normal`` still first. Patients of different sets are taken
    for different people unless their ids are equal *and* their roots are the same folder. Where no ``source`` is
    given, the data set's name stands.

    Parameters
    ----------
    *datasets : Dataset
        Two or more; a finding that one of them says nothing about is unknown there.
    accept : sequence of str
        Labels that may mean different things in different sets.

    Raises
    ------
    InputError
        If a label rests on different things (one set's ``normal`` was read by physicians, another's mined from
        reports) and is not among `accept`, an image stands in two of them, or their tasks differ.
    """
    if not datasets:
        raise InputError("merge: no data sets given")
    if len({d.task for d in datasets}) > 1:
        raise InputError("merge: some labels exclude each other and some do not; load all sets for one task")
    definitions = _agreed(datasets, accept)
    roots = [d.root.resolve() for d in datasets]
    root = Path(os.path.commonpath(roots))
    parts = []
    for dataset, its_root in zip(datasets, roots, strict=True):
        part, prefix = dataset.table.copy(), its_root.relative_to(root)
        for column in {"path", "mask", "lesion"} & set(part.columns):
            part[column] = part[column].map(lambda p, prefix=prefix: moved(p, lambda name: (prefix / name).as_posix()))
        source = part["source"] if "source" in part else pd.Series(None, part.index, dtype=object)
        part["source"] = source.where(source.map(as_text) != "", dataset.name)
        if "patient" in part and its_root != root:
            known = part["patient"].notna()
            part["patient"] = part["patient"].where(~known, f"{prefix.as_posix()}:" + part["patient"].astype(str))
        parts.append(part)
    classes = tuple(dict.fromkeys(c for d in datasets for c in d.classes))
    classes = tuple(sorted(classes, key=lambda c: c.lower() != "normal"))
    name = "+".join(d.name for d in datasets)
    return Dataset(pd.concat(parts, ignore_index=True), root, classes, name, definitions, datasets[0].task)


def with_verdicts(dataset: Dataset, verdicts: str | Path | pd.DataFrame) -> Dataset:
    """The data set with a reason in its column ``rejected`` for each image that a check, or a person, rejected."""
    table, source = _about(dataset, verdicts, "verdict", "verdicts", "covidcxnet datasets check writes such a table")
    wrong = table.loc[~table["verdict"].isin(VERDICTS), "verdict"]
    if len(wrong):
        raise InputError(f"{source}: verdict {wrong.iloc[0]!r} found, one of {', '.join(VERDICTS)} expected")
    refused = table[table["verdict"] == "reject"].drop_duplicates("path").set_index("path")
    given = refused["reason"] if "reason" in refused else pd.Series("", refused.index, dtype=object)
    reasons = dataset.table["path"].map(given.fillna("").replace("", "rejected by hand"))
    if "rejected" in dataset.table:
        reasons = reasons.where(reasons.notna(), dataset.table["rejected"])
    if reasons.notna().all() and (reasons != "").all():
        raise InputError(f"{source}: rejects all {len(dataset)} images")
    return replace(dataset, table=dataset.table.assign(rejected=reasons))


def with_groups(dataset: Dataset, groups: str | Path | pd.DataFrame) -> Dataset:
    """The data set with a column ``duplicate_group`` from `duplicates.Duplicates`; `split` keeps it on one side."""
    writer = "covidcxnet datasets duplicates writes it, under a name that ends in .groups.csv"
    table, _ = _about(dataset, groups, "duplicate_group", "duplicates", writer)
    known = table.drop_duplicates("path").set_index("path")["duplicate_group"]
    return replace(dataset, table=dataset.table.assign(duplicate_group=dataset.table["path"].map(known)))


def _about(dataset: Dataset, table: str | Path | pd.DataFrame, column: str, what: str, writer: str):
    """A table with ``path`` and `column`, and what messages call it; `InputError` if it is about other images."""
    source = f"the table of {what}"
    if not isinstance(table, pd.DataFrame):
        table, source = read_text(table, f"a table of {what}"), str(table)
    missing = {"path", column} - set(table.columns)
    if missing:
        raise InputError(f"{source}: no column {min(missing)!r}; {writer}")
    table = table.assign(path=[listed_path(path, dataset.root) for path in table["path"]])
    if len(table) and not set(dataset.table["path"]) & set(table["path"]):
        raise InputError(f"{source}: is about other images than {dataset.name}, the first {table['path'].iloc[0]}")
    return table, source


def table_for(dataset: Dataset, folder: Path) -> pd.DataFrame:
    """The table with paths relative to another folder, which need not hold the files."""
    table, root = dataset.table.copy(), dataset.root.resolve()
    if table["path"].str.contains(";", regex=False).any():
        raise InputError(f"{dataset.name}: a file name has a semicolon, which separates names in a cell; rename it")
    try:
        prefix = os.path.relpath(root, folder.resolve())
    except ValueError as error:  # another drive
        raise InputError(f"{folder}: is on another drive than {root}; name a CSV on the same one") from error
    for column in {"path", "mask", "lesion"} & set(table.columns):
        table[column] = table[column].map(
            lambda cell: moved(cell, lambda path: Path(os.path.normpath(Path(prefix, path))).as_posix())
        )
    return table


def _agreed(datasets: Sequence[Dataset], accept: Sequence[str]) -> dict[str, str]:
    """What each label of the union rests on; `InputError` where that is contradictory and was not accepted."""
    agreed: dict[str, str] = {}
    first: dict[str, str] = {}
    for dataset in datasets:
        for label, kind in dataset.definitions.items():
            if label not in agreed:
                agreed[label], first[label] = kind, dataset.name
            elif kind not in agreed[label].split("+"):
                if label not in accept:
                    raise InputError(
                        f"merge: {label!r} of {first[label]} is meant {_meaning(agreed[label])}; that of "
                        f"{dataset.name}, {_meaning(kind)}; accept the label by name (accept {label}), or leave it "
                        "out of one of them"
                    )
                agreed[label] += f"+{kind}"
    return agreed


def _meaning(kinds: str) -> str:
    return " or ".join(DEFINITIONS.get(kind, kind) for kind in kinds.split("+"))


def _checked(table: pd.DataFrame, name: str) -> pd.DataFrame:
    for column in ("path", "label"):
        if column not in table:
            raise InputError(f"{name}: no column {column!r}; there are {listed(table.columns, 12) or 'none'}")
    if table.empty:
        raise InputError(f"{name}: no images")
    table = table.reset_index(drop=True).copy()
    for column in ("path", "label"):
        empty = table[column].isna() | (table[column].map(as_text) == "")
        if empty.any():
            row = int(np.flatnonzero(empty)[0])
            which = f" ({table['path'][row]})" if column == "label" else ""
            raise InputError(f"{name}: row {row + 1}{which} has no {column}; fill it in or drop the row")
        table[column] = table[column].map(as_text if column == "path" else plain_word)
    for path in table["path"]:
        if not is_text(path):
            raise InputError(f"{printable(path)}: the file name is not valid UTF-8; rename the file")
    # one file may be written in two ways, ./a.png and a.png
    loose = table["path"].str.contains(r"(?:^|/)\.{1,2}/|//", regex=True)
    if loose.any():
        table.loc[loose, "path"] = table.loc[loose, "path"].map(lambda path: Path(os.path.normpath(path)).as_posix())
    twice = table["path"].duplicated()
    if twice.any():
        first, several = table["path"][twice].iloc[0], table["path"][twice].nunique()
        rows = int(table["path"].eq(first).sum())
        more = f" ({several} images are in several)" if several > 1 else ""
        raise InputError(f"{name}: {first} is in {rows} rows{more}; each image may be listed once")
    if "patient" in table:
        named = table["patient"].map(plain_word, na_action="ignore")
        table["patient"] = named.mask(named.eq(""), None)  # a blank cell is no patient's name
    return table


def _values(value) -> list:
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
