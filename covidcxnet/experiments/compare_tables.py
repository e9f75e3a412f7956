"""A comparison's table as HTML, Markdown and CSV, from the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.markup import Html, cell, count, footnotes, interval, number, tag
from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.experiments.compare_rows import Row


def classes_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Every class that some row has a figure of, "normal" first."""
    names = list(dict.fromkeys(name for row in rows for name in (*row.f1_by_class, *row.called_normal)))
    return tuple(sorted(names, key=lambda name: name != NORMAL))


def to_csv(rows: Sequence[Row]) -> str:
    """One line a row, fractions in 0..1."""
    classes = classes_of(rows)
    table = pd.DataFrame([row.flat(classes) for row in rows])
    whole = ("test_images", "parameters", "best_epoch", "epochs", "flops")
    for name in (*whole, *(f"{c}_{part}" for c in classes for part in ("called_normal", "images"))):
        table[name] = pd.array([pd.NA if v is None or v != v else int(v) for v in table[name]], dtype="Int64")
    return table.to_csv(index=False, float_format="%.6g")


def to_markdown(rows: Sequence[Row]) -> str:
    """Two tables: the figures, and F1 by class."""
    differs = any(row.difference is not None for row in rows)
    first = [_plain(row, differs) for row in rows]
    by_class = [[_name(row), *_class_figures(row, classes_of(rows))] for row in rows if row.f1_by_class]
    return "\n".join([
        *_markdown(_header(differs), first), "",
        *_markdown(["F1 by class", *classes_of(rows)], by_class),
    ])  # fmt: skip


def to_html(rows: Sequence[Row]) -> Html:
    """Figures of what was measured, then what was published, under a heading of its own."""
    differs = any(row.difference is not None for row in rows)
    header, classes = _header(differs), classes_of(rows)
    figures = _grouped(header, rows, lambda row: _cells(row, differs))
    told = [row for row in rows if row.f1_by_class]
    by_class = _grouped(["F1 by class", *classes], told, lambda row: _class_cells(row, classes))
    shown = [(r.f1, r.accuracy, r.auroc, *r.f1_by_class.values()) for r in rows if not r.published]
    estimates = [e for figures in shown for e in figures if e is not None]
    return tag("div", figures, by_class, footnotes([e for e in estimates if not math.isnan(e.value)]))


def large(value: float | None) -> str:
    """``7.05 M``, ``1.4 G``; a dash where unknown."""
    if value is None:
        return "–"
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:g}"


def _header(differs: bool) -> list[str]:
    return [
        "Run", "Test images", "F1, mean over classes", "Accuracy", "AUROC",
        *(["AUROC − first run's"] if differs else []),
        "Parameters", "FLOPs", "s / epoch", "Best epoch", f"Called {NORMAL}",
    ]  # fmt: skip


def _plain(row: Row, differs: bool) -> list[str]:
    difference = [_difference(row.difference)] if differs else []
    f1 = _said(row.f1) + (f"; F1 0: {', '.join(row.collapsed)}" if row.collapsed else "")
    return [
        _name(row), "–" if row.images is None else f"{row.images:,}", f1, _accuracy(row), _said(row.auroc),
        *difference, large(row.parameters), large(row.flops), _seconds(row), _epochs(row),
        "; ".join(_called(row)) or "–",
    ]  # fmt: skip


def _cells(row: Row, differs: bool) -> list:
    f1 = [_cell(row.f1), *[tag("span", f"F1 0: {name}", class_="alert") for name in row.collapsed]]
    return [
        "–" if row.images is None else f"{row.images:,}", f1, _accuracy_cell(row), _cell(row.auroc),
        *([_signed(row.difference)] if differs else []), large(row.parameters), large(row.flops), _seconds(row),
        _epochs(row), _called_cells(row) or "–",
    ]  # fmt: skip


def _class_cells(row: Row, classes: tuple[str, ...]) -> list:
    shown = []
    for name in classes:
        figure = row.f1_by_class.get(name)
        zero = figure is not None and figure.value == 0
        shown.append([_cell(figure), tag("span", "never called rightly", class_="alert") if zero else None])
    return shown


def _class_figures(row: Row, classes: tuple[str, ...]) -> list[str]:
    return [_said(row.f1_by_class.get(name)) for name in classes]


def _grouped(header: list[str], rows: Sequence[Row], cells) -> Html:
    head = tag("thead", tag("tr", [tag("th", text, scope="col") for text in header]))
    groups = []
    for published in (False, True):
        chosen = [row for row in rows if bool(row.published) == published]
        if not chosen:
            continue
        lines = [tag("tr", _row_head(row), [tag("td", c) for c in cells(row)]) for row in chosen]
        if published:
            title = tag(
                "th", "Published: printed in the papers, not measured here", scope="colgroup", colspan=len(header)
            )
            lines = [tag("tr", title, class_="divide"), *lines]
        groups.append(tag("tbody", lines, class_="published" if published else None))
    return tag("div", tag("table", head, groups, class_="comparison"), class_="scroll")


def _row_head(row: Row) -> Html:
    if not row.published:
        return tag("th", row.name, tag("span", row.model, class_="interval"), scope="row")
    return tag("th", row.name, tag("span", f"{row.published}, {row.source}", class_="interval"), scope="row")


def _name(row: Row) -> str:
    return f"{row.name} [published: {row.published}, {row.source}]" if row.published else row.name


def _cell(figure: Estimate | None, percent: bool = False) -> Html | str:
    return "–" if figure is None else cell(figure, percent)


def _said(figure: Estimate | None, percent: bool = False) -> str:
    if figure is None:
        return "–"
    between = interval(figure, percent)
    return number(figure, percent) + (f" ({between})" if between else "")


def _difference(figure: Estimate | None) -> str:
    if figure is None:
        return "–"
    between = "" if math.isnan(figure.low) else f" ({figure.low:+.3f} to {figure.high:+.3f})"
    return f"{figure.value:+.3f}{between}"


def _signed(figure: Estimate | None) -> Html | str:
    if figure is None:
        return "–"
    value, _, between = _difference(figure).partition(" ")
    return Html(tag("span", value, class_="value") + tag("span", between.strip("()"), class_="interval"))


def _seconds(row: Row) -> str:
    return "–" if row.seconds is None else f"{row.seconds:,.0f}" if row.seconds >= 10 else f"{row.seconds:.1f}"


def _epochs(row: Row) -> str:
    if row.best_epoch is None:
        return "–" if row.epochs is None else f"of {row.epochs}"
    return f"{row.best_epoch}" + (f" of {row.epochs}" if row.epochs else "")


def _called(row: Row) -> list[str]:
    """``covid19: 3 of 81 (3.7%)`` for each disease."""
    said = []
    for name, (missed, images) in row.called_normal.items():
        of = f" of {images:,} ({100 * missed / images:.1f}%)" if images else ""
        said.append(f"{name}: {missed:,}{of}")
    return said


def _called_cells(row: Row) -> list[Html]:
    made = []
    for name, (missed, images) in row.called_normal.items():
        of = f" of {images:,} ({100 * missed / images:.1f}%)" if images else ""
        made += [tag("span", f"{missed:,}{of}", class_="value"), tag("span", name, class_="interval")]
    return made


def _accuracy(row: Row) -> str:
    """A paper's spread over trainings is a range, no interval."""
    said = _said(row.accuracy, True)
    return said.replace("(", "(range ") if row.published else said


def _accuracy_cell(row: Row) -> Html | str:
    if not row.published or row.accuracy is None or math.isnan(row.accuracy.low):
        return _cell(row.accuracy, True)
    between = f"{100 * row.accuracy.low:.1f}–{100 * row.accuracy.high:.1f} range"
    return Html(tag("span", number(row.accuracy, True), class_="value") + tag("span", between, class_="interval"))


def published_notes(rows: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    """Name, source, split and note of each published row."""
    return [(row.name, f"{row.published}, {row.source}", row.split, row.note) for row in rows if row.published]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return ["| " + " | ".join(str(text).replace("|", "\\|") for text in line) + " |" for line in lines]


def tested(rows: Sequence[Row]) -> str:
    """``3 runs``, with the published rows counted apart."""
    measured = [row for row in rows if not row.published]
    rest = len(rows) - len(measured)
    return count(len(measured), "run") + (f" and {count(rest, 'published row')}" if rest else "")
