"""The page of a comparison, self-contained HTML, and the same without pictures as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covidcxnet.evaluation.markup import Html, figure, table, tag
from covidcxnet.evaluation.page import NOTICE, footer, page
from covidcxnet.evaluation.plots import svg_uri
from covidcxnet.experiments.compare_plots import roc_classes, svg
from covidcxnet.experiments.compare_tables import published_notes, tested, to_html, to_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from covidcxnet.experiments.compare import Comparison

STYLE = """
body { max-width: 86rem; }
table.comparison { font-size: .85rem; }
table.comparison th, table.comparison td { padding: .3rem .45rem; }
table.comparison tbody th, table.comparison thead th:first-child { padding-left: 0; min-width: 10rem; }
table.comparison tbody th .interval { display: block; font-weight: 400; font-size: .8rem; color: var(--soft);
  max-width: 26rem; }
table.comparison thead th { max-width: 7.5rem; }
tbody.published td, tbody.published th { background: var(--wash); }
tbody.published th { font-style: italic; padding-left: .5rem !important; }
tr.divide th { font-style: normal !important; padding-top: .8rem; border-bottom: 1.5px solid var(--ink); }
.alert { display: block; white-space: nowrap; color: var(--alert); font-weight: 650; font-size: .8rem; }
figure.wide img { width: 100%; max-width: 76rem; }
figure.single img { max-width: 40rem; width: 100%; }
@media print { table.comparison { font-size: 7pt; } table.comparison tbody th { min-width: 24mm; } }
"""
_HOW = (
    "95% intervals: bootstrap over patients (over images where patients are unknown). They say what other patients of "
    "the same kind might change, not what another training seed or another hospital would; covidcxnet sweep --repeats "
    "shows the former. A difference of AUROC is taken on the same resamples for both runs; where its interval holds 0, "
    "these test images do not tell the two apart."
)
_UNITS = (
    "FLOPs: for one stack, two for each multiply-add of convolutions and dense layers; many tables print half of it. "
    "Seconds per epoch: the median. Best epoch: the one whose weights are evaluated, of those trained."
)

_PRINTED = "Published rows, printed by their authors on other images and other splits, were not measured here:"


def render(found: Comparison, roc: Figure | None, learning: Figure | None) -> str:
    """The page as text."""
    body = tag(
        "main",
        tag("header",
            tag("div", tag("h1", _title(found)), tag("p", _when(found), class_="when")),
            tag("p", NOTICE, class_="research")),
        _phantom(found),
        _cautions(found),
        tag("h2", "Figures"),
        to_html(found.rows),
        tag("p", _HOW, class_="note"), tag("p", _UNITS, class_="note"),
        _pictures(found, roc, learning),
        _citations(found),
        _reported(found),
    )  # fmt: skip
    return page(_title(found), body + footer(found.created), STYLE)


def markdown(found: Comparison) -> str:
    """Warnings, tables and citations."""
    warned = [f"> **{c.title}.** {c.text}" for c in found.cautions]
    cited = [f"- {text}" for text in found.citations]
    notes = [f"- {name} ({where}): split {split}{f'; {note}' if note else ''}."
             for name, where, split, note in published_notes(found.rows)]  # fmt: skip
    return "\n".join([
        f"# {_title(found)}", "", f"{NOTICE}. {_when(found)}", "",
        *[line for text in warned for line in (text, ">")][:-1], *([""] if warned else []),
        to_markdown(found.rows), "", _HOW, "", _UNITS, "",
        *([_PRINTED, "", *cited, "", *notes, ""] if cited else []),
    ])  # fmt: skip


def _title(found: Comparison) -> str:
    return f"Comparison of {tested(found.rows)}"


def _when(found: Comparison) -> str:
    return f"Test images of each run, {found.created}."


def _phantom(found: Comparison) -> Html | None:
    phantoms = [entry.name for entry in found.entries if entry.report["data"].get("phantom")]
    if not phantoms:
        return None
    text = "of computed phantoms that show no patient; such figures say nothing about real radiographs."
    return tag("p", tag("strong", f"{', '.join(phantoms)}: {text}"), class_="phantom")


def _cautions(found: Comparison) -> Html | None:
    if not found.cautions:
        return None
    items = [tag("li", tag("strong", c.title + "."), " ", c.text) for c in found.cautions]
    title = tag("h2", "Before you compare")
    return tag("section", title, tag("ul", items), class_="cautions", aria_label="Warnings")


def _citations(found: Comparison) -> Html | None:
    if not found.citations:
        return None
    cited = tag("ul", [tag("li", text, class_="note") for text in found.citations])
    rows = [(name, where, split, note or "–") for name, where, split, note in published_notes(found.rows)]
    where_from = table(["Published row", "Stands in", "Split", "Note"], rows, class_="text")
    return tag("section", tag("h2", "Published rows"), tag("p", _PRINTED), cited, where_from)


def _pictures(found: Comparison, roc: Figure | None, learning: Figure | None) -> list[Html]:
    made = []
    if roc is not None:
        names = ", ".join(f"{row.name} {row.auroc.value:.3f}" for row in found.rows if row.auroc and not row.published)
        classes = roc_classes(found.entries)
        shape = "single" if len(classes) == 1 else "wide"
        uri = svg_uri(svg(roc))
        made += [tag("h2", "ROC curves"), figure(uri, f"ROC curves; AUROC: {names}.", None, shape)]
    if learning is not None:
        uri = svg_uri(svg(learning))
        alt = "Loss and figures of training and validation over epochs, of each run."
        note = (
            "Training figures are taken while the weights change, with augmentation and dropout, so they may lie below "
            "those of validation. A star marks the epoch whose weights were evaluated."
        )
        made += [tag("h2", "Learning curves"), figure(uri, alt, note, "wide")]
    return made


def _reported(found: Comparison) -> Html | None:
    """What the runs' own reports warn of."""
    if not found.reported:
        return None
    items = [tag("li", tag("strong", f"{', '.join(names)}: "), text) for text, names in found.reported]
    return tag("section", tag("h2", "What the runs' own reports warn of"), tag("ul", items))
