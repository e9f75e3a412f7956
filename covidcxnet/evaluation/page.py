"""The HTML page around a report's body: one file with its style inside, and the notice that all of them carry."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from covidcxnet import __version__
from covidcxnet.evaluation.markup import Html, escape, tag

NOTICE = "Research only: not a medical device"


def page(title: str, body: str, style: str = "") -> str:
    """A whole page from its title and body; `style` is added to that of the reports."""
    package = files("covidcxnet.evaluation")
    template = Template(package.joinpath("page.html").read_text(encoding="utf-8"))
    report = package.joinpath("report.css").read_text(encoding="utf-8")
    return template.substitute(
        title=escape(title), generator=f"covidcxnet {__version__}", style=report + style, body=body
    )


def footer(created: str) -> Html:
    """The last line: the notice, and what made the page when."""
    return tag("footer", f"{NOTICE}. Made by covidcxnet {__version__}, {created}.")
