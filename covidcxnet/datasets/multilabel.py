"""Multi-label data sets: several findings an image, each present, absent or unknown.

Whatever a table looks like, one convention comes out of it: a column ``finding_NAME`` for each finding with 1
(present), 0 (absent) or NaN (unknown), as the sets known by name give it. Nothing unknown is ever taken for absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.findings import FINDINGS, PREFIX, UNKNOWN, single_label
from enhancement.errors import InputError

SEPARATOR = "|"
LISTS = ("labels", "finding_labels", "findings", "label", "finding")
"""Columns that may hold findings as a list, ``Effusion|Mass``, in this order of preference."""

ALIASES = {
    "no_finding": "normal",
    "pleural_effusion": "effusion",
    "covid_19": "covid19",
    "covid": "covid19",
    "oedema": "edema",
    "nothing": "normal",
}
"""Published names to those of the vocabulary, both as `finding_name` writes them."""

_ABOUT = {"path", "patient", "source", "view", "mask", "lesion", "label", "sex", "age", "rejected", "published_split"}


@dataclass(frozen=True)
class MultilabelDataset(Dataset):
    """Images with findings that do not exclude each other.

    Parameters
    ----------
    table : pandas.DataFrame
        As in `Dataset`, with a column ``finding_NAME`` for each finding. ``label`` is the single-label view: the only
        finding, ``normal``, ``several`` or ``unknown``.
    classes : tuple of str
        The findings to learn, in the order of the model's outputs.

    Raises
    ------
    InputError
        As in `Dataset`, or if a finding has no column.
    """

    def __post_init__(self):
        wanted = tuple(self.classes)
        object.__setattr__(self, "classes", ())  # labels are looked at by what they are, not as findings
        super().__post_init__()
        missing = [name for name in wanted if PREFIX + name not in self.table]
        if missing or len(set(wanted)) < len(wanted):
            there = ", ".join(findings_of(self.table)) or "none"
            raise InputError(f"{self.name}: no finding {(missing or wanted)[0]!r} (or twice); there are {there}")
        object.__setattr__(self, "classes", wanted)

    @property
    def targets(self) -> np.ndarray:
        """float32 [N, K]: 1 present, 0 absent, NaN unknown."""
        return multilabel_targets(self.table, self.classes)

    @property
    def indicators(self) -> np.ndarray:
        """What each side of a split should hold its share of, float64 [N, K + 1]: each finding, and none at all."""
        present = self.targets == 1
        return np.column_stack([present, ~present.any(axis=1)]).astype(float)

    def filter(self, **where: Any) -> MultilabelDataset:
        """Rows whose columns hold the given values, as in `Dataset.filter`; the findings stay."""
        kept = Dataset(self.table, self.root, (), self.name, self.definitions).filter(**where)
        return MultilabelDataset(kept.table, kept.root, self.classes, self.name, self.definitions)


def multilabel_targets(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Columns ``finding_NAME`` of a data set's or a store's table for each of `classes`.

    Returns
    -------
    float32 [N, K]
        1 present, 0 absent, NaN unknown.
    """
    columns = [PREFIX + finding_name(name) for name in classes]
    missing = [name for name, column in zip(classes, columns, strict=True) if column not in table]
    if missing:
        raise InputError(
            f"no finding {missing[0]!r} in these data; there are {', '.join(findings_of(table)) or 'none'}"
        )
    return table[columns].astype("float32").to_numpy()


def findings_of(table: pd.DataFrame) -> list[str]:
    """Findings that a table has columns for, ``normal`` aside: it is what is left without any."""
    names = [str(c)[len(PREFIX) :] for c in table.columns if str(c).startswith(PREFIX)]
    return [name for name in names if name != "normal"]


def refuse_one_sided(targets: np.ndarray, classes: Sequence[str], side: str) -> None:
    """`InputError` naming the first finding that is present in no image, or absent in none."""
    for state, word in ((1, "present"), (0, "absent")):
        missing = ~(targets == state).any(axis=0)
        if missing.any():
            finding = classes[int(np.argmax(missing))]
            usable = [c for c, gone in zip(classes, missing, strict=True) if not gone]
            raise InputError(
                f"split: finding {finding} is {word} in no image of {side} ({len(targets)} images); give more images, "
                f"another seed or other fractions, or leave it out: classes {','.join(usable)}"
            )


def finding_name(text: str) -> str:
    """A finding's name in the vocabulary: lower case, words joined by ``_``, published names translated.

    Examples
    --------
    >>> finding_name("Pleural_Thickening"), finding_name("Pleural Effusion"), finding_name("No Finding")
    ('pleural_thickening', 'effusion', 'normal')
    """
    name = re.sub(r"[^a-z0-9]+", "_", str(text).strip().lower()).strip("_")
    name = name.removeprefix(PREFIX)
    return ALIASES.get(name, name)


def load_multilabel(
    data: str | Path,
    *,
    root: str | Path | None = None,
    classes: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
) -> MultilabelDataset:
    """A multi-label data set.

    Parameters
    ----------
    data : str or Path
        ``NAME:FOLDER`` of a published set that has findings, or a CSV. In a CSV, findings are, in this order: columns
        ``finding_NAME``; a column of lists such as NIH's (``labels`` or ``Finding Labels`` with ``Effusion|Mass``),
        where what is not listed is absent, and what no list names unknown; a column for each finding named in
        `classes` or known to the vocabulary. In columns 1 is present, 0 absent, -1 or nothing unknown.
    root : path-like, optional
        What a CSV's paths are relative to.
    classes : sequence of str
        Findings to learn, in the order of the model's outputs; none: all that are present in one image and absent in
        another.
    where : mapping, optional
        Rows to use, column to value or list of values.

    Raises
    ------
    InputError
        If there are no findings, fewer than two of them can be told apart, a value is none of the above, or one of
        `classes` is never present or never absent.
    """
    from covidcxnet.datasets.sources import open_dataset

    if str(data) == "phantom" or Path(data).is_dir():
        what = "the phantom has" if str(data) == "phantom" else f"{data} is a folder per class, which gives"
        raise InputError(f"multilabel: {what} one label an image; give a CSV with findings, or NAME:FOLDER")
    dataset = open_dataset(data, root, label=UNKNOWN)
    return as_multilabel(dataset.filter(**where) if where else dataset, classes)


def as_multilabel(dataset: Dataset, classes: Sequence[str] = ()) -> MultilabelDataset:
    """A data set whose table has findings in whatever form `load_multilabel` reads, as a multi-label one."""
    name = dataset.name
    table = with_findings(dataset.table, classes, name)
    wanted = tuple(finding_name(c) for c in classes) or tuple(c for c in findings_of(table) if _told(table[PREFIX + c]))
    if len(set(wanted)) < 2:
        there = ", ".join(findings_of(table)) or "none"
        hint = "columns of 1, 0 and -1, or a column labels with Effusion|Mass"
        raise InputError(
            f"{name}: multilabel needs two findings or more, each present in one image and absent in another; findings "
            f"here: {there} ({hint} expected)"
        )
    made = MultilabelDataset(table, dataset.root, wanted, name, dataset.definitions)
    for finding in wanted:
        if not _told(table[PREFIX + finding]):
            values = table[PREFIX + finding]
            raise InputError(
                f"{name}: finding {finding} is present in {int((values == 1).sum())} images and absent in "
                f"{int((values == 0).sum())}; leave it out of classes"
            )
    return made


def for_findings(dataset: Dataset, classes: Sequence[str]) -> MultilabelDataset:
    """A data set as a model of these findings sees it: a finding that the data do not speak of is unknown everywhere.

    Raises
    ------
    InputError
        If the data speak of none of them.
    """
    table = with_findings(dataset.table, classes, dataset.name)
    names = tuple(finding_name(c) for c in classes)
    there = findings_of(table)
    known = [n for n in names if n in there and table[PREFIX + n].notna().any()]
    if not known:
        raise InputError(f"{dataset.name}: findings {', '.join(there) or 'none'}; the model knows {', '.join(names)}")
    missing = {PREFIX + n: np.nan for n in names if n not in there}
    return MultilabelDataset(table.assign(**missing), dataset.root, names, dataset.name, dataset.definitions)


def with_findings(table: pd.DataFrame, classes: Sequence[str], name: str) -> pd.DataFrame:
    """The table with a column ``finding_NAME`` for each finding, and the single-label view as its label."""
    own = [c for c in table.columns if str(c).startswith(PREFIX) and str(c) != "finding_labels"]
    lists = _list_column(table)
    if own:
        found = pd.DataFrame({PREFIX + finding_name(c): _values(table[c], str(c), name) for c in own})
    elif lists is not None:
        found = _from_lists(table[lists], classes)
    else:
        found = _from_columns(table, classes, name)
    rest = table.drop(columns=[c for c in (*own, *found.columns) if c in table])
    view = single_label(found.rename(columns=lambda c: c[len(PREFIX) :]))
    if PREFIX + "normal" not in found:
        # Where every finding is known and absent, nothing is left but normal.
        view = view.where(~found.eq(0).all(axis=1), "normal") if len(found.columns) else view
    return rest.assign(label=view).join(found)


def _list_column(table: pd.DataFrame) -> str | None:
    """The column that holds lists; the label itself only if one of its cells has several or says "No Finding"."""
    named: dict[str, str] = {}
    for column in table.columns:
        named.setdefault(re.sub(r"[^a-z0-9]+", "_", str(column).strip().lower()), str(column))
    for name in LISTS:
        if name in named and not pd.api.types.is_numeric_dtype(table[named[name]]):
            cells = table[named[name]].dropna().astype(str)
            if cells.str.contains(SEPARATOR, regex=False).any() or cells.map(finding_name).eq("normal").any():
                if name in ("label", "finding") and not cells.str.contains(SEPARATOR, regex=False).any():
                    continue
                return named[name]
    return None


def _from_lists(cells: pd.Series, classes: Sequence[str]) -> pd.DataFrame:
    """What is listed is present, what is not is absent; of an image without a list nothing is known."""
    said = [
        None
        if pd.isna(cell) or str(cell).strip() in ("", UNKNOWN)
        else {finding_name(part) for part in str(cell).split(SEPARATOR)} - {""}
        for cell in cells
    ]
    listed = set().union(*(s for s in said if s))
    every = sorted(listed | {finding_name(c) for c in classes})
    order = [n for n in FINDINGS if n in every] + [n for n in every if n not in FINDINGS]
    # What no list ever names may be unknown to whoever wrote them.
    rows = [[np.nan if s is None or n not in listed else float(n in s) for n in order] for s in said]
    columns = [PREFIX + n for n in order]
    return pd.DataFrame(np.array(rows, float).reshape(-1, len(order)), index=cells.index, columns=columns)


def _from_columns(table: pd.DataFrame, classes: Sequence[str], name: str) -> pd.DataFrame:
    """Columns named after findings; where `classes` name them, what is not in the vocabulary counts too."""
    wanted = {finding_name(c) for c in classes} | set(FINDINGS)
    found = {}
    for column in table.columns:
        finding = finding_name(column)
        if finding in wanted and column not in _ABOUT and PREFIX + finding not in found:
            found[PREFIX + finding] = _values(table[column], str(column), name)
    return pd.DataFrame(found, index=table.index)


def _values(cells: pd.Series, column: str, name: str) -> pd.Series:
    """1, 0 and NaN from cells of 1, 0, -1 or nothing."""
    empty = cells.isna() | (cells.astype(str).str.strip() == "")
    numbers = pd.to_numeric(cells.where(~empty), errors="coerce")
    wrong = ~empty & ~numbers.isin([0, 1, -1])
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{name}: column {column}, row {row + 1}: {cells.iloc[row]!r} found; 1 (present), 0 (absent), -1 or nothing"
            " (unknown) expected"
        )
    return numbers.where(numbers != -1).astype(float)


def _told(values: pd.Series) -> bool:
    return bool((values == 1).any() and (values == 0).any())
