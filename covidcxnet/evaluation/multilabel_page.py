"""The page about independent findings: what is never found first, then means, then each finding by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covidcxnet.evaluation import multilabel_plots, overview, sections
from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.cases import Case
from covidcxnet.evaluation.glossary import GLOSSARY
from covidcxnet.evaluation.markup import (
    Html,
    cell,
    count,
    definitions,
    figure,
    footnotes,
    interval,
    number,
    table,
    tag,
)
from covidcxnet.evaluation.multilabel_cases import RULE
from covidcxnet.evaluation.report import Report, page
from enhancement.files import whole_file

if TYPE_CHECKING:
    from covidcxnet.evaluation.multilabel import MultilabelFindings

_SECTIONS = (
    ("findings", "By finding"),
    ("curves", "Curves"),
    ("cases", "Cases and explanations"),
    ("training", "Training"),
    ("rejected", "Rejected files and lung masks"),
    ("settings", "Settings"),
    ("reproduce", "Reproduce"),
    ("glossary", "Glossary"),
)
_SAID = (
    ("auroc", "AUROC", False),
    ("average_precision", "Av. precision", False),
    ("f1", "F1", False),
    ("sensitivity", "Sensitivity", True),
    ("specificity", "Specificity", True),
    ("precision", "Precision", True),
    ("npv", "NPV", True),
)
_TERMS = (
    ("Mean over findings (macro)",
     "Each finding counts the same, however rare; one that is never found counts with an F1 of 0. Figures that are "
     "undefined (present in no image, or absent in none) are left out and named."),
    ("Unknown", "The finding is neither said to be present nor absent: such an image is in none of its figures."),
    ("Threshold",
     "Probability from which a finding is called. Each has its own, that of the highest F1 on validation (Lipton et "
     "al. 2014); for a finding that the model knows nothing about, that calls it nearly everywhere."),
)  # fmt: skip


def write_findings_report(findings: MultilabelFindings, folder: str | Path) -> Report:
    """Write page, numbers and table into `folder`, each whole or not at all; the page last."""
    report = Report(Path(folder), findings)  # type: ignore[arg-type]
    findings.predictions.save(report.predictions_path)
    with whole_file(report.metrics_path) as partial:
        text = json.dumps(findings.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
    with whole_file(report.path) as partial:
        partial.write_text(render(findings), encoding="utf-8")
    return report


def render(f: MultilabelFindings) -> str:
    """The page as text."""
    made = {
        "findings": _findings(f),
        "curves": _curves(f),
        "cases": _cases(f),
        "training": sections.training(f),  # type: ignore[arg-type]
        "rejected": sections.rejected(f),  # type: ignore[arg-type]
        "settings": sections.settings(f),  # type: ignore[arg-type]
        "reproduce": sections.reproduce(f),  # type: ignore[arg-type]
        "glossary": definitions((*_TERMS, *GLOSSARY), class_="glossary"),
    }
    present = [(key, name) for key, name in _SECTIONS if made[key]]
    body: str = _overview(f, present)
    for key, name in present:
        new_page = "page" if key in ("curves", "cases", "settings") else None
        body += tag("section", tag("h2", name), made[key], id=key, class_=new_page)
    return page(f.title, body, f.created)


def headline(f: MultilabelFindings) -> list[tuple[str, Estimate, bool]]:
    """Name, figure and whether it is a percentage, of the figures that stand first."""
    macro = f.metrics.macro
    return [
        ("AUROC, mean over findings", macro["auroc"], False),
        ("Average precision, mean", macro["average_precision"], False),
        ("F1, mean", macro["f1"], False),
        ("Sensitivity, mean", macro["sensitivity"], True),
        ("Specificity, mean", macro["specificity"], True),
    ]


def summary(f: MultilabelFindings) -> str:
    """The headline, every finding and the warnings as plain text for a terminal."""
    lines = [f"{f.title}: {overview._evaluated(f)}"]  # type: ignore[arg-type]
    for name, figure_, percent in headline(f):
        between = interval(figure_, percent)
        lines.append(f"  {name:<26} {number(figure_, percent):>8}" + (f"  ({between})" if between else ""))
    for own in f.metrics.findings:
        auroc, f1 = own.figures["auroc"], own.figures["f1"]
        lost = "  NEVER FOUND" if own.name in f.metrics.collapsed else ""
        said = f"AUROC {number(auroc)} ({interval(auroc) or 'no interval'}), F1 {number(f1)}"
        lines.append(f"    {own.name:<24} {own.present:>5} present, {said}{lost}")
    lines += [f"  Caution: {c.title}. {c.text}" for c in f.cautions]
    return "\n".join([*lines, f"  {overview.NOTICE}."])


def _overview(f: MultilabelFindings, present: list[tuple[str, str]]) -> Html:
    facts, split, warnings = _facts(f), _split(f), _warnings(f)
    columns = (tag("div", facts, split), tag("div", warnings)) if len(f.cautions) > 3 else (
        facts, tag("div", warnings, split)
    )  # fmt: skip
    links = [tag("a", name, href=f"#{key}") for key, name in present]
    return tag(
        "div",
        tag(
            "header",
            tag("div", tag("h1", f.title), tag("p", overview._when(f), class_="when")),  # type: ignore[arg-type]
            tag("p", overview.NOTICE, class_="research"),
        ),
        tag("main", _alarm(f), _headline(f), tag("div", *columns, class_="first")),
        tag("nav", links, aria_label="Sections"),
        id="overview",
    )


def _alarm(f: MultilabelFindings) -> Html | None:
    """In the place where nobody can pass it by: a mean of AUROCs looks well while whole findings are never found."""
    lost = f.metrics.collapsed
    if not lost:
        return None
    said = f"{len(lost)} of {count(len(f.metrics.classes), 'finding')} never found: {', '.join(lost)}. "
    return tag("p", tag("strong", said), "Their F1 is 0 and is in the mean as 0.", class_="phantom")


def _headline(f: MultilabelFindings) -> Html:
    pairs = []
    for name, figure_, percent in headline(f):
        between = interval(figure_, percent) or "no interval"
        value = tag("span", number(figure_, percent), class_="value")
        pairs.append((name, [value, tag("span", between, class_="interval")]))
    lost, known = len(f.metrics.collapsed), len(f.metrics.classes)
    names = ", ".join(f.metrics.collapsed) if lost <= 3 else "named above"
    value = tag("span", f"{lost} of {known}", class_="value")
    pairs.append(("Never found (F1 0)", [value, tag("span", names or "none", class_="interval")]))
    return definitions(pairs, class_="headline")


def _facts(f: MultilabelFindings) -> Html:
    model, either = f.model, f
    weights = [model.weights]
    if model.sha256:
        weights += [tag("br"), tag("span", f"SHA-256 {model.sha256[:16]}…", class_="mono note")]
    return definitions(
        [
            ("Data set", overview._data_set(f.data)),
            ("Evaluated", overview._evaluated(either)),  # type: ignore[arg-type]
            ("Split by", overview._split_by(f.data)),
            ("Left out", overview._left_out(f.data)),
            ("Test set opened", overview._opened(either)),  # type: ignore[arg-type]
            ("Model", overview._model(either)),  # type: ignore[arg-type]
            ("Weights", weights),
            ("Rejected files", overview._rejected(either)),  # type: ignore[arg-type]
            ("Lung masks", overview._lungs(either)),  # type: ignore[arg-type]
            ("Thresholds", f.threshold_from),
            ("Intervals", overview._intervals(either)),  # type: ignore[arg-type]
        ],
        class_="facts",
    )


def _split(f: MultilabelFindings) -> Html:
    """Images and patients with each finding in each part, the evaluated part marked."""
    parts = list(dict.fromkeys(f.parts["part"]))
    header = ["Images (patients)"]
    header += [overview.part_name(n) + (" ◂" if n == f.data.split else "") for n in parts]
    rows = []
    for name in dict.fromkeys(f.parts["finding"]):
        own = f.parts[f.parts["finding"] == name].set_index("part")
        rows.append([name, *[_tally(own.loc[part]) for part in parts]])
    return table(header, rows, class_="first-table")


def _tally(row: pd.Series) -> str:
    images = f"{int(row['images']):,}"
    return images if pd.isna(row["patients"]) else f"{images} ({int(row['patients']):,})"


def _warnings(f: MultilabelFindings) -> Html | None:
    found = f.cautions
    if not found:
        return None
    items = [tag("li", tag("strong", c.title + "."), " ", c.text) for c in found]
    title = tag("h2", "Before you believe a figure")
    return tag("section", title, tag("ul", items), class_="cautions", aria_label="Warnings")


def _findings(f: MultilabelFindings) -> Html:
    metrics = f.metrics
    alt = "AUROC, average precision and F1 of each finding with 95% intervals; the numbers stand in the table."
    note = "Images with the finding in brackets. Upright ticks: chance. A cross: never found."
    drawn = figure(sections._svg(multilabel_plots.intervals(metrics)), alt, note)
    rows = [
        [own.name, f"{own.present:,}", *[cell(own.figures[key], percent) for key, _, percent in _SAID]]
        for own in metrics.findings
    ]
    rows.append(["Mean", "", *[cell(metrics.macro[key], percent) for key, _, percent in _SAID]])
    first = table(["Finding", "Images", *[name for _, name, _ in _SAID]], rows, "95% interval below each figure.")
    unknown = metrics.images - np.array([own.present + own.absent for own in metrics.findings])
    calls = [
        [own.name, f"{own.threshold:.3g}", *[f"{n:,}" for n in (own.hits, own.misses, own.alarms, own.passes, gap)],
         sections.number_only(own.place_alone) if not np.isnan(own.place_alone) else "–"]
        for own, gap in zip(metrics.findings, unknown, strict=True)
    ]  # fmt: skip
    header = ["Finding", "Threshold", "Found", "Missed", "False alarms", "Rightly passed", "Unknown", "AUROC of source"]
    caption = "Images by call. The last column: AUROC of a reader who sees only the name of the source."
    estimates = [*metrics.macro.values(), *[e for own in metrics.findings for e in own.figures.values()]]
    return tag("div", drawn, first, footnotes(estimates), table(header, calls, caption))


def _curves(f: MultilabelFindings) -> Html | None:
    made = multilabel_plots.curves(f.metrics)
    if not made:
        return None
    alt = "ROC curve of each finding with its AUROC."
    return figure(
        sections._svg(made), alt, "AUROC in each title. Shaded: 95% band, point by point. Dot: the threshold."
    )


def _cases(f: MultilabelFindings) -> Html | None:
    if not f.cases:
        return None
    intro = (
        "A heatmap shows where the network looked, not whether it was right to. A map outside the lungs (a letter, "
        "a border, the diaphragm) is a reason to doubt the score."
    )
    made: list[Html] = [tag("p", intro), tag("p", RULE, class_="note")]
    for name in dict.fromkeys(case.predicted for case in f.cases):
        own = [_case(c, f) for c in f.cases if c.predicted == name]
        made += [tag("h3", name), tag("div", own, class_="cases")]
    return tag("div", made)


def _case(case: Case, f: MultilabelFindings) -> Html:
    finding = next(own for own in f.metrics.findings if own.name == case.predicted)
    verdict = case.why[0].upper() + case.why[1:]
    chance = f"{case.predicted} {100 * case.probabilities[case.predicted]:.0f}%, called from {finding.threshold:.3g} on"
    head = tag(
        "header",
        tag("p", tag("span", verdict, class_="verdict")),
        tag("p", chance),
        tag("p", f"Present: {case.label}"),
        tag("p", case.path, class_="mono note"),
        tag("p", case.lungs, class_="note") if case.lungs else None,
    )
    outlined = " with the outline of the lungs" if case.outlined else ""
    pictures = [figure(case.radiograph, f"Radiograph with {case.label}{outlined}.", f"Radiograph{outlined}")]
    if case.gradcam:
        alt = f"The radiograph with Grad-CAM for {case.predicted} over it."
        said = ": no place speaks for it" if case.silent else ""
        pictures.append(figure(case.gradcam, alt, f"Grad-CAM for {case.predicted}{said}"))
    shown = tag("div", pictures, class_="pictures")
    return tag("article", head, shown, class_="case" if case.correct else "case wrong")
