"""The page of a report: one HTML file with its style and pictures inside, made by `templates/report.html`."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from covidcxnet.evaluation import plots, tables
from covidcxnet.evaluation.cases import MOST_FINDINGS
from covidcxnet.evaluation.report import Report
from covidcxnet.reporting.pages import render
from covidcxnet.reporting.plots import data_uri
from covidcxnet.reporting.table import Estimate, Html, Table, count, interval, number, with_interval

_MOST_ROWS = 500  # of a list of files; the file beside the page has them all


def page(r: Report) -> str:
    """The page as text."""
    shown, drawings = tables.all_tables(r), _drawings(r)
    sections = (
        ("sites", "Internal, held-out and within-source figures" if r.exclusive else "Within single sources", r.sites),
        ("classes", "By class" if r.exclusive else "By finding", True),
        ("curves", "Curves", r.exclusive or "finding_curves" in drawings),
        # a single source has nothing to compare
        ("sources", "By source", "pooled" in shown and (not r.exclusive or len(shown["sources"].rows) > 1)),
        ("confusion", "Confusion matrix", r.exclusive),
        ("calibration", "Calibration", r.exclusive),
        ("cases", "Cases and explanations", r.cases),
        ("training", "Training", "training" in drawings),
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
        warnings=[(c.title, c.text) for c in r.cautions],
        decision=tables.decision(r),
        intervals=tables.intervals(r),
        left_out=tables.left_out(r),
        computed=tables.computed(r) or None,
        who=tables.evaluated(r),
        sections=[(key, name) for key, name, content in sections if content],
        tables=shown,
        plots=drawings,
        drawn=", ".join(plots.drawn_classes(r.metrics)) if r.exclusive else "",
        number=number,
        interval=_interval,
        source_alone=tables.source_alone(r),
        single_source=tables.single_source(r),
        shade=_shade,
        frequent=MOST_FINDINGS,
        case_groups=groups.items(),
        listings=_listings(r),
        recipe=_recipe(r),
        dump=partial(json.dumps, default=str),
    )


def summary(r: Report) -> str:
    """The headline, what else must be seen first, and the warnings as plain text for a terminal."""
    compared = [site for site in r.sites if site.comparisons and not tables.single_source(r)]
    figures = {"number": number, "interval": _interval, "with_interval": with_interval}
    return render("evaluation/summary.txt", r=r, words=tables, sites=compared, **figures).rstrip()


def _recipe(r: Report) -> dict[str, Any]:
    """Settings of the training; those of the input stand by themselves."""
    recipe = {key: value for key, value in r.recipe.items() if key != "input"}
    if recipe.get("trainable") == "head" and recipe.get("cache_features", True) and "augment" in recipe:
        # Features of the backbone are computed once, from the images as they are.
        recipe["augment"] = "none: head-only training"
    return recipe


def _interval(estimate: Estimate, percent: bool = False) -> str:
    return interval(estimate, percent) or "no interval"


def _drawings(r: Report) -> dict[str, str]:
    """Pictures that the report has, by name; their texts are in the template."""
    m = r.metrics
    drawn: dict[str, Any] = {}
    if r.exclusive:
        if plots.drawn_classes(m):
            drawn |= {"roc": plots.roc(m), "precision_recall": plots.precision_recall(m)}
        drawn["reliability"] = plots.reliability(m)
    else:
        if (curves := plots.finding_curves(m)) is not None:
            drawn["finding_curves"] = curves
        drawn["finding_intervals"] = plots.finding_intervals(m)
    if r.log is not None and plots.learned(r.log):
        drawn["training"] = plots.learning_curves(r.log, r.best_epoch)
    return {name: data_uri(figure) for name, figure in drawn.items()}


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
            f"{len(rows) - _MOST_ROWS:,} more are in {file}." if len(rows) > _MOST_ROWS else "",
            "text",
        )
        for header, rows, caption, file in listed
    ]
