"""The page about shortcuts in a data set: warnings, what can be told, tables; and the same as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from covidcxnet.datasets.bias import Bias
from covidcxnet.datasets.shortcuts import FEATURES, FEWEST
from covidcxnet.evaluation.markup import Html, count, table, tag
from covidcxnet.evaluation.page import page
from enhancement.files import whole_file

_ABOUT = (
    "Balanced accuracy of a linear classifier on simple image statistics, cross-validated with all images of a patient "
    "on one side. Near chance is good; what such a probe can tell, a network can learn in place of disease. Disease "
    "changes grey levels and sharpness too: a high figure for a label is a warning, for the source a fact."
)


def render(found: Bias) -> str:
    """The page, self-contained HTML."""
    kinds = list(FEATURES)
    rows = [
        [
            f"{p.target}: {', '.join(p.values)}",
            f"{p.accuracy:.2f}",
            f"{p.chance:.2f}",
            f"{p.images:,}",
            *(f"{p.alone[k]:.2f}" for k in kinds),
        ]
        for p in found.probes
    ]
    title = f"Shortcuts in {found.name}"
    seen = f"{count(found.images, 'image')} measured, {found.unreadable:,} could not be read."
    body = tag(
        "main",
        tag("header", tag("h1", title)),
        tag("p", seen, class_="when"),
        _warned(found),
        tag("h2", "What can be told"),
        tag("p", _ABOUT),
        table(["told", "accuracy", "chance", "images", *(f"{k} alone" for k in kinds)], rows) if rows else None,
        _left_out(found),
        None if rows else tag("p", "Too few images, or too few values, to probe anything."),
        [_counts(name, counts) for name, counts in found.tables.items()],
    )
    return page(title, body)


def _left_out(found: Bias) -> Html | None:
    said = [f"{p.target} without {', '.join(p.left_out)}" for p in found.probes if p.left_out]
    text = f"Left out, with fewer than {FEWEST} images or too few patients: {'; '.join(said)}."
    return tag("p", text, class_="note") if said else None


def save(found: Bias, path: str | Path) -> Path:
    """Write the page and, beside it, the same as ``.json``."""
    path = Path(path)
    for target, text in ((path, render(found)), (path.with_suffix(".json"), json.dumps(found.to_dict(), indent=1))):
        with whole_file(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path


def _warned(found: Bias) -> Html | None:
    if not found.warnings:
        return None
    return tag("section", tag("h2", "Be wary"), tag("ul", [tag("li", w) for w in found.warnings]), class_="cautions")


def _counts(name: str, counts) -> list[Html]:
    rows = [[label, *(f"{n:,}" for n in row)] for label, row in zip(counts.index, counts.to_numpy(), strict=True)]
    return [tag("h2", f"Label by {name}"), table(["label", *counts.columns], rows)]
