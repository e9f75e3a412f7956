"""The measured part of a model card, in Markdown: data, figures, wrong predictions and the commands that make them.

A person adds what no program knows: what the weights are for, known failures as they look, what they must not be used
for. The part is complete in itself, so that it can be pasted whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from covidcxnet.evaluation import tables
from covidcxnet.evaluation.report import Report
from covidcxnet.reporting.pages import NOTICE, render
from covidcxnet.reporting.table import Table, with_interval


def card(r: Report) -> str:
    """Markdown that ends in a line break."""
    model, failed = r.model, r.failed_lungs
    file = f"`{model.weights.replace(chr(92), '/').rsplit('/', 1)[-1]}`"
    file += f", {model.size:,} bytes" if model.size else ""
    about = [
        ["file", file + (f", SHA-256 `{model.sha256}`" if model.sha256 else "")],
        ["architecture", model.name + (f", {model.parameters:,} parameters" if model.parameters else "")],
        ["classes", ", ".join(r.metrics.classes)],
        ["input", _input(r.input_settings)],
        ["training", _training(model.training)],
        ["computed by", tables.computed(r)],
        ["status", NOTICE],
    ]
    wrong = (r.predictions.predicted != r.predictions.targets)[failed.index].sum()
    text = render(
        "evaluation/card.md",
        r=r,
        words=tables,
        tables=tables.all_tables(r, percent=False),
        about=Table(["", ""], [row for row in about if row[1]]),
        licences=tables.licence_table(r) if r.exclusive else None,
        mistakes=tables.mistakes_table(r) if r.exclusive else None,
        missed=[
            (r.called(m.name), f"{m.missed:,} of {m.images:,}", with_interval(m.rate, True)) for m in r.metrics.missed
        ],
        failed=len(failed),
        wrong=int(wrong),
        versions=[f"{key} {r.environment[key]}" for key in ("python", "backend", "device") if r.environment.get(key)],
    )
    # A block that does not apply leaves its place empty.
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _input(settings: Mapping[str, Any]) -> str:
    if not settings:
        return ""
    parts = [f"{settings.get('size')} x {settings.get('size')}", f"channels {', '.join(settings.get('channels', ()))}"]
    region = settings.get("region")
    whole = region in (None, "none")
    parts.append("whole image" if whole else f"lungs' {region}, found by {settings.get('segmenter')}")
    parts += [f"first reduced to {settings['resolution']} px"] if settings.get("resolution") else []
    parts += ["histogram matched"] if settings.get("histogram") else []
    return ", ".join(parts)


def _training(training: Mapping[str, Any]) -> str:
    names = (
        *("epoch", "seed", "init", "teacher", "batch_size", "learning_rate"),
        *("label_smoothing", "class_weights", "precision"),
    )
    parts = [f"{name.replace('_', ' ')} {training[name]}" for name in names if training.get(name) not in (None, "")]
    # Weights files of earlier versions may have been made in these two ways.
    if training.get("erase_shortcuts"):
        parts.append(f"{training['erase_shortcuts']} directions of the intensity probe erased")
    if training.get("average"):
        parts.append("mean of the weights of " + " and ".join(training["average"]))
    for part, by_class in (training.get("images") or {}).items():
        parts.append(f"{part}: " + ", ".join(f"{n:,} {label}" for label, n in by_class.items()))
    return "; ".join(parts)
