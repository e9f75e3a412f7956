"""HTML as values: everything is escaped unless it is already `Html`."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from covidcxnet.reporting.table import Estimate, Html

VOID = frozenset({"img", "br", "hr", "meta"})


def escape(content: Any) -> Html:
    """`content` as HTML; None becomes nothing, a sequence is joined."""
    if isinstance(content, Html):
        return content
    if content is None:
        return Html("")
    if isinstance(content, (list, tuple)):
        return Html("".join(escape(part) for part in content))
    return Html(html.escape(str(content)))


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """``<name attributes>children</name>``; a trailing underscore of an attribute is dropped (``class_``)."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{escape(children)}</{name}>")


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], caption: Any = None, class_: str | None = None) -> Html:
    """A table whose first column names its rows; a short one is kept on one page in print."""
    rows = list(rows)
    head = tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in header]))
    body = tag(
        "tbody", [tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]]) for row in rows]
    )
    made = tag("table", tag("caption", caption) if caption else None, head, body, class_=class_)
    return tag("div", made, class_="scroll keep" if len(rows) <= 15 else "scroll")


def figure(source: str, alt: str, caption: Any = None, class_: str | None = None) -> Html:
    """A picture with its text for those who don't see it."""
    picture = tag("img", src=source, alt=alt)
    return tag("figure", picture, tag("figcaption", caption) if caption else None, class_=class_)


def definitions(pairs: Iterable[tuple[Any, Any]], class_: str | None = None) -> Html:
    """A definition list; pairs with an empty definition are left out."""
    return tag("dl", [tag("div", tag("dt", k), tag("dd", v)) for k, v in pairs if v not in (None, "")], class_=class_)


def number(estimate: Estimate, percent: bool = False) -> str:
    """``0.941`` or ``94.1%``; ``undefined`` where it is."""
    if math.isnan(estimate.value):
        return "undefined"
    return f"{100 * estimate.value:.1f}%" if percent else f"{estimate.value:.3f}"


def interval(estimate: Estimate, percent: bool = False) -> str:
    """``0.912 to 0.968`` or ``91.2 to 96.8%``; empty where there is none."""
    if math.isnan(estimate.low):
        return ""
    return f"{_low_to_high(estimate, percent, ' to ')}{'%' if percent else ''}"


def cell(estimate: Estimate, percent: bool = False) -> Html:
    """Figure over its interval, for a table; a dagger where resamples had to be left out."""
    mark = tag("sup", "†", title=f"undefined in {estimate.undefined} resamples") if _partly(estimate) else None
    if estimate.low == estimate.high and not mark:
        mark = tag("sup", "‡", title="no spread among resamples")
    # a dash before a minus sign reads as two
    dash = " to " if min(estimate.low, estimate.high) < 0 else "–"
    between = "" if math.isnan(estimate.low) else _low_to_high(estimate, percent, dash)
    return Html(
        tag("span", number(estimate, percent), mark, class_="value")
        + (tag("span", between, class_="interval") if between else "")
    )


def number_only(value: float) -> Html:
    """A figure that has no interval by its nature."""
    return tag("span", "undefined" if math.isnan(value) else f"{value:.3f}", class_="value")


def footnotes(estimates: Iterable[Estimate]) -> Html | None:
    """What the daggers of `cell` point to."""
    estimates = list(estimates)
    notes = []
    worst = max((e.undefined for e in estimates if _partly(e)), default=0)
    if worst:
        resamples = max(e.resamples for e in estimates)
        notes.append(
            f"† Undefined in some resamples (at most {worst:,} of {resamples:,}), which its interval leaves out."
        )
    if any(e.low == e.high and not _partly(e) for e in estimates):
        notes.append("‡ The same in every resample, which does not make it certain: see 95% interval in the glossary.")
    return Html("".join(tag("p", note, class_="note") for note in notes)) if notes else None


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _low_to_high(estimate: Estimate, percent: bool, between: str) -> str:
    scale, digits = (100, 1) if percent else (1, 3)
    return f"{scale * estimate.low:.{digits}f}{between}{scale * estimate.high:.{digits}f}"


def _partly(estimate: Estimate) -> bool:
    return estimate.undefined > 0 and not math.isnan(estimate.low)
