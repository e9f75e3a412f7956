"""The report: one HTML page without any other file, one JSON file, one CSV, one Markdown card.

Research only: not a medical device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from covidcxnet import __version__
from covidcxnet.evaluation import sections
from covidcxnet.evaluation.card import card
from covidcxnet.evaluation.findings import Findings
from covidcxnet.evaluation.markup import Html, tag
from covidcxnet.evaluation.overview import NOTICE, SECTIONS, overview
from enhancement.files import whole_file


@dataclass(frozen=True)
class Report:
    """Where a report lies, and what is in it.

    Parameters
    ----------
    folder : Path
        Holds `report.html`, `metrics.json`, `predictions.csv` and `card.md`.
    findings : Findings
        Everything they were made from.
    """

    folder: Path
    findings: Findings

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
    report = Report(Path(folder), findings)
    findings.everything.save(report.predictions_path)
    with whole_file(report.metrics_path) as partial:
        text = json.dumps(findings.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
    with whole_file(report.card_path) as partial:
        partial.write_text(card(findings), encoding="utf-8")
    with whole_file(report.path) as partial:
        partial.write_text(render(findings), encoding="utf-8")
    return report


def render(findings: Findings) -> str:
    """The page as text."""
    made = {key: getattr(sections, key)(findings) for key, _ in SECTIONS}
    present = [key for key, content in made.items() if content]
    body = overview(findings, present) + "".join(_section(key, made[key]) for key in present)
    return page(findings.title, body, findings.created)


def page(title: str, body: str, created: str) -> str:
    """A whole page from its title and body; when it was made stands at its foot."""
    body += tag("footer", f"{NOTICE}. Made by covidcxnet {__version__}, {created}.")
    package = files("covidcxnet.evaluation")
    template = Template(package.joinpath("page.html").read_text(encoding="utf-8"))
    style = package.joinpath("report.css").read_text(encoding="utf-8")
    said = tag("title", title)[len("<title>") : -len("</title>")]
    return template.substitute(title=said, generator=f"covidcxnet {__version__}", style=style, body=body)


# In print these start a page of their own, so that a heading is not parted from its pictures.
_NEW_PAGE = frozenset({"curves", "cases", "settings"})


def _section(key: str, content: Html) -> Html:
    name = dict(SECTIONS)[key]
    return tag("section", tag("h2", name), content, id=key, class_="page" if key in _NEW_PAGE else None)
