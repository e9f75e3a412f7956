"""The report: one HTML page without any other file, one JSON file, one CSV, one Markdown card.

Research only: not a medical device.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covidcxnet.evaluation import sections
from covidcxnet.evaluation.card import card
from covidcxnet.evaluation.closing import closing_sections
from covidcxnet.evaluation.findings import Evaluation, Findings
from covidcxnet.evaluation.markup import Html, tag
from covidcxnet.evaluation.overview import overview
from covidcxnet.evaluation.page import footer, page
from enhancement.files import whole_file

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
# In print these start a page of their own, so that a heading is not parted from its pictures.
_NEW_PAGE = frozenset({"curves", "cases", "settings"})


@dataclass(frozen=True)
class Report:
    """Where a report lies, and what is in it.

    Parameters
    ----------
    folder : Path
        Holds `report.html`, `metrics.json`, `predictions.csv` and `card.md`.
    findings : Findings or MultilabelFindings
        Everything they were made from.
    """

    folder: Path
    findings: Any

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    @property
    def metrics_path(self) -> Path:
        """The numbers."""
        return self.folder / "metrics.json"

    @property
    def card_path(self) -> Path:
        """The measured part of a model card, to be pasted."""
        return self.folder / "card.md"

    @property
    def predictions_path(self) -> Path:
        """The table, a row an image."""
        return self.folder / "predictions.csv"


def write_report(findings: Findings, folder: str | Path) -> Report:
    """Write the four files into `folder`, each whole or not at all; the page last."""
    return write_files(findings, folder, card(findings), render(findings))


def render(findings: Findings) -> str:
    """The page as text."""
    last = closing_sections(findings)
    made = {key: last[key] if key in last else getattr(sections, key)(findings) for key, _ in SECTIONS}
    return whole_page(findings, SECTIONS, made, overview)


def write_files(findings: Evaluation, folder: str | Path, card: str, page: str) -> Report:
    """Write a report whose card and page are made already."""
    report = Report(Path(folder), findings)
    numbers = json.dumps(findings.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    findings.everything.save(report.predictions_path)
    for path, text in ((report.metrics_path, numbers), (report.card_path, card), (report.path, page)):
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return report


def whole_page(
    findings: Evaluation,
    names: Sequence[tuple[str, str]],
    made: Mapping[str, Html | None],
    overview: Callable[[Any, list[tuple[str, str]]], Html],
) -> str:
    """A page of the sections that have something, under their `names` (id and title), below the first screen."""
    present = [(key, name) for key, name in names if made[key]]
    body = [overview(findings, present)]
    for key, name in present:
        body.append(tag("section", tag("h2", name), made[key], id=key, class_="page" if key in _NEW_PAGE else None))
    return page(findings.title, "".join([*body, footer(findings.created)]), "")
