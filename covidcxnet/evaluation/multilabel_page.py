"""The page about independent findings: what is never found first, then means, then each finding by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covidcxnet.evaluation import multilabel_plots
from covidcxnet.evaluation.case_section import article, case_section
from covidcxnet.evaluation.cases import Case
from covidcxnet.evaluation.closing import closing_sections
from covidcxnet.evaluation.facts import facts, part_name
from covidcxnet.evaluation.first_screen import Headline, first_screen, in_words, tiles
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
from covidcxnet.evaluation.multilabel_card import findings_card
from covidcxnet.evaluation.multilabel_cases import RULE
from covidcxnet.evaluation.multilabel_place_section import place_lines, places
from covidcxnet.evaluation.plots import svg_uri
from covidcxnet.evaluation.report import Report, whole_page, write_files

if TYPE_CHECKING:
    from covidcxnet.evaluation.multilabel import MultilabelFindings

SECTIONS = (
    ("places", "Within single sources"),
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
    """Write page, numbers, table and card into `folder`, each whole or not at all; the page last."""
    return write_files(findings, folder, findings_card(findings), render(findings))


def render(f: MultilabelFindings) -> str:
    """The page as text."""
    made = {
        "places": places(f),
        "findings": _findings(f),
        "curves": _curves(f),
        "cases": _cases(f),
        **closing_sections(f),
        "glossary": definitions((*_TERMS, *GLOSSARY), class_="glossary"),
    }
    return whole_page(f, SECTIONS, made, _overview)


def headline(f: MultilabelFindings) -> Headline:
    """Name, figure and whether it is a percentage, of the figures that stand first."""
    macro, mean = f.metrics.macro, None if f.places is None or f.places.alone else f.places.mean
    return [
        ("AUROC, mean over findings", macro["auroc"], False),
        *([("AUROC within sources, mean", mean.within, False)] if mean is not None else []),
        ("Average precision, mean", macro["average_precision"], False),
        ("F1, mean", macro["f1"], False),
        ("Sensitivity, mean", macro["sensitivity"], True),
        ("Specificity, mean", macro["specificity"], True),
    ]


def summary(f: MultilabelFindings) -> str:
    """The headline, every finding and the warnings as plain text for a terminal."""
    lines = []
    for own in f.metrics.findings:
        auroc, f1 = own.figures["auroc"], own.figures["f1"]
        lost = "  NEVER FOUND" if own.name in f.metrics.collapsed else ""
        said = f"AUROC {number(auroc)} ({interval(auroc) or 'no interval'}), F1 {number(f1)}"
        lines.append(f"    {own.name:<24} {own.present:>5} present, {said}{lost}")
    return in_words(f, headline(f), [*lines, *place_lines(f)])


def _overview(f: MultilabelFindings, links: list[tuple[str, str]]) -> Html:
    lost = f.metrics.collapsed
    names = ", ".join(lost) if len(lost) <= 3 else "named above"
    never = ("Never found (F1 0)", f"{len(lost)} of {len(f.metrics.classes)}", names or "none")
    return first_screen(
        f,
        links,
        figures=(_alarm(f), tiles(headline(f), never)),
        facts=facts(f, ("Thresholds", f.threshold_from)),
        split=_split(f),
    )


def _alarm(f: MultilabelFindings) -> Html | None:
    """In the place where nobody can pass it by: a mean of AUROCs looks well while whole findings are never found."""
    lost = f.metrics.collapsed
    if not lost:
        return None
    said = f"{len(lost)} of {count(len(f.metrics.classes), 'finding')} never found: {', '.join(lost)}. "
    return tag("p", tag("strong", said), "Their F1 is 0 and is in the mean as 0.", class_="phantom")


def _split(f: MultilabelFindings) -> Html:
    """Images and patients with each finding in each part, the evaluated part marked."""
    parts = list(dict.fromkeys(f.parts["part"]))
    header = ["Images (patients)"]
    header += [part_name(n) + (" ◂" if n == f.data.split else "") for n in parts]
    rows = []
    for name in dict.fromkeys(f.parts["finding"]):
        own = f.parts[f.parts["finding"] == name].set_index("part")
        rows.append([name, *[_tally(own.loc[part]) for part in parts]])
    return table(header, rows, class_="first-table")


def _tally(row: pd.Series) -> str:
    images = f"{int(row['images']):,}"
    return images if pd.isna(row["patients"]) else f"{images} ({int(row['patients']):,})"


def _findings(f: MultilabelFindings) -> Html:
    metrics = f.metrics
    alt = "AUROC, average precision and F1 of each finding with 95% intervals; the numbers stand in the table."
    note = "Images with the finding in brackets. Upright ticks: chance. A cross: never found."
    drawn = figure(svg_uri(multilabel_plots.intervals(metrics)), alt, note)
    rows = [
        [own.name, f"{own.present:,}", *[cell(own.figures[key], percent) for key, _, percent in _SAID]]
        for own in metrics.findings
    ]
    rows.append(["Mean", "", *[cell(metrics.macro[key], percent) for key, _, percent in _SAID]])
    first = table(["Finding", "Images", *[name for _, name, _ in _SAID]], rows, "95% interval below each figure.")
    unknown = metrics.images - np.array([own.present + own.absent for own in metrics.findings])
    calls = [
        [own.name, f"{own.threshold:.3g}", *[f"{n:,}" for n in (own.hits, own.misses, own.alarms, own.passes, gap)]]
        for own, gap in zip(metrics.findings, unknown, strict=True)
    ]
    header = ["Finding", "Threshold", "Found", "Missed", "False alarms", "Rightly passed", "Unknown"]
    caption = "Images by call."
    estimates = [*metrics.macro.values(), *[e for own in metrics.findings for e in own.figures.values()]]
    return tag("div", drawn, first, footnotes(estimates), table(header, calls, caption))


def _curves(f: MultilabelFindings) -> Html | None:
    made = multilabel_plots.curves(f.metrics)
    if not made:
        return None
    note = "AUROC in each title. Shaded: 95% band, point by point. Dot: the threshold."
    return figure(svg_uri(made), "ROC curve of each finding with its AUROC.", note)


def _cases(f: MultilabelFindings) -> Html | None:
    if not f.cases:
        return None
    names = dict.fromkeys(case.predicted for case in f.cases)
    return case_section(RULE, [(name, [_case(c, f) for c in f.cases if c.predicted == name]) for name in names])


def _case(case: Case, f: MultilabelFindings) -> Html:
    finding = next(own for own in f.metrics.findings if own.name == case.predicted)
    verdict = tag("span", case.why[0].upper() + case.why[1:], class_="verdict")
    chance = f"{case.predicted} {100 * case.probabilities[case.predicted]:.0f}%, called from {finding.threshold:.3g} on"
    return article(case, [verdict, chance, f"Present: {case.label}"], f"with {case.label}")
