"""The measured part of a model card, in Markdown: data, figures, wrong calls and the command that makes them again.

A person adds what no program knows: what the weights are for, known failures as they look, what they must not be used
for. The part is complete in itself, so that it can be pasted whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
from covidcxnet.evaluation.findings import Findings
from covidcxnet.evaluation.markup import count
from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.evaluation.overview import counted_name
from covidcxnet.evaluation.place import HELD_OUT, INTERNAL, WITHIN, Place, defined, labels_said, place_name

_EXAMPLES = 5
_LICENCES = ("license", "licence")


def card(f: Findings) -> str:
    """Markdown that ends in a line break.

    Parameters
    ----------
    f : Findings
        Of one evaluation; with lists of what training saw (or its run) the data table has its training images too.
    """
    sections: list[tuple[str, list[str]]] = [
        ("", about_file(f)),
        ("Data", _data(f)),
        ("Results", _results(f)),
        ("Calibration", _calibration(f)),
        ("Confusion matrix", _confusion(f)),
        ("Wrong calls by kind", _wrong(f)),
        ("How to make these figures again", commands(f)),
    ]
    return compose(f, sections)


def _data(f: Findings) -> list[str]:
    """Images of each source and label in each part, with their licences, as they stand in the data."""
    parts = f.data.parts.copy()
    licence = next((c for c in _LICENCES if c in parts), None)
    keys = [column for column in ("source", "label") if column in parts]
    for column in keys:
        parts[column] = parts[column].astype(object).replace("", None).fillna("not given").astype(str)
    names = list(dict.fromkeys(parts["part"]))
    counts = pd.crosstab([parts[c] for c in keys], parts["part"])[names]
    rows = []
    for key, values in zip(counts.index, counts.to_numpy(), strict=True):
        cells = (key,) if isinstance(key, str) else key
        rows.append([*cells, *[f"{n:,}" if n else "–" for n in values]])
        if licence is not None:
            own = parts[np.logical_and.reduce([parts[c] == cell for c, cell in zip(keys, cells, strict=True)])]
            found = own[licence].astype(object).replace("", None).fillna("not given").value_counts()
            rows[-1].append("; ".join(f"{name}" + (f" ({n:,})" if len(found) > 1 else "") for name, n in found.items()))
    rows.append(["all", *[""] * (len(keys) - 1), *[f"{n:,}" for n in counts.sum()], *([""] if licence else [])])
    title = [part_name(n) if n not in ("other", f.data.split) else "evaluated here" for n in names]
    lines = markdown_table([*keys, *title, *(["licence"] if licence else [])], rows)
    lines += ["", evaluated(f)]
    for label, name in f.data.counted.items():
        images = f.counted_images[label]
        lines += ["", f"**{count(images, 'image')} labelled {label} counted as {name}; {label} is not {name}.**"]
    if len(f.data.rejected):
        lines += ["", f"{count(len(f.data.rejected), 'file')} could not be used."]
    return lines


def _results(f: Findings) -> list[str]:
    lines = [intervals(f)]
    if f.places is not None:
        lines += ["", *_places(f)]
    lines += ["", "### All images evaluated", ""]
    overall = f.metrics.overall
    shown = (("AUROC", "auroc"), ("average precision", "average_precision"), ("accuracy", "accuracy"),
             ("balanced accuracy", "balanced_accuracy"), ("F1, mean over classes", "macro_f1"))  # fmt: skip
    lines += markdown_table(
        ["figure", "value (95% interval)"], [[name, with_interval(overall[key])] for name, key in shown]
    )
    keys = ("sensitivity", "specificity", "precision", "auroc")
    rows = [
        [counted_name(f, name), f"{int(f.metrics.confusion[c].sum()):,}",
         *[with_interval(f.metrics.by_class[name][key]) for key in keys]]
        for c, name in enumerate(f.metrics.classes)
    ]  # fmt: skip
    lines += ["", *markdown_table(["class", "images", "sensitivity", "specificity", "precision", "AUROC"], rows)]
    if f.sources is not None:
        lines += ["", "### By source", "", *_by_source(f)]
    return lines


def _places(f: Findings) -> list[str]:
    assert f.places is not None
    rows = []
    for place in f.places.rows:
        name = place_name(place) + ("" if place.kind == WITHIN else f" ({', '.join(place.sources)})")
        for k, c in enumerate(place.comparisons):
            rows.append([name if k == 0 else "", f"{c.positives:,} {c.positive}", f"{c.negatives:,} {c.negative}",
                         c.score, with_interval(c.auroc), or_dash(c.statistics)])  # fmt: skip
        if not place.comparisons:
            rows.append([name, labels_said(place.by_label), "–", "", "undefined: one class", ""])
    if f.places.gap is not None and defined(f.places.gap.auroc):
        gap = f.places.gap
        rows.append(
            ["Gap: internal less held out", gap.positive, gap.negative, gap.score, with_interval(gap.auroc), ""]
        )
    lines = ["### Internal, held-out and within-source figures", ""]
    header = ["images of", "images", "against", "ranked by", "AUROC (95% interval)", "simple statistics alone"]
    lines += markdown_table(header, rows)
    if any(c.statistics is not None for place in f.places.rows for c in place.comparisons):
        lines += ["", STATISTICS]
    if f.data.counted:
        said = "; ".join(f"{label} is counted as {name}" for label, name in f.data.counted.items())
        lines += ["", f"Within a source {said}; the other rows leave these images out."]
    return lines


def _by_source(f: Findings) -> list[str]:
    assert f.sources is not None
    names = f.metrics.classes
    mark = {True: "yes", False: "no", None: "unknown"}
    rows = [
        [s.name, mark[s.trained], f"{s.images:,}", *[f"{s.by_class[c]:,}" if s.by_class[c] else "–" for c in names],
         with_interval(s.accuracy), "one class" if np.isnan(s.auroc.value) else with_interval(s.auroc)]
        for s in f.sources.rows
    ]  # fmt: skip
    called = [counted_name(f, name) for name in names]
    lines = markdown_table(["source", "in training", "images", *called, "accuracy", "AUROC within"], rows)
    alone = f.sources.place_alone
    if not np.isnan(alone):
        lines += ["", f"Knowing nothing but the source would score an AUROC of {alone:.3f} on these images."]
    return lines


def _calibration(f: Findings) -> list[str]:
    keys = ("calibration_error", "brier", "calibration_slope")
    rows = [["all images evaluated", f"{f.metrics.images:,}", *[with_interval(f.metrics.overall[key]) for key in keys]]]
    sets: Sequence[Place] = () if f.places is None else f.places.rows
    for place in (p for p in sets if p.kind in (INTERNAL, HELD_OUT) and p.calibration):
        rows.append([place_name(place), f"{place.images:,}", *[with_interval(place.calibration[key]) for key in keys]])
    header = ["", "images", "expected calibration error", "Brier score", "calibration slope"]
    said = "the second class" if len(f.metrics.classes) == 2 else "the called class"
    return [
        *markdown_table(header, rows),
        "",
        f"Of the probability of {said}; a slope of 1 is right, below 1 too extreme.",
    ]


def _confusion(f: Findings) -> list[str]:
    names, cells = f.metrics.classes, f.metrics.confusion
    rule = "the most probable class is called"
    if len(names) == 2:
        rule = f"{names[1]} is called from {f.predictions.threshold:.3g} on ({f.threshold_from})"
    rows = [
        [counted_name(f, name), *[f"{int(n):,}" for n in cells[c]], f"{int(cells[c].sum()):,}"]
        for c, name in enumerate(names)
    ]
    lines = [f"Rows: true class; {rule}.", ""]
    lines += markdown_table(["", *[f"called {name}" for name in names], "all"], rows)
    for missed in f.metrics.missed:
        share = f", {with_interval(missed.rate, True)}" if missed.images else ""
        name = counted_name(f, missed.name)
        lines += ["", f"{name} called {NORMAL}: {missed.missed:,} of {missed.images:,}{share}."]
    return lines


def _wrong(f: Findings) -> list[str]:
    """Each kind of mistake: how many, where, and the most confident ones, which a person should look at."""
    p = f.everything
    labels, called = p.labelled.to_numpy(dtype=object), np.array(p.classes, dtype=object)[p.predicted]
    wrong = p.predicted != p.targets
    if not wrong.any():
        return ["None."]
    confidence = p.probabilities[np.arange(len(p)), p.predicted]
    sources = p.column("source")
    places = None if sources is None else sources.fillna("unknown").astype(str).to_numpy()
    rows = []
    kinds = pd.Series(list(zip(labels[wrong], called[wrong], strict=True))).value_counts()
    for label, name in kinds.index:
        members = np.flatnonzero(wrong & (labels == label) & (called == name))
        own = int((labels == label).sum())
        by = "" if places is None else ", ".join(
            f"{source} {n:,} of {int(((places == source) & (labels == label)).sum()):,}"
            for source, n in pd.Series(places[members]).value_counts().items()
        )  # fmt: skip
        worst = members[np.argsort(-confidence[members], kind="stable")][:_EXAMPLES]
        shown = ", ".join(f"`{p.table['path'].iloc[i]}` {confidence[i]:.2f}" for i in worst)
        share = f"{len(members):,} of {own:,} ({100 * len(members) / own:.0f}%)"
        rows.append([f"{label} called {name}", share, by, shown])
    lines = markdown_table(["kind", "images", "by source", "most confident, with its probability"], rows)
    failed = f.failed_lungs
    if len(failed):
        amiss = int(wrong[failed.index].sum())
        sought = f"{len(failed):,} of {count(f.data.lungs_sought, 'image')}"
        lines += ["", f"Lung mask not trusted: {sought}; {amiss:,} of these {len(failed):,} were called wrong."]
    return lines
