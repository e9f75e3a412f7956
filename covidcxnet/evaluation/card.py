"""The measured part of a model card, in Markdown: data, figures, wrong predictions and the commands that make them.

A person adds what no program knows: what the weights are for, known failures as they look, what they must not be used
for. The part is complete in itself, so that it can be pasted whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covidcxnet.evaluation import tables
from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.evaluation.report import Report
from covidcxnet.reporting.pages import NOTICE
from covidcxnet.reporting.table import Table, count, with_interval

TO_WRITE = ("Purpose", "Known failures, as they look", "Must not be used for")


def card(r: Report) -> str:
    """Markdown that ends in a line break."""
    shown, lost = tables.all_tables(r, percent=False), () if r.exclusive else r.metrics.never_found
    versions = [f"{key} {r.environment[key]}" for key in ("python", "backend", "device") if r.environment.get(key)]
    blocks: list[str | Table | None] = [
        f"<!-- Measured by evaluate.py, {r.created}; replace as a whole. To be written by hand: "
        f"{'; '.join(TO_WRITE)}. -->",
        _about(r),
        "## Data",
        tables.licence_table(r) if r.exclusive else shown["split"],
        _evaluated(r),
        *[f"**{text}.**" for text in tables.counted(r)],
        f"{count(len(r.data.rejected), 'file')} could not be used." if len(r.data.rejected) else None,
        "## Results",
        f"Intervals: {tables.intervals(r)}. Decision: {tables.decision(r)}.",
        f"**Never found, and in the mean with an F1 of 0: {', '.join(lost)}.**" if lost else None,
        *(shown.get(name) for name in ("overall", "classes", "counts")),
        "### Internal, held-out and within-source figures" if r.sites else None,
        tables.single_source(r) or tables.source_alone(r),
        shown.get("sites"),
        "### By source" if "pooled" in shown else None,
        *(shown.get(name) for name in ("sources", "pooled")),
    ]
    if r.exclusive:
        blocks += ["## Calibration", shown["calibration"], "## Confusion matrix", shown["confusion"]]
        for m in r.metrics.missed:
            share = f"{m.missed:,} of {m.images:,}, {with_interval(m.rate, True)}"
            blocks.append(f"{r.called(m.name)} called {NORMAL}: {share}.")
        blocks += ["## Wrong predictions by kind", tables.mistakes_table(r) or "None.", _failed_lungs(r)]
    blocks += ["## How to make these figures again", "\n".join(["```bash", *r.commands, "```"])]
    blocks += ["; ".join(versions) + "."] if versions else []
    return "\n\n".join(b.markdown() if isinstance(b, Table) else b for b in blocks if b) + "\n"


def _about(r: Report) -> Table:
    """The weights file: hash, architecture, classes, input, training."""
    model = r.model
    file = f"`{model.weights.replace(chr(92), '/').rsplit('/', 1)[-1]}`"
    file += f", {model.size:,} bytes" if model.size else ""
    rows = [
        ["file", file + (f", SHA-256 `{model.sha256}`" if model.sha256 else "")],
        ["architecture", model.name + (f", {model.parameters:,} parameters" if model.parameters else "")],
        ["classes", ", ".join(r.metrics.classes)],
        ["input", _input(r.input_settings)],
        ["training", _training(model.training)],
        ["status", NOTICE],
    ]
    return Table(["", ""], [row for row in rows if row[1]])


def _evaluated(r: Report) -> str:
    """How many images of how many patients, and what of them training saw."""
    text, left = f"Evaluated: {tables.evaluated(r)}.", r.data.left_out
    if left is not None:
        text += (
            f" Left out: {left.images:,} that stand as train or validation in {', '.join(left.lists)}, and "
            f"{left.of_patients:,} more of their patients."
        )
    if r.data.overlap is None:
        return f"{text} Whether training saw some of them is not known."
    if r.data.overlap > 0:
        return f"{text} {r.data.overlap:,} of them were trained on: figures that count them are too high."
    return text


def _failed_lungs(r: Report) -> str | None:
    failed, p = r.failed_lungs, r.predictions
    if not len(failed):
        return None
    wrong = int((p.predicted != p.targets)[failed.index].sum())
    sought = f"{len(failed):,} of {count(r.data.lungs_sought, 'image')}"
    return f"Lung mask not trusted: {sought}; {wrong:,} of these {len(failed):,} were wrongly classified."


def _input(settings: Mapping[str, Any]) -> str:
    if not settings:
        return ""
    parts = [f"{settings.get('size')} x {settings.get('size')}", f"channels {', '.join(settings.get('channels', ()))}"]
    region = settings.get("region")
    whole = region in (None, "none")
    parts.append("whole image" if whole else f"lungs' {region}, found by {settings.get('segmenter')}")
    parts += [f"first brought down to {settings['resolution']} px"] if settings.get("resolution") else []
    parts += ["histogram matched"] if settings.get("histogram") else []
    return ", ".join(parts)


def _training(training: Mapping[str, Any]) -> str:
    names = ("epoch", "seed", "init", "batch_size", "learning_rate", "label_smoothing", "class_weights", "precision")
    parts = [f"{name.replace('_', ' ')} {training[name]}" for name in names if training.get(name) not in (None, "")]
    # Weights files of earlier versions may have been made in these two ways.
    if training.get("erase_shortcuts"):
        parts.append(f"{training['erase_shortcuts']} directions of the intensity probe erased")
    if training.get("average"):
        parts.append("mean of the weights of " + " and ".join(training["average"]))
    for part, by_class in (training.get("images") or {}).items():
        parts.append(f"{part}: " + ", ".join(f"{n:,} {label}" for label, n in by_class.items()))
    return "; ".join(parts)
