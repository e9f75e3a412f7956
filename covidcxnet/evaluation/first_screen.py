"""The first screen of any report, and the same in words for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.cautions import Caution
from covidcxnet.evaluation.facts import evaluated, part_name
from covidcxnet.evaluation.findings import Evaluation
from covidcxnet.evaluation.markup import Html, count, definitions, interval, number, tag
from covidcxnet.evaluation.page import NOTICE

Headline = Sequence[tuple[str, Estimate, bool]]
"""Name, figure and whether it is a percentage, of the figures that stand first."""

_MANY_CAUTIONS = 3  # more of them get a column of their own


def first_screen(
    f: Evaluation,
    links: Iterable[tuple[str, str]],
    *,
    notices: Sequence[Html | None] = (),
    figures: Sequence[Html | None] = (),
    facts: Html,
    split: Html,
) -> Html:
    """Title, notices, figures, then facts to the left and warnings to the right, the split wherever there is room.

    `links` are id and name of the sections below.
    """
    warnings = _warnings(f.cautions)
    if len(f.cautions) > _MANY_CAUTIONS:
        columns = tag("div", facts, split), tag("div", warnings)
    else:
        columns = facts, tag("div", warnings, split)
    images = f"{count(f.metrics.images, 'image')} ({part_name(f.data.split)})"
    when = f"Evaluation report, {f.created}. Figures of {images}, with 95% intervals."
    return tag(
        "div",
        tag(
            "header", tag("div", tag("h1", f.title), tag("p", when, class_="when")), tag("p", NOTICE, class_="research")
        ),
        list(notices),
        tag("main", list(figures), tag("div", *columns, class_="first")),
        tag("nav", [tag("a", name, href=f"#{key}") for key, name in links], aria_label="Sections"),
        id="overview",
    )


def tiles(headline: Headline, *more: tuple[str, str, str]) -> Html:
    """The figures that stand first with their intervals; `more` are name, value and what stands below it."""
    said = [
        (name, number(figure, percent), interval(figure, percent) or "no interval")
        for name, figure, percent in headline
    ]
    return definitions(
        [
            (name, [tag("span", value, class_="value"), tag("span", below, class_="interval")])
            for name, value, below in (*said, *more)
        ],
        class_="headline",
    )


def in_words(f: Evaluation, headline: Headline, lines: Iterable[str] = ()) -> str:
    """Title, headline, `lines`, warnings and notice as plain text."""
    said = [f"{f.title}: {evaluated(f)}"]
    for name, figure, percent in headline:
        between = interval(figure, percent)
        said.append(f"  {name:<26} {number(figure, percent):>8}" + (f"  ({between})" if between else ""))
    if len(rejected := f.data.rejected):
        path, reason = rejected[["path", "reason"]].iloc[0]
        said.append(f"  {count(len(rejected), 'file')} could not be used, the first {path} ({reason})")
    cautions = [f"  Caution: {c.title}. {c.text}" for c in f.cautions]
    return "\n".join([*said, *lines, *cautions, f"  {NOTICE}."])


def _warnings(cautions: Sequence[Caution]) -> Html | None:
    if not cautions:
        return None
    items = [tag("li", tag("strong", c.title + "."), " ", c.text) for c in cautions]
    title = tag("h2", "Before you believe a figure")
    return tag("section", title, tag("ul", items), class_="cautions", aria_label="Warnings")
