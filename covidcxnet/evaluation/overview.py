"""The first screen of the report: what was evaluated on what, what came out, and what to be wary of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.facts import facts, left_out, part_name
from covidcxnet.evaluation.findings import Findings
from covidcxnet.evaluation.first_screen import first_screen, in_words, tiles
from covidcxnet.evaluation.markup import Html, count, interval, number, table, tag
from covidcxnet.evaluation.metrics import NORMAL, Missed
from covidcxnet.evaluation.place import Comparison, defined, place_name


def overview(f: Findings, links: list[tuple[str, str]]) -> Html:
    """Title, notice, headline figures, facts, split and warnings; `links` are id and name of the page's sections."""
    return first_screen(
        f,
        links,
        notices=(_phantom(f), _counted(f)),
        figures=(tiles(headline(f)), _missed(f)),
        facts=facts(f, ("Decision", _decision(f))),
        split=_split(f),
    )


def headline(f: Findings) -> list[tuple[str, Estimate, bool]]:
    """Name, figure and whether it is a percentage, of the figures that stand first."""
    overall, classes = f.metrics.overall, f.metrics.classes
    if len(classes) == 2 and len(f.metrics.present) == 2:
        second, name = f.metrics.by_class[classes[1]], counted_name(f, classes[1])
        return [
            (f"AUROC, {name}", overall["auroc"], False),
            (f"Sensitivity, {name}", second["sensitivity"], True),
            (f"Specificity, {name}", second["specificity"], True),
            ("Accuracy", overall["accuracy"], True),
            ("Calibration error", overall["calibration_error"], False),
        ]
    if len(f.metrics.present) < len(classes):
        # Means over classes are undefined: show what is known of the classes that are there.
        rows = [(name, f.metrics.by_class[name]) for name in f.metrics.present[-2:]]
        tiles = [(f"AUROC, {name}", row["auroc"], False) for name, row in rows if not np.isnan(row["auroc"].value)]
        tiles += [(f"Sensitivity, {name}", row["sensitivity"], True) for name, row in rows]
        return [*tiles, ("Accuracy", overall["accuracy"], True)]
    return [
        ("AUROC, mean over classes", overall["auroc"], False),
        ("Balanced accuracy", overall["balanced_accuracy"], True),
        ("Accuracy", overall["accuracy"], True),
        ("F1, mean over classes", overall["macro_f1"], False),
        ("Calibration error", overall["calibration_error"], False),
    ]


def counted_name(f: Findings, name: str) -> str:
    """A class as figures call it: ``pneumonia counted as covid19`` where it has no images of its own."""
    labels = [label for label, counted_as in f.data.counted.items() if counted_as == name]
    if not labels or (f.predictions.labelled == name).any():
        return name
    return f"{', '.join(labels)} counted as {name}"


def summary(f: Findings) -> str:
    """The headline as a few lines of plain text for a terminal."""
    lines = [f"  {replace(m, name=counted_name(f, m.name))}" for m in f.metrics.missed]
    if f.data.left_out is not None:
        lines.append(f"  Left out: {left_out(f.data)}")
    return in_words(f, headline(f), [*lines, *_place_lines(f)])


def _phantom(f: Findings) -> Html | None:
    if not f.data.phantom:
        return None
    text = "Phantom run: the images are computed and show no patient. These figures say nothing about real radiographs."
    return tag("p", tag("strong", text), class_="phantom")


def _counted(f: Findings) -> Html | None:
    if not f.data.counted:
        return None
    said = [
        f"{count(f.counted_images[label], 'image')} labelled {label} counted as {name}; {label} is not {name}"
        for label, name in f.data.counted.items()
    ]
    text = f"Not what it is called: {'; '.join(said)}. "
    if f.with_counted is None:
        text += "These figures ask whether the model tells ill from normal."
    else:
        text += "They count only in the figures within a source, which ask whether the model tells ill from normal."
    return tag("p", tag("strong", text), class_="phantom")


def _missed(f: Findings) -> Html | None:
    if not f.metrics.missed:
        return None
    items = []
    for missed in f.metrics.missed:
        said = f" ({_rate(missed)})" if missed.images else ""
        name = counted_name(f, missed.name)
        items.append(tag("li", f"{name} called {NORMAL}: ", tag("strong", f"{missed.missed} of {missed.images}"), said))
    return tag("ul", items, class_="missed")


def _rate(missed: Missed) -> str:
    """The rate and its interval; where none was missed, the bootstrap knows no spread and the rule of three speaks."""
    if missed.missed:
        return f"{number(missed.rate, True)}, {interval(missed.rate, True) or 'no interval'}"
    most = min(1.0, 3 / missed.patients)
    return f"with {count(missed.patients, 'patient')}, a true rate of up to {100 * most:.0f}% would fit"


def _decision(f: Findings) -> str:
    if len(f.metrics.classes) > 2:
        return "the most probable class"
    return f"{f.metrics.classes[1]} from {f.predictions.threshold:.3g} on ({f.threshold_from})"


def _split(f: Findings) -> Html:
    """Images and patients of each class and source in each part, the evaluated part marked."""
    parts = f.data.parts
    names = list(dict.fromkeys(parts["part"]))
    header = ["Images (patients)", *[part_name(n) + (" ◂" if n == f.data.split else "") for n in names]]
    rows: list[list[str]] = []
    for label in f.metrics.classes:
        rows.append([label, *[_tally(parts[(parts["part"] == n) & (parts["label"] == label)]) for n in names]])
    for label, name in f.data.counted.items():
        own = parts[parts["label"] == label]
        rows.append([f"{label}, counted as {name}", *[_tally(own[own["part"] == n]) for n in names]])
    rows.append(["all", *[_tally(parts[parts["part"] == n]) for n in names]])
    sources = parts["source"].fillna("unknown").value_counts() if "source" in parts else parts.iloc[:0]
    if len(sources) > 1:
        for source in sources.index:
            own = parts[parts["source"].fillna("unknown") == source]
            rows.append([f"source {source}", *[_tally(own[own["part"] == n]) for n in names]])
    return table(header, rows, class_="first-table")


def _tally(rows: pd.DataFrame) -> str:
    if "patient" not in rows or rows["patient"].isna().all():
        return f"{len(rows):,}"
    return f"{len(rows):,} ({rows['patient'].nunique():,})"


def _place_lines(f: Findings) -> list[str]:
    if f.places is None:
        return []
    lines = []
    for place in f.places.rows:
        for c in place.comparisons[:1]:  # the page has them all
            between = interval(c.auroc)
            alone = "" if c.statistics is None else f"; simple statistics alone {number(c.statistics)}"
            figure = number(c.auroc) + (f" ({between})" if between else "")
            lines.append(f"  {place_name(place)}: {_compared(c)}, AUROC {figure}{alone}")
    if f.places.gap is not None and defined(f.places.gap.auroc):
        gap, between = f.places.gap, interval(f.places.gap.auroc)
        said = f"{gap.positive} against {gap.negative}, by {gap.score}"
        lines.append(
            f"  Gap of AUROC, internal to held out: {said}: {number(gap.auroc)}" + (f" ({between})" if between else "")
        )
    return lines


def _compared(c: Comparison) -> str:
    return f"{c.positives:,} {c.positive} against {c.negatives:,} {c.negative}, by {c.score}"
