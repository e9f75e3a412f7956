"""HTML pages from Jinja2 templates: one shell, one stylesheet and the notice that all pages carry.

A template is named ``package/file.html`` after a package of covidcxnet that has a folder ``templates``; without a
package it is one of this folder. Pages extend ``page.html`` and import their building blocks from ``macros.html``.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from covidcxnet.reporting.table import Html, count, interval, large, number, with_interval

NOTICE = "Research only: not a medical device"


@cache
def environment() -> Environment:
    """Templates of every package; what they print is escaped unless it is `Html`."""
    made = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {"NOTICE": NOTICE, "version": generator(), "stylesheet": stylesheet}
    made.globals |= {"count": count, "number": number, "interval": interval, "with_interval": with_interval}
    made.globals |= {"large": large}
    return made


def render(template_name: str, **context: Any) -> str:
    """The text of a page.

    Parameters
    ----------
    template_name : str
        ``evaluation/report.html`` lies in ``covidcxnet/evaluation/templates/``, ``page.html`` in that of this package.
    **context
        What the template names. `title` is asked for by the shell.
    """
    return environment().get_template(template_name).render(context)


def page(title: str, body: Html, style: str = "") -> str:
    """A whole page around a body that is HTML already; `style` is added to the stylesheet."""
    return render("body.html", title=title, body=body, style=style)


def footer(created: str) -> Html:
    """The last line: the notice, and what made the page when."""
    return Html("<footer>{}. Made by covidcxnet {}, {}.</footer>").format(NOTICE, generator(), created)


def stylesheet() -> Html:
    """The style of every page."""
    return Html(files("covidcxnet.reporting").joinpath("templates", "report.css").read_text(encoding="utf-8"))


@cache
def generator() -> str:
    """Version of covidcxnet; ``unknown`` where the package is not installed."""
    try:
        return version("covidcxnet")
    except PackageNotFoundError:
        return "unknown"


def _source(name: str) -> str | None:
    package, _, file = name.rpartition("/")
    template = files("covidcxnet").joinpath(package or "reporting", "templates", file)
    return template.read_text(encoding="utf-8") if template.is_file() else None
