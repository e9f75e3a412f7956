"""The HTML page around a report's body."""

from __future__ import annotations

from covidcxnet.reporting import pages
from covidcxnet.reporting.pages import NOTICE, footer
from covidcxnet.reporting.table import Html

__all__ = ["NOTICE", "footer", "page"]


def page(title: str, body: str, style: str = "") -> str:
    """A whole page from its title and body; `style` is added to that of the reports."""
    return pages.page(title, Html(body), style)
