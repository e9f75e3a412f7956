"""The common vocabulary: one name for each finding, what it is a kind of, and what a set means by a label.

Unknown stays unknown: a set that says nothing about a finding gives NaN, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from enhancement.errors import InputError

PREFIX = "finding_"
"""Columns of a data set's table that hold 1 (present), 0 (absent) or NaN (unknown) for one finding."""

UNKNOWN = "unknown"
"""Label of an image that its set gives no usable label."""

SEVERAL = "several"
"""Label, in a single-label view of a multi-label set, of an image with more than one finding."""

FINDINGS = (
    *("normal", "covid19", "pneumonia", "bacterial_pneumonia", "viral_pneumonia", "fungal_pneumonia", "tuberculosis"),
    *("lung_opacity", "infiltration", "consolidation", "atelectasis", "edema", "effusion", "pneumothorax"),
    *("pleural_thickening", "pleural_other", "nodule", "mass", "lung_lesion", "emphysema", "fibrosis", "hernia"),
    *("cardiomegaly", "enlarged_cardiomediastinum", "fracture", "support_devices"),
)
"""One name for each finding. ``covid19`` is the diagnosis, whatever the radiograph shows; a ``nodule`` measures up to
3 cm, a ``mass`` more; a ``lung_lesion`` is either or a cavity; ``support_devices`` are tubes, lines and pacemakers."""

ALIASES = {
    "no_finding": "normal",
    "nothing": "normal",
    "pleural_effusion": "effusion",
    "covid_19": "covid19",
    "covid": "covid19",
    "oedema": "edema",
}
"""Published names to those of the vocabulary, both as `finding_name` writes them."""

BROADER = {"bacterial_pneumonia": "pneumonia", "viral_pneumonia": "pneumonia", "fungal_pneumonia": "pneumonia"}
"""What a finding is a kind of. COVID-19 is not in it: many patients have no pneumonia that a radiograph would show."""

DEFINITIONS = {
    "read": "as read on the radiograph by physicians",
    "diagnosed": "as the patient was diagnosed, which the radiograph need not show",
    "mined": "as mined by a program from the radiologist's report",
    "boxed": "an opacity suspicious for pneumonia, boxed by radiologists",
    "confirmed": "as confirmed by CT or follow-up",
    "negative": "COVID-19 excluded by test; the radiograph may be abnormal",
    "unnamed": "neither of the set's other classes",
}
"""What the same word can rest on. Labels of one name and different definitions are not merged unasked."""


LIST_SEPARATOR = "|"
_LISTS = ("labels", "finding_labels", "findings", "label", "finding")
"""Columns that may hold findings as a list, ``Effusion|Mass``, in this order of preference."""

# columns of a data set's table that are no findings, even where `classes` name them
_OTHER_COLUMNS = {
    *("path", "label", "patient", "source", "view", "mask", "lesion"),
    *("sex", "age", "rejected", "published_split"),
}


def finding_name(text: str) -> str:
    """A finding's name in the vocabulary: lower case, words joined by ``_``, published names translated."""
    name = re.sub(r"[^a-z0-9]+", "_", str(text).strip().lower()).strip("_").removeprefix(PREFIX)
    return ALIASES.get(name, name)


def findings_of(table: pd.DataFrame) -> list[str]:
    """Findings that a table has columns for, without ``normal``, which is what remains where there is none."""
    names = [str(c)[len(PREFIX) :] for c in table.columns if str(c).startswith(PREFIX)]
    return [name for name in names if name != "normal"]


def independent_targets(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Findings named by `classes` from a data set's or a store's table, float32 [N, K]: 1, 0, NaN unknown."""
    columns = [PREFIX + finding_name(name) for name in classes]
    missing = [name for name, column in zip(classes, columns, strict=True) if column not in table]
    if missing:
        there = ", ".join(findings_of(table)) or "none"
        raise InputError(f"no finding {missing[0]!r} in these data; there are {there}")
    return table[columns].astype("float32").to_numpy()


def check_labels(targets: np.ndarray, classes: Sequence[str], task: str, side: str, kind: str = "") -> None:
    """`InputError` if a class has no image on a side of the split, or a finding is never present or never absent.

    `targets` are class indices ``int [N]``, or of independent findings 1 / 0 / NaN ``[N, K]``.
    """
    if task == "exclusive":
        counts = np.bincount(targets, minlength=len(classes))
        if (counts == 0).any():
            lacking = classes[int(np.argmin(counts))]
            raise InputError(
                f"split: no {kind}{lacking} image in {side} ({len(targets)} images there); give more images, other "
                f"fractions or another seed, or leave {lacking} out of classes"
            )
        return
    for state, word in ((1, "present"), (0, "absent")):
        missing = ~(targets == state).any(axis=0)
        if missing.any():
            finding = classes[int(np.argmax(missing))]
            usable = [c for c, gone in zip(classes, missing, strict=True) if not gone]
            raise InputError(
                f"split: finding {finding} is {word} in no image of {side} ({len(targets)} images); give more images, "
                f"another seed or other fractions, or leave it out: classes {','.join(usable)}"
            )


def single_label(findings: pd.DataFrame) -> pd.Series:
    """One label an image: its only finding, ``normal``, ``several`` or ``unknown``; support devices do not count.

    Columns are named as in `FINDINGS`, with or without `PREFIX`, and hold 1, 0 and NaN.
    """
    findings = findings.rename(columns=lambda c: str(c).removeprefix(PREFIX))
    names = [c for c in findings if c not in ("normal", "support_devices")]
    positive = findings[names].eq(1)
    count = positive.sum(axis=1)
    label = positive.idxmax(axis=1).where(count == 1) if names else pd.Series(index=findings.index, dtype=object)
    label = label.where(count < 2, SEVERAL)
    if "normal" in findings:
        label = label.where(~(findings["normal"].eq(1) & (count == 0)), "normal")
    return label.fillna(UNKNOWN)


def known_from_labels(labels: pd.Series, settled: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Finding columns of a single-label set: what each label settles as 1 or 0, and what follows by `BROADER`."""
    known = {label: dict(findings) for label, findings in settled.items()}
    # present climbs to the broader finding, absent falls to the narrower; the reverse of neither follows
    for findings in known.values():
        for narrow, broad in BROADER.items():
            if findings.get(narrow) == 1:
                findings.setdefault(broad, 1.0)
        for narrow, broad in BROADER.items():
            if findings.get(broad) == 0:
                findings.setdefault(narrow, 0.0)
    names = [name for name in FINDINGS if any(name in findings for findings in known.values())]
    values = [[known.get(label, {}).get(name, np.nan) for name in names] for label in labels]
    return pd.DataFrame(np.array(values, float).reshape(-1, len(names)), columns=[PREFIX + name for name in names])


def with_findings(table: pd.DataFrame, classes: Sequence[str], name: str) -> pd.DataFrame:
    """The table with a column ``finding_NAME`` for each finding, and the single-label view as its label."""
    prefixed = [c for c in table.columns if str(c).startswith(PREFIX) and str(c) != "finding_labels"]
    lists = _list_column(table)
    if prefixed:
        findings = pd.DataFrame({PREFIX + finding_name(c): _states(table, c, name) for c in prefixed})
    elif lists is not None:
        findings = _from_lists(table[lists], classes)
    else:
        findings = _from_columns(table, classes, name)
    rest = table.drop(columns=[c for c in (*prefixed, *findings.columns) if c in table])
    view = single_label(findings)
    if PREFIX + "normal" not in findings and len(findings.columns):
        # where every finding is known and absent, nothing is left but normal
        view = view.where(~findings.eq(0).all(axis=1), "normal")
    return rest.assign(label=view).join(findings)


def _list_column(table: pd.DataFrame) -> str | None:
    """The column that holds lists; the label itself only if one of its cells has several."""
    named: dict[str, str] = {}
    for column in table.columns:
        named.setdefault(re.sub(r"[^a-z0-9]+", "_", str(column).strip().lower()), str(column))
    for name in _LISTS:
        if name in named and not pd.api.types.is_numeric_dtype(table[named[name]]):
            cells = table[named[name]].dropna().astype(str)
            several = cells.str.contains(LIST_SEPARATOR, regex=False).any()
            # a column of single labels may hold normal too
            if several or (name not in ("label", "finding") and cells.map(finding_name).eq("normal").any()):
                return named[name]
    return None


def _from_lists(cells: pd.Series, classes: Sequence[str]) -> pd.DataFrame:
    """What is listed is present, what is not is absent; of an image without a list nothing is known."""
    lists = [
        None
        if pd.isna(cell) or str(cell).strip() in ("", UNKNOWN)
        else {finding_name(part) for part in str(cell).split(LIST_SEPARATOR)} - {""}
        for cell in cells
    ]
    listed = set().union(*(s for s in lists if s))
    every = sorted(listed | {finding_name(c) for c in classes})
    order = [n for n in FINDINGS if n in every] + [n for n in every if n not in FINDINGS]
    # what no list ever names may not have been looked for
    rows = [[np.nan if s is None or n not in listed else float(n in s) for n in order] for s in lists]
    columns = [PREFIX + n for n in order]
    return pd.DataFrame(np.array(rows, float).reshape(-1, len(order)), index=cells.index, columns=columns)


def _from_columns(table: pd.DataFrame, classes: Sequence[str], name: str) -> pd.DataFrame:
    """Columns named after findings; where `classes` name them, what is not in the vocabulary counts too."""
    wanted = {finding_name(c) for c in classes} | set(FINDINGS)
    states = {}
    for column in table.columns:
        finding = finding_name(column)
        if finding in wanted and column not in _OTHER_COLUMNS and PREFIX + finding not in states:
            states[PREFIX + finding] = _states(table, column, name)
    return pd.DataFrame(states, index=table.index)


def _states(table: pd.DataFrame, column: str, name: str) -> pd.Series:
    """1, 0 and NaN from cells of 1, 0, -1 or nothing."""
    cells = table[column]
    empty = cells.isna() | (cells.astype(str).str.strip() == "")
    numbers = pd.to_numeric(cells.where(~empty), errors="coerce")
    wrong = ~empty & ~numbers.isin([0, 1, -1])
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{name}: column {column}, row {row + 1} ({table['path'].iloc[row]}): {cells.iloc[row]!r} found; "
            "1 (present), 0 (absent), -1 or nothing (unknown) expected"
        )
    return numbers.where(numbers != -1).astype(float)
