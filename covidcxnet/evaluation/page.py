"""The page of a report: one HTML file with its style and pictures inside, made by `templates/report.html`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from covidcxnet.evaluation import plots, tables
from covidcxnet.evaluation.cases import rule
from covidcxnet.evaluation.report import Report
from covidcxnet.reporting.pages import NOTICE, render
from covidcxnet.reporting.plots import data_uri
from covidcxnet.reporting.table import Html, Table, count, interval, number, with_interval

_SPLIT_BY = {
    "patient": "patient",
    "patient_where_known": "patient where known, else image",
    "image": "image, not by patient",
    "": "not split here",
}
_MOST_ROWS = 500  # of a list of files; the file beside the page has them all


def page(r: Report) -> str:
    """The page as text."""
    shown, drawings = tables.all_tables(r), _drawings(r)
    sections = (
        ("sites", "Internal, held-out and within-source figures" if r.exclusive else "Within single sources", r.sites),
        ("classes", "By class" if r.exclusive else "By finding", True),
        ("curves", "Curves", r.exclusive or drawings["curves"]),
        # a single source has nothing to compare
        ("sources", "By source", "pooled" in shown and (not r.exclusive or len(shown["sources"].rows) > 1)),
        ("confusion", "Confusion matrix", r.exclusive),
        ("calibration", "Calibration", r.exclusive),
        ("cases", "Cases and explanations", r.cases),
        ("training", "Training", drawings["training"]),
        ("rejected", "Rejected files and lung masks", len(r.data.rejected) or len(r.failed_lungs)),
        ("settings", "Settings", True),
        ("reproduce", "Reproduce", True),
        ("glossary", "Glossary", True),
    )
    groups: dict[str, list] = {}
    for case in r.cases:
        groups.setdefault(f"True class: {case.label}" if r.exclusive else case.predicted, []).append(case)
    headline, lost = tables.headline(r), r.metrics.never_found
    if not r.exclusive:
        names = ", ".join(lost) if len(lost) <= 3 else "named above"
        headline.append(("Never found (F1 0)", f"{len(lost)} of {len(r.metrics.classes)}", names or "none"))
    return render(
        "evaluation/report.html",
        title=r.title,
        r=r,
        evaluated=f"{count(r.metrics.images, 'image')} ({tables.part_name(r.data.split)})",
        counted=tables.counted(r),
        lost=() if r.exclusive else lost,
        headline=headline,
        missed=[(r.called(x.name), f"{x.missed} of {x.images}", _rate(x)) for x in r.metrics.missed],
        facts=_facts(r),
        warnings=[(c.title, c.text) for c in r.cautions],
        decision=tables.decision(r),
        intervals=tables.intervals(r),
        left_out=tables.left_out(r),
        who=tables.evaluated(r),
        sections=[(key, name) for key, name, content in sections if content],
        tables=shown,
        plots=drawings,
        source_alone=tables.source_alone(r),
        single_source=tables.single_source(r),
        shade=_shade,
        rule=rule(r.metrics.task),
        case_groups=groups.items(),
        listings=_listings(r),
        settings=_settings(r),
    )


def summary(r: Report) -> str:
    """The headline, what else must be seen first, and the warnings as plain text for a terminal."""
    lines = [f"{r.title}: {tables.evaluated(r)}"]
    lines += [
        f"  {name:<26} {value:>8}" + ("" if below == "no interval" else f"  ({below})")
        for name, value, below in tables.headline(r)
    ]
    if len(rejected := r.data.rejected):
        path, reason = rejected[["path", "reason"]].iloc[0]
        lines.append(f"  {count(len(rejected), 'file')} could not be used, the first {path} ({reason})")
    lines += [f"  {r.called(x.name)} called normal: {x.missed} of {x.images}" for x in r.metrics.missed]
    for name, row in () if r.exclusive else r.metrics.by_class.items():
        auroc, f1 = row.figures["auroc"], row.figures["f1"]
        lost = "  NEVER FOUND" if name in r.metrics.never_found else ""
        figures = f"AUROC {number(auroc)} ({interval(auroc) or 'no interval'}), F1 {number(f1)}"
        lines.append(f"    {name:<24} {row.present:>5} present, {figures}{lost}")
    lines += [f"  Left out: {tables.left_out(r)}"] if r.data.left_out is not None else []
    lines += [f"  {text}" for text in _site_lines(r)]
    lines += [f"  Caution: {c.title}. {c.text}" for c in r.cautions]
    return "\n".join([*lines, f"  {NOTICE}."])


def _site_lines(r: Report) -> Iterable[str]:
    """The broadest comparison at each site; the page has them all."""
    if tables.single_source(r):
        return
    for site in (site for site in r.sites if site.comparisons):
        first = site.comparisons[0]
        auroc, probe = (first.auroc, first.probe) if r.exclusive else (site.mean, site.mean_probe)
        over = f"mean AUROC over {count(len(site.comparisons), 'finding')}"
        pair = f"{first.positives:,} {first.positive} against {first.negatives:,} {first.negative}, by {first.score}"
        what = f"{pair}, AUROC" if r.exclusive else over
        images = "" if r.exclusive else f", {count(site.images, 'image')}"
        alone = "" if probe is None else f"; intensity probe {number(probe)}"
        yield f"{tables.site_name(site)}: {what} {with_interval(auroc)}{images}{alone}"
    gap = None if r.by_source is None else r.by_source.gap
    if gap is not None and not np.isnan(gap.auroc.value):
        pair = f"{gap.positive} against {gap.negative}, by {gap.score}"
        yield f"Gap of AUROC, internal to held out: {pair}: {with_interval(gap.auroc)}"
    if text := tables.source_alone(r):
        yield text


def _rate(missed) -> str:
    """The rate and its interval; where none was missed, the bootstrap knows no spread and the rule of three speaks."""
    if missed.missed:
        return f"{number(missed.rate, True)}, {interval(missed.rate, True) or 'no interval'}"
    most = min(1.0, 3 / missed.patients)
    return f"with {count(missed.patients, 'patient')}, a true rate of up to {100 * most:.0f}% would fit"


def _facts(r: Report) -> dict[str, Any]:
    """Facts of data and training in words, for the list beside the figures."""
    data, unknown, split_by = r.data, r.data.unknown_patients, _SPLIT_BY[r.data.split_by]
    chosen = []
    for column, value in data.where.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        chosen.append(f"{column} {' or '.join(map(str, values))}")
    if unknown and data.split_by and not data.phantom:
        some = f"the patient of {unknown:,} of {len(data.parts):,} is unknown"
        split_by += f"; {'no patient is known' if unknown == len(data.parts) else some}"
    opened = None
    if r.openings:
        first = str(r.openings[0].get("date", ""))[:16].replace("T", " ")
        same = len({o.get("weights_sha256") for o in r.openings}) == 1
        times = f"{len(r.openings)} times, first {first}{', always these weights' if same else ''}"
        opened = f"once, {first}" if len(r.openings) == 1 else times
    return {"chosen": "; ".join(chosen), "split_by": split_by, "opened": opened}


def _drawings(r: Report) -> dict[str, list[dict[str, str]]]:
    """Pictures of each section with their texts."""
    m = r.metrics
    drawn: dict[str, list] = {"curves": [], "classes": [], "calibration": [], "training": []}

    def add(section: str, drawing, alt: str, caption: str = "") -> None:
        drawn[section].append({"source": data_uri(drawing), "alt": alt, "caption": caption})

    if r.exclusive:
        names = ", ".join(plots.drawn_classes(m))
        auroc, precision = number(m.overall["auroc"]), number(m.overall["average_precision"])
        if names:
            add("curves", plots.roc(m), f"ROC curve of {names}; AUROC {auroc}.")
            alt = f"Precision-recall curve of {names}; average precision {precision}."
            add("curves", plots.precision_recall(m), alt)
        error, brier = number(m.overall["calibration_error"]), number(m.overall["brier"])
        caption = (
            "Points: share of images for which the prediction came true in each tenth of probability, with 95% "
            "interval. On the dotted line it is the stated probability. Bars: images in each tenth. "
            f"Brier score {brier}, ECE {error}."
        )
        alt = f"Reliability diagram; expected calibration error {error}."
        add("calibration", plots.reliability(m), alt, caption)
    else:
        if (curves := plots.finding_curves(m)) is not None:
            add("curves", curves, "ROC curve of each finding with its AUROC.")
        alt = "AUROC, average precision and F1 of each finding with 95% intervals; the numbers stand in the table."
        caption = "Images with the finding in brackets. Upright ticks: chance. A cross: never found."
        add("classes", plots.finding_intervals(m), alt, caption)
    if r.log is not None and plots.learned(r.log):
        epochs = count(len(r.log), "epoch") + (f"; weights of epoch {r.best_epoch}" if r.best_epoch is not None else "")
        caption = f"{epochs}. Validation picks the epoch; the test split has no part in it."
        add("training", plots.learning_curves(r.log, r.best_epoch), f"Learning curves over {epochs}.", caption)
    return drawn


def _shade(share: float) -> str:
    """Background of a share: white to mid blue; the darkest still carries dark text at a contrast above 4.5."""
    mixed = [255 + (level - 255) * share for level in (120, 175, 218)]
    return "#" + "".join(f"{round(level):02x}" for level in mixed)


def _listings(r: Report) -> list[Table]:
    """Files that were left out, and images whose lung mask was not trusted, with reasons."""
    listed = []
    if len(r.data.rejected):
        rows = r.data.rejected[["path", "reason"]].to_numpy().tolist()
        caption = "Files that could not be used in any part of the data; they are in no figure."
        listed.append((["File", "Reason"], rows, caption, "metrics.json"))
    failed = r.failed_lungs
    if len(failed):
        reasons = failed["lungs_reasons"] if "lungs_reasons" in failed else [""] * len(failed)
        # A label is not broken across lines as a path is.
        labels = [Html('<span class="whole">{}</span>').format(x) for x in r.predictions.labelled[failed.index]]
        rows = [list(row) for row in zip(failed["path"], labels, reasons, strict=True)]
        used = " The whole image was used for them." if r.data.region != "none" else ""
        caption = f"Evaluated images whose lung mask was not trusted.{used}"
        listed.append((["Image", "Label", "Reason"], rows, caption, "predictions.csv"))
    return [
        Table(
            header,
            rows[:_MOST_ROWS],
            caption,
            f"{len(rows) - _MOST_ROWS:,} more stand in {file}." if len(rows) > _MOST_ROWS else "",
            "text",
        )
        for header, rows, caption, file in listed
    ]


def _settings(r: Report) -> list[tuple[str, dict[str, str]]]:
    """Input settings, recipe and environment: each value as text, under its dotted name."""
    recipe = {key: value for key, value in r.recipe.items() if key != "input"}
    groups = []
    for title, values in (("From file to stack", r.input_settings), ("Recipe", recipe), ("Environment", r.environment)):
        flat: dict[str, Any] = {}
        for key, value in values.items():
            nested = isinstance(value, Mapping) and value
            flat |= {f"{key}.{name}": inner for name, inner in value.items()} if nested else {key: value}
        if flat:
            groups.append((title, {name: _setting(value) for name, value in flat.items()}))
    return groups


def _setting(value: Any) -> str:
    if isinstance(value, str):
        return value or "–"
    long = isinstance(value, (list, tuple)) and len(value) > 20
    return f"{len(value)} numbers" if long else json.dumps(value, default=str)
