"""Sections of the report with its figures: each takes findings and returns HTML, or None if it has nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from covidcxnet.evaluation import plots
from covidcxnet.evaluation.case_section import article, case_section
from covidcxnet.evaluation.cases import RULE, Case
from covidcxnet.evaluation.findings import Findings
from covidcxnet.evaluation.glossary import GLOSSARY
from covidcxnet.evaluation.markup import (
    Html,
    cell,
    definitions,
    figure,
    footnotes,
    number,
    number_only,
    table,
    tag,
)
from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.evaluation.place import (
    HELD_OUT,
    INTERNAL,
    WITHIN,
    Place,
    defined,
    labels_said,
    place_name,
    training_notes,
)
from covidcxnet.evaluation.sources import SourceFigures

_CLASS_FIGURES = (
    ("sensitivity", "Sensitivity", True),
    ("specificity", "Specificity", True),
    ("precision", "Precision", True),
    ("npv", "NPV", True),
    ("f1", "F1", False),
    ("auroc", "AUROC", False),
    ("average_precision", "Av. precision", False),
)
_OVERALL = (
    ("accuracy", "Accuracy", True),
    ("balanced_accuracy", "Balanced accuracy", True),
    ("macro_f1", "F1, mean over classes", False),
    ("auroc", "AUROC", False),
    ("average_precision", "Average precision", False),
    ("brier", "Brier score", False),
    ("calibration_error", "ECE", False),
    ("calibration_slope", "Calibration slope", False),
)


def places(f: Findings) -> Html | None:
    """Sources that training saw, sources that it never saw, and single sources, side by side."""
    found = f.places
    if found is None:
        return None
    rows: list[list[Any]] = []
    name: Any
    for place in found.rows:
        for k, c in enumerate(place.comparisons):
            name = (place_name(place) if place.kind == WITHIN else _named(place)) if k == 0 else ""
            images = [f"{c.positives:,} {c.positive}", tag("br"), f"{c.negatives:,} {c.negative}"]
            rows.append([name, images, c.score, cell(c.auroc), "–" if c.statistics is None else cell(c.statistics)])
        if not place.comparisons:
            one = f"{labels_said(place.by_label)}: one class"
            rows.append([_named(place), one, "", tag("span", "undefined", class_="note"), ""])
    if found.gap is not None and defined(found.gap.auroc):
        gap = found.gap
        compared = [gap.positive, tag("br"), gap.negative]
        rows.append(["Gap: internal less held out, the smaller the better", compared, gap.score, cell(gap.auroc), ""])
    caption = "AUROC, with 95% interval over patients, of the first kind of image against the second."
    header = ["Images of", "Compared", "Ranked by", "AUROC", "Simple statistics alone"]
    made = [tag("p", _PLACES), table(header, rows, caption, class_="places")]
    calibrated = [p for p in found.rows if p.calibration]
    if calibrated:
        header = ["Probabilities", "Images", "ECE", "Brier score", "Calibration slope"]
        keys = ("calibration_error", "brier", "calibration_slope")
        body = [[place_name(p), f"{p.images:,}", *[cell(p.calibration[key]) for key in keys]] for p in calibrated]
        made.append(table(header, body, class_="keep"))
    notes = [f"{label} is counted as {name} within a source, and left out of the others" for label, name in
             f.data.counted.items()]  # fmt: skip
    notes += training_notes(found.skipped, any(p.kind in (INTERNAL, HELD_OUT) for p in found.rows))
    made.append(tag("p", f"{'; '.join(notes)}.", class_="note") if notes else Html(""))
    estimates = [e for p in found.rows for c in p.comparisons for e in (c.auroc, c.statistics) if e is not None]
    estimates += [e for p in calibrated for e in p.calibration.values()]
    return tag("div", made, footnotes(estimates))


_PLACES = (
    "Images of the places that training saw flatter: a network can recognise the place. Places that it never saw are "
    "nearest to another hospital, but flatter too where their classes come from different ones. Within one source the "
    "place tells nothing: that figure counts most, as far as it is above what border, grey levels and sharpness of the "
    "network's own input tell by themselves (last column: a linear probe learnt on these images, cross-validated)."
)


def _named(place: Place) -> list[Any]:
    return [place_name(place), tag("br"), tag("span", ", ".join(place.sources), class_="note")]


def curves(f: Findings) -> Html:
    """ROC and precision-recall curves."""
    names = ", ".join(plots.drawn_classes(f.metrics))
    if not names:
        return tag("p", f"All images are of class {f.metrics.present[0]}; a curve needs others to tell it from.")
    overall = f.metrics.overall
    roc = figure(plots.svg_uri(plots.roc(f.metrics)), f"ROC curve of {names}; AUROC {number(overall['auroc'])}.")
    alt = f"Precision-recall curve of {names}; average precision {number(overall['average_precision'])}."
    note = "Each class against the rest. Shaded: 95% band, point by point."
    return tag("div", tag("div", roc, figure(plots.svg_uri(plots.precision_recall(f.metrics)), alt), class_="curves"),
               tag("p", note, class_="note"))  # fmt: skip


def classes(f: Findings) -> Html:
    """Figures of all images, and of each class against the rest."""
    metrics = f.metrics
    overall = [cell(metrics.overall[key], percent) for key, _, percent in _OVERALL]
    header = ["", *[name for _, name, _ in _OVERALL]]
    first = table(header, [["All images", *overall]], "Over all images; 95% interval below each figure.")
    called = metrics.confusion.sum(axis=0)
    rows = [
        [name, f"{int(metrics.confusion[c].sum()):,}", f"{int(called[c]):,}",
         *[cell(metrics.by_class[name][key], percent) for key, _, percent in _CLASS_FIGURES]]
        for c, name in enumerate(metrics.classes)
    ]  # fmt: skip
    header = ["Class", "Images", "Called", *[name for _, name, _ in _CLASS_FIGURES]]
    second = table(header, rows, "Each class against all others.")
    estimates = [*metrics.overall.values(), *[e for row in metrics.by_class.values() for e in row.values()]]
    return tag("div", first, second, footnotes(estimates))


def sources(f: Findings) -> Html | None:
    """Figures by source, and what the sources give away."""
    if f.sources is None or len(f.sources.rows) == 1:
        return None
    names = f.metrics.classes
    rows = [
        [_source(s), f"{s.images:,}", f"{s.patients:,}" if f.unknown_patients < f.metrics.images else "unknown",
         *[f"{s.by_class[c]:,}" if s.by_class[c] else "–" for c in names], cell(s.accuracy, True),
         cell(s.auroc) if not np.isnan(s.auroc.value) else tag("span", "one class", class_="note")]
        for s in f.sources.rows
    ]  # fmt: skip
    made = table(["Source", "Images", "Patients", *names, "Accuracy", "AUROC within"], rows)
    left = f" (leaves out {', '.join(f.sources.alone)}, which shares no source)" if f.sources.alone else ""
    pooled = [
        [
            "Within sources",
            cell(f.sources.within),
            f"pairs from one and the same source only; the place can't raise it{left}",
        ],
        ["All pairs", cell(f.metrics.overall["auroc"]), "as in the headline"],
        ["Source alone", number_only(f.sources.place_alone), "a reader who sees only the name of the source"],
    ]
    second = table(["AUROC", "", "compares"], pooled, class_="pooled text keep")
    estimates = [f.sources.within, *[e for s in f.sources.rows for e in (s.accuracy, s.auroc)]]
    intro = (
        "If classes come from different places, a network can score by recognising the place: scanner, processing, "
        "letters burned in. The figures within sources are the ones to trust."
    )
    if any(s.trained is False for s in f.sources.rows):
        intro += " Sources marked as not in training are nearest to what another hospital would see."
    return tag("div", tag("p", intro), made, second, footnotes(estimates))


def _source(s: SourceFigures) -> Any:
    return [s.name, " ", tag("span", "not in training", class_="note")] if s.trained is False else s.name


def confusion(f: Findings) -> Html:
    """Counts and shares of rows, shaded by share, right calls framed."""
    names, counts = f.metrics.classes, f.metrics.confusion
    totals = counts.sum(axis=1)
    header = ["True class", *[f"called {name}" for name in names], "all"]
    rows = []
    for r, name in enumerate(names):
        cells = [_confusion_cell(int(counts[r, c]), int(totals[r]), r == c) for c in range(len(names))]
        rows.append(tag("tr", tag("th", name, scope="row"), cells, tag("td", f"{int(totals[r]):,}", class_="total")))
    head = tag("thead", tag("tr", [tag("th", text, scope="col") for text in header]))
    caption = tag("caption", "Images, and share of the row. Right calls are framed.")
    made = tag("table", caption, head, tag("tbody", rows), class_="confusion")
    items = [[m.name, f"{m.missed:,} of {m.images:,}", cell(m.rate, True)] for m in f.metrics.missed]
    missed = table([f"Called {NORMAL}", "Images", "Share"], items, class_="keep") if items else None
    return tag("div", tag("div", made, class_="scroll"), missed)


def calibration(f: Findings) -> Html:
    """Reliability diagram with counts."""
    error, score = f.metrics.overall["calibration_error"], f.metrics.overall["brier"]
    alt = f"Reliability diagram; expected calibration error {number(error)}."
    note = (
        f"Points: share of images for which the prediction came true in each tenth of probability, with 95% interval; "
        f"on the dotted line it is what was promised. Bars: images in each tenth. Brier score {number(score)}, "
        f"ECE {number(error)}."
    )
    return figure(plots.svg_uri(plots.reliability(f.metrics)), alt, note)


def cases(f: Findings) -> Html | None:
    """Right and wrong calls of each class with their explanations."""
    if not f.cases:
        return None
    groups = [(f"True class: {c}", [_case(case) for case in f.cases if case.label == c]) for c in f.metrics.classes]
    return case_section(RULE, groups)


def glossary(f: Findings) -> Html:
    """What each figure means."""
    return definitions(GLOSSARY, class_="glossary")


def _case(case: Case) -> Html:
    ranked = sorted(case.probabilities.items(), key=lambda pair: -pair[1])
    chances = ", ".join(f"{name} {100 * p:.0f}%" for name, p in ranked)
    verdict = f"{'Right' if case.correct else 'Wrong'}: called {case.predicted}"
    other = f"labelled {case.labelled}, counted as {case.label}" if case.labelled not in ("", case.label) else None
    called = [tag("span", verdict, class_="verdict"), f" ({case.why})"]
    return article(case, [called, chances, tag("strong", other) if other else None], f"of class {case.label}")


def _confusion_cell(number: int, total: int, right: bool) -> Html:
    share = number / total if total else 0.0
    said = tag("span", f"{100 * share:.1f}%" if total else "–", class_="interval")
    value = tag("span", f"{number:,}", class_="value")
    return tag("td", value, said, class_="right" if right else None, style=f"background:{_shade(share)}")


def _shade(share: float) -> str:
    """White to mid blue; the darkest still carries dark text at a contrast above 4.5."""
    low, high = np.array([255, 255, 255]), np.array([120, 175, 218])
    return "#" + "".join(f"{round(v):02x}" for v in low + (high - low) * share)
