"""The measured part of a model card for independent findings, in Markdown; see `card`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from covidcxnet.evaluation.card import (
    about_file,
    commands,
    compose,
    evaluated,
    intervals,
    markdown_table,
    with_interval,
)
from covidcxnet.evaluation.facts import part_name
from covidcxnet.evaluation.markup import count

if TYPE_CHECKING:
    from covidcxnet.evaluation.multilabel import MultilabelFindings

_FIGURES = (("AUROC", "auroc"), ("average precision", "average_precision"), ("F1", "f1"),
            ("sensitivity", "sensitivity"), ("specificity", "specificity"))  # fmt: skip


def findings_card(f: MultilabelFindings) -> str:
    """Markdown that ends in a line break: file, data, figures and calls of each finding, and the commands."""
    return compose(
        f,
        [
            ("", about_file(f)),
            ("Data", _data(f)),
            ("Results", _results(f)),
            ("Calls", _calls(f)),
            ("How to make these figures again", commands(f)),
        ],
    )


def _data(f: MultilabelFindings) -> list[str]:
    """Images with each finding in each part."""
    names = list(dict.fromkeys(f.parts["part"]))
    images = f.parts.pivot(index="finding", columns="part", values="images")
    rows = [
        [finding, *[f"{int(n):,}" if pd.notna(n) else "–" for n in images.loc[finding, names]]]
        for finding in dict.fromkeys(f.parts["finding"])
    ]
    title = [part_name(n) if n not in ("other", f.data.split) else "evaluated here" for n in names]
    lines = [*markdown_table(["images with", *title], rows), "", evaluated(f)]
    if len(f.data.rejected):
        lines += ["", f"{count(len(f.data.rejected), 'file')} could not be used."]
    return lines


def _results(f: MultilabelFindings) -> list[str]:
    lines = [f"{intervals(f)} Each finding over the images in which it is known."]
    if f.metrics.collapsed:
        lines += ["", f"**Never found, and in the mean with an F1 of 0: {', '.join(f.metrics.collapsed)}.**"]
    rows = [
        [own.name, f"{own.present:,}", *[with_interval(own.figures[key]) for _, key in _FIGURES]]
        for own in f.metrics.findings
    ]
    rows.append(["mean", "", *[with_interval(f.metrics.macro[key]) for _, key in _FIGURES]])
    return [*lines, "", *markdown_table(["finding", "images", *[name for name, _ in _FIGURES]], rows)]


def _calls(f: MultilabelFindings) -> list[str]:
    rows = [
        [own.name, f"{own.threshold:.3g}", *[f"{n:,}" for n in (own.hits, own.misses, own.alarms, own.passes)]]
        for own in f.metrics.findings
    ]
    header = ["finding", "threshold", "found", "missed", "false alarms", "rightly passed"]
    return [f"Thresholds: {f.threshold_from}.", "", *markdown_table(header, rows)]
