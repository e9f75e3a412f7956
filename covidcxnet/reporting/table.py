"""Figures with their intervals, and the one table that pages, cards, terminals and CSV files are written with."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from enhancement.csv_cells import csv_cell
from enhancement.errors import one_line, printable

if TYPE_CHECKING:
    import pandas as pd

Html = Markup  # text that is HTML already and is not escaped again
DASH = "–"  # what stands for a value that was not measured
_SHORT = 15  # rows of a table that print keeps on one page


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, from resamples of the data or otherwise."""

    value: float  # on the data as they are; NaN where it is undefined
    low: float = math.nan  # interval, see `evaluation.bootstrap`; NaN: none
    high: float = math.nan
    undefined: int = 0  # resamples left out of the interval, such as those in which a class was not drawn
    resamples: int = 0  # 0 for an interval that does not come from resampling

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        plain = [None if math.isnan(part) else float(part) for part in (self.value, self.low, self.high)]
        return dict(zip(("value", "low", "high"), plain, strict=True)) | {"undefined_resamples": self.undefined}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None, resamples: int = 0) -> Estimate:
        """The opposite of `to_dict`; None and an empty mapping give an undefined figure."""
        values = values or {}
        value, low, high = (math.nan if values.get(k) is None else float(values[k]) for k in ("value", "low", "high"))
        return cls(value, low, high, values.get("undefined_resamples", 0), resamples)


@dataclass(frozen=True)
class Share:
    """A part of a whole: ``3 of 81 (3.7%)``."""

    count: float
    total: int | None  # None where it is not known

    def __str__(self) -> str:
        # counts are means, and so have decimals, where trainings are averaged
        count = f"{self.count:,}" if isinstance(self.count, int) else f"{self.count:.3g}"
        return f"{count} of {self.total:,} ({100 * self.count / self.total:.1f}%)" if self.total else count


@dataclass(frozen=True)
class Cell:
    """A value that is written otherwise than by default, or that has more to say."""

    value: Any  # str, int, float, None, Estimate, Share or Html
    percent: bool = False  # 94.1%
    signed: bool = False  # always with its sign
    spread: bool = False  # the interval is a range of single values, as papers print it
    faint: bool = False  # gray, in plain text in brackets: too little stands behind it
    below: Sequence[str] = ()  # small print
    alert: Sequence[str] = ()  # warnings


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows."""

    header: Sequence[Any]  # titles of the columns
    # Sequences of cells (str, int, float, None, `Estimate`, `Share`, `Html` or `Cell`), or str: titles of those below.
    rows: Sequence[Any]
    caption: str = ""  # above the table
    note: str = ""  # below it
    class_: str = ""  # of the HTML table

    def html(self) -> Html:
        """The table with its footnotes; a short one is kept on one page in print."""
        head = Html("").join(Html('<th scope="col">{}</th>').format(_cell_html(_cell(c))) for c in self.header)
        bodies: list[list[Html]] = [[]]
        for row in self.rows:
            if isinstance(row, str):
                title = Html('<tr class="divide"><th scope="colgroup" colspan="{}">{}</th></tr>')
                bodies.append([title.format(len(self.header), row)])
                continue
            first, *others = (_cell_html(_cell(c)) for c in row)
            cells = Html("").join(Html("<td>{}</td>").format(c) for c in others)
            bodies[-1].append(Html('<tr><th scope="row">{}</th>{}</tr>').format(first, cells))
        parts = [Html("<caption>{}</caption>").format(self.caption)] if self.caption else []
        parts.append(Html("<thead><tr>{}</tr></thead>").format(head))
        for k, lines in (pair for pair in enumerate(bodies) if pair[1]):
            opening = Html('<tbody class="divided">' if k else "<tbody>")
            parts.append(opening + Html("").join(lines) + Html("</tbody>"))
        named = Html(' class="{}"').format(self.class_) if self.class_ else ""
        keep = "scroll keep" if len(self.rows) <= _SHORT else "scroll"
        values = [_cell(c).value for row in self.rows if not isinstance(row, str) for c in row]
        notes = [*footnotes(v for v in values if isinstance(v, Estimate)), *([self.note] if self.note else [])]
        table = Html('<div class="{}"><table{}>{}</table></div>').format(keep, named, Html("").join(parts))
        return table + Html("").join(Html('<p class="note">{}</p>').format(note) for note in notes)

    def markdown(self) -> str:
        """Lines of a pipe table, the caption above and the note below it."""
        width = len(self.header)
        lines = [self._pipes(self.header), "| " + " | ".join(["---", *["---:"] * (width - 1)]) + " |"]
        for row in self.rows:
            lines.append(self._pipes([f"**{row}**", *[""] * (width - 1)] if isinstance(row, str) else row))
        return "\n\n".join(filter(None, (self.caption, "\n".join(lines), self.note)))

    def text(self, indent: int = 0) -> str:
        """Columns for a terminal: text to the left, columns with numbers to the right."""
        rows, numeric = [row for row in self.rows if not isinstance(row, str)], int | float | Estimate | Share
        right = [any(isinstance(_cell(row[k]).value, numeric) for row in rows) for k in range(len(self.header))]
        # a source may have any name, and a line break or tab in it would garble the columns
        lines = [
            row if isinstance(row, str) else [printable(_text(_cell(c))) for c in row]
            for row in (self.header, *self.rows)
        ]
        cells = [line for line in lines if not isinstance(line, str)]
        widths = [max((len(line[k]) for line in cells if k < len(line)), default=0) for k in range(len(self.header))]
        shown = []
        for line in filter(any, lines):
            if not isinstance(line, str):
                pairs = zip(line, widths, right, strict=True)
                line = "  ".join(c.rjust(width) if to else c.ljust(width) for c, width, to in pairs).rstrip()
            shown.append(line)
        return "\n".join(" " * indent + line for line in (self.caption, *shown, self.note) if line)

    def csv(self) -> str:
        """Plain numbers under the header; a column with estimates becomes three: ``name, name_low, name_high``."""
        rows = [[_cell(c).value for c in row] for row in self.rows if not isinstance(row, str)]
        columns: list[list[Any]] = []
        for k, title in enumerate(self.header):
            name, values = str(_cell(title).value), [row[k] for row in rows]
            if any(isinstance(value, Estimate) for value in values):
                whole = [v if isinstance(v, Estimate) else Estimate(math.nan if v is None else v) for v in values]
                columns += [[name, *(e.value for e in whole)], [f"{name}_low", *(e.low for e in whole)]]
                columns.append([f"{name}_high", *(e.high for e in whole)])
            else:
                columns.append([name, *values])
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([map(_bare, line) for line in zip(*columns, strict=True)])
        return stream.getvalue()

    def _pipes(self, row: Sequence[Any]) -> str:
        cells = [markdown_text(_text(_cell(c))).replace("|", "\\|") for c in row]
        return "| " + " | ".join(cells) + " |"


def number(value: Estimate | float, percent: bool = False, signed: bool = False) -> str:
    """``0.941``, ``94.1%`` or ``+0.012``; ``undefined`` where it is."""
    value = value.value if isinstance(value, Estimate) else value
    if math.isnan(value):
        return "undefined"
    plus = "+" if signed else ""
    return f"{100 * value:{plus}.1f}%" if percent else f"{value:{plus}.3f}"


def interval(estimate: Estimate, percent: bool = False, signed: bool = False, between: str = " to ") -> str:
    """``0.912 to 0.968`` or ``91.2 to 96.8%``; empty where there is none."""
    low, high = (number(part, percent, signed) for part in (estimate.low, estimate.high))
    return "" if math.isnan(estimate.low) else f"{low.rstrip('%')}{between}{high}"


def with_interval(estimate: Estimate | None, percent: bool = False, signed: bool = False) -> str:
    """``0.941 (0.912 to 0.968)``; a dash for what was not measured."""
    if estimate is None:
        return DASH
    between = interval(estimate, percent, signed)
    return number(estimate, percent, signed) + (f" ({between})" if between else "")


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def large(value: float | None) -> str:
    """``7.05 M``, ``1.4 G``; a dash where unknown."""
    if value is None:
        return DASH
    scale, unit = next((pair for pair in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if value >= pair[0]), (1, ""))
    return f"{value / scale:.3g}{unit}" if unit else f"{value:g}"


def footnotes(estimates: Iterable[Estimate]) -> list[str]:
    """What the daggers beside figures in HTML point to."""
    estimates, notes = list(estimates), []
    if partial := [e.undefined for e in estimates if _mark(e) == "†"]:
        of = f"at most {max(partial):,} of {max(e.resamples for e in estimates):,}"
        notes.append(f"† Undefined in some resamples ({of}); its interval omits them.")
    if any(_mark(e) == "‡" for e in estimates):
        notes.append("‡ The same in every resample. This does not make it certain: see 95% interval in the glossary.")
    return notes


def _mark(estimate: Estimate) -> str:
    if estimate.undefined > 0 and not math.isnan(estimate.low):
        return "†"
    # an interval over repeats of a training, or from a paper, has no resamples and nothing to remark on
    agree = estimate.undefined < estimate.resamples and not math.isnan(estimate.value)
    # reports of earlier versions have an interval without width
    return "‡" if agree and (math.isnan(estimate.low) or estimate.low == estimate.high) else ""


def _cell(content: Any) -> Cell:
    return content if isinstance(content, Cell) else Cell(content)


def _cell_html(cell: Cell) -> Html:
    value, lines = cell.value, list(cell.below)
    if isinstance(value, Estimate):
        mark = _mark(value)
        # a dash before a minus sign reads as two
        dash = " to " if cell.signed or min(value.low, value.high) < 0 else DASH
        between = interval(value, cell.percent, cell.signed, dash)
        if between:
            lines.insert(0, f"{between} range" if cell.spread else between)
        sup = Html("<sup>{}</sup>").format(mark) if mark else ""
        shown = Html('<span class="value">{}{}</span>').format(number(value, cell.percent, cell.signed), sup)
    elif hasattr(value, "__html__"):
        shown = Html(value.__html__())
    else:
        shown = escape(_plain(cell))
        if lines or cell.alert or isinstance(value, (float, Share)):
            shown = Html('<span class="value">{}</span>').format(shown)
    shown = Html('<span class="faint">{}</span>').format(shown) if cell.faint else shown
    small = Html("").join(Html('<span class="interval">{}</span>').format(line) for line in lines)
    return shown + small + Html("").join(Html('<span class="alert">{}</span>').format(line) for line in cell.alert)


def _text(cell: Cell) -> str:
    shown = _plain(cell)
    if isinstance(cell.value, Estimate) and cell.spread:
        shown = shown.replace("(", "(range ")
    shown = f"[{shown}]" if cell.faint else shown
    return "; ".join([part for part in (shown, *cell.below, *cell.alert) if part])


def _plain(cell: Cell) -> str:
    value = cell.value
    if value is None:
        return DASH
    if isinstance(value, Estimate):
        return with_interval(value, cell.percent, cell.signed)
    if isinstance(value, Markup):
        return str(value.striptags())
    if isinstance(value, float):
        return number(value, cell.percent, cell.signed)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _bare(value: Any) -> Any:
    """A value for CSV: nothing for what is not known, six digits of a float."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return csv_cell(str(value.striptags()) if isinstance(value, Markup) else value)


def frame_csv(frame: pd.DataFrame, path: Path | None = None, **options: Any) -> str:
    """A data frame as CSV without its index, whose texts no spreadsheet takes for formulas (`csv_cells`).

    With a `path` it is written there bit by bit, and the text returned is empty.
    """
    frame = frame.copy(deep=False)
    for name in frame:
        # Only where there is such a text: else pandas would give the column another type, and its numbers other digits.
        if not is_numeric(frame[name].dtype) and any(csv_cell(value) is not value for value in frame[name]):
            frame[name] = frame[name].map(csv_cell)
    return frame.rename(columns=csv_cell).to_csv(path, index=False, lineterminator="\n", **options) or ""


def is_numeric(dtype: Any) -> bool:
    return getattr(dtype, "kind", "O") in "biufc"


def markdown_text(text: str) -> str:
    """Text in which Markdown finds neither HTML nor links nor a line's end: labels and names may be any text."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", one_line(text)).replace("<", "&lt;")
    return text.replace("](", "]\\(")
