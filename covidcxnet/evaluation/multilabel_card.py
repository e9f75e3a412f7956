"""The measured part of a model card for independent findings, in Markdown; see `card`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from covidcxnet.evaluation.card_parts import (
    STATISTICS,
    about_file,
    commands,
    compose,
    evaluated,
    intervals,
    markdown_table,
    or_dash,
    with_interval,
)
from covidcxnet.evaluation.facts import part_name
from covidcxnet.evaluation.markup import count
from covidcxnet.evaluation.multilabel_place_section import notes, one_source, source_alone
from covidcxnet.evaluation.multilabel_places import FindingPlaces
from covidcxnet.evaluation.place import place_name

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
            *([("Within single sources", _places(f.places, f.metrics.classes))] if f.places is not None else []),
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


def _places(found: FindingPlaces, classes: tuple[str, ...]) -> list[str]:
    """By finding over all sources, then each source by itself."""
    if found.alone:
        return [one_source(found)]
    lines = []
    if found.mean is not None:
        rows = [[own.name, with_interval(own.within), with_interval(own.all_pairs), f"{own.source_alone:.3f}"]
                for own in (*found.findings, found.mean)]  # fmt: skip
        lines = [
            source_alone(found),
            "",
            *markdown_table(["AUROC", "within sources", "all pairs", "source alone"], rows),
        ]
        rows = []
        for place in found.rows:
            if place.comparisons:
                mean = ["mean", f"{place.images:,} images", "", with_interval(place.macro), or_dash(place.statistics)]
                each = [[c.positive, f"{c.positives:,}", f"{c.negatives:,}", with_interval(c.auroc),
                         or_dash(c.statistics)] for c in place.comparisons]  # fmt: skip
                rows += [[place_name(place) if k == 0 else "", *row] for k, row in enumerate([mean, *each])]
        header = ["images of", "finding", "with", "without", "AUROC (95% interval)", "simple statistics alone"]
        lines += ["", *markdown_table(header, rows)]
        if any(place.statistics is not None for place in found.rows):
            lines += ["", STATISTICS]
    said = notes(found, classes)
    return [*lines, "", said] if said else lines


def _calls(f: MultilabelFindings) -> list[str]:
    rows = [
        [own.name, f"{own.threshold:.3g}", *[f"{n:,}" for n in (own.hits, own.misses, own.alarms, own.passes)]]
        for own in f.metrics.findings
    ]
    header = ["finding", "threshold", "found", "missed", "false alarms", "rightly passed"]
    return [f"Thresholds: {f.threshold_from}.", "", *markdown_table(header, rows)]
