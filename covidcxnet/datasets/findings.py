"""The common vocabulary: one name for each finding, what it is a kind of, and what a set means by a label.

Unknown stays unknown: a set that says nothing about a finding gives NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

PREFIX = "finding_"
"""Columns of a data set's table that hold 1 (present), 0 (absent) or NaN (unknown) for one finding."""

UNKNOWN = "unknown"
"""Label of an image that its set gives no usable label."""

SEVERAL = "several"
"""Label, in a single-label view of a multi-label set, of an image with more than one finding."""

FINDINGS = {
    "normal": "no abnormality",
    "covid19": "COVID-19, whatever the radiograph shows",
    "pneumonia": "pneumonia of any cause",
    "bacterial_pneumonia": "bacterial pneumonia",
    "viral_pneumonia": "viral pneumonia",
    "fungal_pneumonia": "fungal pneumonia",
    "tuberculosis": "pulmonary tuberculosis",
    "lung_opacity": "opacity of the lung",
    "infiltration": "infiltration",
    "consolidation": "consolidation",
    "atelectasis": "atelectasis",
    "edema": "pulmonary oedema",
    "effusion": "pleural effusion",
    "pneumothorax": "pneumothorax",
    "pleural_thickening": "pleural thickening",
    "pleural_other": "another finding of the pleura",
    "nodule": "nodule, up to 3 cm",
    "mass": "mass, above 3 cm",
    "lung_lesion": "nodule, mass or cavity",
    "emphysema": "emphysema",
    "fibrosis": "fibrosis",
    "hernia": "hiatal hernia",
    "cardiomegaly": "enlarged heart",
    "enlarged_cardiomediastinum": "enlarged heart or mediastinum",
    "fracture": "fracture",
    "support_devices": "tubes, lines, pacemakers and the like",
}

BROADER = {
    "bacterial_pneumonia": "pneumonia",
    "viral_pneumonia": "pneumonia",
    "fungal_pneumonia": "pneumonia",
}
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


def table_of(present: Iterable[Mapping[str, float]], findings: Iterable[str]) -> pd.DataFrame:
    """Finding columns from one mapping an image.

    Parameters
    ----------
    present : iterable of mapping
        Finding to 1, 0 or NaN; what is not in it is unknown.
    findings : iterable of str
        Names from `FINDINGS`, in the order of the columns.

    Returns
    -------
    pandas.DataFrame
        float64 [N, K], columns with `PREFIX`.
    """
    names = list(findings)
    unheard = [name for name in names if name not in FINDINGS]
    if unheard:
        raise KeyError(f"{unheard[0]!r} is not in the vocabulary")
    values = [[row.get(name, np.nan) for name in names] for row in present]
    return pd.DataFrame(np.array(values, float).reshape(-1, len(names)), columns=[PREFIX + name for name in names])


def known_from_labels(labels: pd.Series, settled: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Finding columns of a single-label set.

    Parameters
    ----------
    labels : Series of str
        Labels, one an image.
    settled : mapping
        For each label the findings that it settles, as 1 or 0; what follows by `BROADER` is added.
    """
    full = {label: _with_broader(known) for label, known in settled.items()}
    names = [name for name in FINDINGS if any(name in known for known in full.values())]
    return table_of((full.get(label, {}) for label in labels), names)


def findings_in(table: pd.DataFrame) -> pd.DataFrame | None:
    """The finding columns of a table without their prefix, or None where it has none."""
    columns = [c for c in table.columns if str(c).startswith(PREFIX) and str(c)[len(PREFIX) :] in FINDINGS]
    if not columns:
        return None
    return table[columns].astype(float).rename(columns=lambda c: c[len(PREFIX) :])


def single_label(findings: pd.DataFrame, given: Iterable[str] | None = None) -> pd.Series:
    """One label an image: its only finding, ``normal``, ``several`` or ``unknown``.

    Parameters
    ----------
    findings : DataFrame
        Columns named as in `FINDINGS`, 1 / 0 / NaN.
    given : iterable of str, optional
        Findings that count; others are passed over. None: all but support devices.
    """
    names = [c for c in findings if c not in ("normal", "support_devices")]
    if given is not None:
        names = [c for c in names if c in set(given)]
    positive = findings[names].eq(1)
    count = positive.sum(axis=1)
    label = positive.idxmax(axis=1).where(count == 1) if names else pd.Series(index=findings.index, dtype=object)
    label = label.where(count < 2, SEVERAL)
    if "normal" in findings:
        label = label.where(~(findings["normal"].eq(1) & (count == 0)), "normal")
    return label.fillna(UNKNOWN)


def _with_broader(known: Mapping[str, float]) -> dict[str, float]:
    full = dict(known)
    for narrow, broad in BROADER.items():
        if full.get(narrow) == 1:
            full.setdefault(broad, 1.0)
    for narrow, broad in BROADER.items():
        if full.get(broad) == 0:
            full.setdefault(narrow, 0.0)
    return full
