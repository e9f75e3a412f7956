"""The first screen of the report: what was evaluated on what, what came out, and what to be wary of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.cautions import cautions
from covidcxnet.evaluation.findings import Data, Findings
from covidcxnet.evaluation.markup import Html, count, definitions, interval, number, table, tag
from covidcxnet.evaluation.metrics import NORMAL, Missed
from covidcxnet.evaluation.places import Comparison, defined, place_name

_SPLIT_BY = {
    "patient": "patient",
    "patient_where_known": "patient where known, else image",
    "image": "image, not by patient",
    "": "not split here",
}
NOTICE = "Research only: not a medical device"
SECTIONS = (
    ("places", "Internal, held-out and within-source figures"),
    ("curves", "Curves"),
    ("classes", "By class"),
    ("sources", "By source"),
    ("confusion", "Confusion matrix"),
    ("calibration", "Calibration"),
    ("cases", "Cases and explanations"),
    ("training", "Training"),
    ("rejected", "Rejected files and lung masks"),
    ("settings", "Settings"),
    ("reproduce", "Reproduce"),
    ("glossary", "Glossary"),
)


def overview(f: Findings, sections: list[str]) -> Html:
    """Title, notice, headline figures, facts, split and warnings; `sections` are the ids that the page has."""
    return tag(
        "div",
        tag(
            "header",
            tag("div", tag("h1", f.title), tag("p", _when(f), class_="when")),
            tag("p", NOTICE, class_="research"),
        ),
        _phantom(f),
        _counted(f),
        tag("main", _headline(f), _missed(f), tag("div", *_columns(f), class_="first")),
        tag(
            "nav", [tag("a", name, href=f"#{key}") for key, name in SECTIONS if key in sections], aria_label="Sections"
        ),
        id="overview",
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


def part_name(part: str) -> str:
    """A split's name as the page says it."""
    said = {"train": "training", "all": "all images of the run", "other": "other data", "none": "no split"}
    said["patient_seen"] = "left out: patient in training"
    return said.get(part, part)


def _when(f: Findings) -> str:
    evaluated = count(f.metrics.images, "image")
    return f"Evaluation report, {f.created}. Figures of {evaluated} ({part_name(f.data.split)}), with 95% intervals."


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


def _headline(f: Findings) -> Html:
    pairs = []
    for name, figure, percent in headline(f):
        between = interval(figure, percent) or "no interval"
        pairs.append(
            (name, [tag("span", number(figure, percent), class_="value"), tag("span", between, class_="interval")])
        )
    return definitions(pairs, class_="headline")


def _missed(f: Findings) -> Html | None:
    if not f.metrics.missed:
        return None
    items = []
    for missed in f.metrics.missed:
        said = f" ({_rate(missed)})" if missed.images else ""
        name = counted_name(f, missed.name)
        items.append(tag("li", f"{name} called {NORMAL}: ", tag("strong", f"{missed.missed} of {missed.images}"), said))
    return tag("ul", items, class_="missed")


def _facts(f: Findings) -> Html:
    data, model = f.data, f.model
    return definitions(
        [
            ("Data set", _data_set(data)),
            ("Evaluated", _evaluated(f)),
            ("Split by", _split_by(data)),
            ("Left out", _left_out(data)),
            ("Test set opened", _opened(f)),
            ("Model", _model(f)),
            (
                "Weights",
                [
                    model.weights,
                    tag("br"),
                    tag("span", f"SHA-256 {model.sha256[:16]}…", class_="mono note") if model.sha256 else None,
                ],
            ),
            ("Rejected files", _rejected(f)),
            ("Lung masks", _lungs(f)),
            ("Decision", _decision(f)),
            ("Intervals", _intervals(f)),
        ],
        class_="facts",
    )


def _rate(missed: Missed) -> str:
    """The rate and its interval; where none was missed, the bootstrap knows no spread and the rule of three speaks."""
    if missed.missed:
        return f"{number(missed.rate, True)}, {interval(missed.rate, True) or 'no interval'}"
    most = min(1.0, 3 / missed.patients)
    return f"with {count(missed.patients, 'patient')}, a true rate of up to {100 * most:.0f}% would fit"


def _columns(f: Findings) -> tuple[Html, Html]:
    """Facts to the left, warnings to the right, the split wherever there is room."""
    facts, split, warnings = _facts(f), _split(f), _warnings(f)
    if len(cautions(f)) > 3:
        return tag("div", facts, split), tag("div", warnings)
    return facts, tag("div", warnings, split)


def _data_set(data: Data) -> str:
    chosen = []
    for column, value in data.where.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        chosen.append(f"{column} {' or '.join(map(str, values))}")
    return data.name + (f", only {'; '.join(chosen)}" if chosen else "")


def _split_by(data: Data) -> str:
    unknown, images = data.unknown_patients, len(data.parts)
    if not unknown or not data.split_by or data.phantom:
        return _SPLIT_BY[data.split_by]
    known = "no patient is known" if unknown == images else f"the patient of {unknown:,} of {images:,} is unknown"
    return f"{_SPLIT_BY[data.split_by]}; {known}"


def _evaluated(f: Findings) -> str:
    known = f.metrics.patients - f.unknown_patients
    patients = count(known, "patient") if known else "patients unknown"
    if known and f.unknown_patients:
        patients += f", and {count(f.unknown_patients, 'image')} without a known patient"
    return f"{part_name(f.data.split)}: {count(f.metrics.images, 'image')} of {patients}"


def _left_out(data: Data) -> str | None:
    left = data.left_out
    if left is None:
        return None
    if not left.images + left.of_patients:
        return f"none; no image or patient of these stands as train or validation in {', '.join(left.lists)}"
    patients = f" ({count(left.patients, 'patient')})" if left.patients else ""
    return (
        f"{count(left.images + left.of_patients, 'image')}{patients}: {left.images:,} of training or validation, "
        f"{left.of_patients:,} more of their patients, by {', '.join(left.lists)}"
    )


def _opened(f: Findings) -> str | None:
    if not f.openings:
        return None
    first = str(f.openings[0].get("date", ""))[:16].replace("T", " ")
    if len(f.openings) == 1:
        return f"once, {first}"
    same = len({o.get("weights_sha256") for o in f.openings}) == 1
    return f"{len(f.openings)} times, first {first}{', always these weights' if same else ''}"


def _model(f: Findings) -> str:
    parameters = f", {f.model.parameters:,} parameters" if f.model.parameters else ""
    started = f.model.training.get("init")
    return f"{f.model.name}{parameters}{f', initial weights: {started}' if started else ''}"


def _rejected(f: Findings) -> Any:
    if not len(f.data.rejected):
        return "none"
    return [f"{count(len(f.data.rejected), 'file')} could not be used: ", tag("a", "list", href="#rejected")]


def _lungs(f: Findings) -> Any:
    sought, failed = f.data.lungs_sought, len(f.failed_lungs)
    if not sought:
        return "not used: the model sees the whole image"
    if not failed:
        return f"all {sought:,} trusted"
    used = "; the whole image was used there" if f.data.region != "none" else ""
    return [f"{failed:,} of {sought:,} not trusted{used}: ", tag("a", "list", href="#rejected")]


def _decision(f: Findings) -> str:
    if len(f.metrics.classes) > 2:
        return "the most probable class"
    return f"{f.metrics.classes[1]} from {f.predictions.threshold:.3g} on ({f.threshold_from})"


def _intervals(f: Findings) -> str:
    if not f.resamples:
        return "none asked for"
    unit = "images" if f.metrics.patients == f.unknown_patients else "patients"
    return f"95%, bootstrap over {unit}, {f.resamples:,} resamples"


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


def _warnings(f: Findings) -> Html | None:
    found = cautions(f)
    if not found:
        return None
    items = [tag("li", tag("strong", c.title + "."), " ", c.text) for c in found]
    title = tag("h2", "Before you believe a figure")
    return tag("section", title, tag("ul", items), class_="cautions", aria_label="Warnings")


def summary(f: Findings) -> str:
    """The headline as a few lines of plain text for a terminal."""
    lines = [f"{f.title}: {_evaluated(f)}"]
    for name, figure, percent in headline(f):
        between = interval(figure, percent)
        lines.append(f"  {name:<26} {number(figure, percent):>8}" + (f"  ({between})" if between else ""))
    lines += [f"  {replace(m, name=counted_name(f, m.name))}" for m in f.metrics.missed]
    if f.data.left_out is not None:
        lines.append(f"  Left out: {_left_out(f.data)}")
    lines += _place_lines(f)
    lines += [f"  Caution: {c.title}. {c.text}" for c in cautions(f)]
    return "\n".join([*lines, f"  {NOTICE}."])


def _place_lines(f: Findings) -> list[str]:
    if f.places is None:
        return []
    lines = []
    for place in f.places.rows:
        for c in place.comparisons[:1]:  # the page has them all
            between = interval(c.auroc)
            lines.append(
                f"  {place_name(place)}: {_compared(c)}, AUROC {number(c.auroc)}" + (f" ({between})" if between else "")
            )
    if f.places.gap is not None and defined(f.places.gap):
        between = interval(f.places.gap)
        lines.append(
            f"  Gap of AUROC, internal to held out: {number(f.places.gap)}" + (f" ({between})" if between else "")
        )
    return lines


def _compared(c: Comparison) -> str:
    return f"{c.positives:,} {c.positive} against {c.negatives:,} {c.negative}, by {c.score}"
