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

from covidcxnet.reporting.table import Html, count, markdown_text

NOTICE = "Research only: not a medical device"


@cache
def environment() -> Environment:
    """Templates of every package; what they print is escaped unless it is `Html`."""
    templates = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        # A name that a page lacks is an error, not an empty place.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = Html(_source("report.css") or "")
    templates.globals |= {"NOTICE": NOTICE, "version": generator(), "stylesheet": style, "count": count}
    templates.filters["md"] = markdown_text
    return templates


def render(template_name: str, **context: Any) -> str:
    """The text of a page from ``evaluation/report.html``, say, which lies in ``covidcxnet/evaluation/templates/``."""
    return environment().get_template(template_name).render(context)


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
