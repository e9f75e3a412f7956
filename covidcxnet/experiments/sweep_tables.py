"""A sweep as tables: a row a cell with means and t intervals, a row a training; CSV, Markdown and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.markup import Html, interval, number, table, tag
from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.experiments.grid import text_of
from covidcxnet.experiments.outcome import TEST, VALIDATION, Cell, cells_of

if TYPE_CHECKING:
    from covidcxnet.experiments.sweep import Sweep


def shown(found: Sweep) -> list[tuple[str, str]]:
    """Names and titles of the figures that some training has: the validation AUROC, then those of the test."""
    names = [*VALIDATION[-1:], *TEST] if found.tested else list(VALIDATION)
    have = {name for outcome in found.outcomes for name in outcome.figures}
    return [(name, title) for name, title in names if name in have]


def to_csv(found: Sweep) -> str:
    """One line a cell: mean, standard deviation and interval of each figure."""
    lines = []
    for group in cells_of(found.outcomes):
        line: dict[str, Any] = {key: text_of(value) for key, value in group.values.items()}
        line |= {"repeats": len(group.outcomes), "finished": len(group.finished)}
        for name, _ in (*VALIDATION, *TEST, ("best_epoch", ""), ("seconds", "")):
            values, figure = group.values_of(name), group.figure(name)
            if not len(values):
                continue
            line[name] = figure.value
            if name not in ("best_epoch", "seconds"):
                spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
                line |= {f"{name}_sd": spread, f"{name}_low": figure.low, f"{name}_high": figure.high}
        for name, (missed, images) in group.called_normal.items():
            line |= {f"{name}_called_normal": missed, f"{name}_images": images}
        lines.append(line | {"notes": "; ".join(group.notes)})
    return pd.DataFrame(lines).to_csv(index=False, float_format="%.6g")


def runs_csv(found: Sweep) -> str:
    """One line a training."""
    lines = []
    for outcome in found.outcomes:
        trial = outcome.trial
        line: dict[str, Any] = {key: text_of(value) for key, value in trial.values.items()}
        line |= {"seed": trial.seed, "run": trial.folder.relative_to(found.folder).as_posix()}
        for name, figure in outcome.figures.items():
            line[name] = figure.value
            if not math.isnan(figure.low):
                line |= {f"{name}_low": figure.low, f"{name}_high": figure.high}
        for name, (missed, images) in outcome.called_normal.items():
            line |= {f"{name}_called_normal": missed, f"{name}_images": images}
        line |= {"zero_f1_classes": ";".join(outcome.collapsed), "failed": outcome.reason}
        lines.append(line)
    return pd.DataFrame(lines).to_csv(index=False, float_format="%.6g")


def to_markdown(found: Sweep) -> str:
    """One row a cell."""
    figures = shown(found)
    rows = [_header(found, figures), ["---", *["---:"] * (len(_header(found, figures)) - 1)]]
    for group in cells_of(found.outcomes):
        rows.append([
            *_values(found, group), _count(group), *[_said(group.figure(name)) for name, _ in figures], *_facts(group),
            "; ".join(_called(group)) or "–", "; ".join(group.notes),
        ])  # fmt: skip
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)


def to_html(found: Sweep) -> Html:
    """One row a cell."""
    figures = shown(found)
    rows = []
    for group in cells_of(found.outcomes):
        called = [tag("span", line, class_="value") for line in _called(group)] or "–"
        notes = [tag("span", note, class_="alert") for note in group.notes]
        shapes = [_cell(group.figure(name)) for name, _ in figures]
        rows.append([*_values(found, group), _count(group), *shapes, *_facts(group), called, notes])
    return table(_header(found, figures), rows, class_="comparison")


def _header(found: Sweep, figures: Sequence[tuple[str, str]]) -> list[str]:
    keys = list(found.keys) or ["recipe"]
    return [*keys, "Trainings", *[title for _, title in figures], "Best epoch", "s / epoch", f"Called {NORMAL}", ""]


def _values(found: Sweep, group: Cell) -> list[str]:
    return [text_of(group.values[key]) for key in found.keys] or ["as it is"]


def _count(group: Cell) -> str:
    done, planned = len(group.finished), len(group.outcomes)
    return str(done) if done == planned else f"{done} of {planned}"


def _facts(group: Cell) -> list[str]:
    epoch, seconds = group.values_of("best_epoch"), group.values_of("seconds")
    return [f"{epoch.mean():.3g}" if len(epoch) else "–", f"{seconds.mean():.3g}" if len(seconds) else "–"]


def _called(group: Cell) -> list[str]:
    return [f"{name}: {missed:.3g} of {images:,}" for name, (missed, images) in group.called_normal.items()]


def _cell(figure: Estimate) -> Html:
    """Like `markup.cell`, without its daggers, which speak of resamples."""
    between = interval(figure)
    parts = [tag("span", number(figure), class_="value"), tag("span", between, class_="interval") if between else None]
    return tag("span", *parts)


def _said(figure: Estimate) -> str:
    between = interval(figure)
    return number(figure) + (f" ({between})" if between else "")
