"""Cases in a report: an image, what was said of it, and where the network looked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from covidcxnet.evaluation.cases import Case
from covidcxnet.evaluation.markup import Html, figure, tag

_INTRO = (
    "A heatmap shows where the network looked, not whether it was right to. A map outside the lungs (a letter, "
    "a border, the diaphragm) is a reason to doubt the score."
)


def case_section(rule: str, groups: Iterable[tuple[str, Sequence[Html]]]) -> Html:
    """Groups of articles under their titles, empty ones left out; `rule` says how the images were picked."""
    made: list[Html] = [tag("p", _INTRO), tag("p", rule, class_="note")]
    for title, articles in groups:
        if articles:
            made += [tag("h3", title), tag("div", articles, class_="cases")]
    return tag("div", made)


def article(case: Case, lines: Sequence[Any], shows: str) -> Html:
    """One case: paragraphs about it, its path, its pictures; `shows` is what its radiograph is one of."""
    head = tag(
        "header",
        [tag("p", line) for line in lines if line],
        tag("p", case.path, class_="mono note"),
        tag("p", case.lungs, class_="note") if case.lungs else None,
    )
    outlined = " with the outline of the lungs" if case.outlined else ""
    pictures = [figure(case.radiograph, f"Radiograph {shows}{outlined}.", f"Radiograph{outlined}")]
    if case.gradcam:
        alt = f"The radiograph with Grad-CAM for {case.predicted} over it."
        said = f": {case.heat}" if case.heat else ""
        pictures.append(figure(case.gradcam, alt, f"Grad-CAM for {case.predicted}{said}"))
    if case.lime:
        alt = f"The radiograph with LIME for {case.predicted} over it."
        legend = (
            f"LIME for {case.predicted}. Blue, +: shown, it raises the probability. Orange, −: it lowers it. {case.fit}"
        )
        pictures.append(figure(case.lime, alt, legend, class_="below"))
    shown = tag("div", pictures, class_="pictures")
    return tag("article", head, shown, class_="case" if case.correct else "case wrong")
