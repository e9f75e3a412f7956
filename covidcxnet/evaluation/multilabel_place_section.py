"""Independent findings within single sources, for the page and in words for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covidcxnet.evaluation.markup import Html, cell, count, footnotes, interval, number, number_only, table, tag
from covidcxnet.evaluation.multilabel_places import FindingPlace, FindingPlaces
from covidcxnet.evaluation.place import place_name, seen_said, training_notes

if TYPE_CHECKING:
    from covidcxnet.evaluation.bootstrap import Estimate
    from covidcxnet.evaluation.multilabel import MultilabelFindings

_COLUMNS = 7  # of a table that is not yet wider than the page
_INTRO = (
    "If findings come from different places, a network can score by recognising the place: scanner, processing, "
    "letters burned in. Images of one and the same source can't be told apart so; these figures are the ones to trust."
)
_ONE_SIDED = {"absent": "none with it", "present": "all with it", "unknown": "not known"}


def places(f: MultilabelFindings) -> Html | None:
    """AUROC of each finding within sources, pooled and one by one, beside that of the source's name."""
    found = f.places
    if found is None:
        return None
    if found.alone:
        return tag("p", one_source(found))
    made: list[Html | None] = [tag("p", _INTRO)]
    if found.mean is not None:
        made.append(tag("p", tag("strong", source_alone(found))))
    columns = _columns(found)
    for start in range(0, len(columns) if found.findings else 0, _COLUMNS):
        header, *rows = zip(*columns[start : start + _COLUMNS], strict=True)
        names = [*[own.name for own in found.findings], "Mean"]
        body = [[name, *row] for name, row in zip(names, rows, strict=True)]
        made.append(table(["Finding", *header], body, _CAPTION if start == 0 else None))
    said = notes(found, f.metrics.classes)
    made.append(tag("p", said, class_="note") if said else None)
    estimates = [e for own in (*found.findings, found.mean) if own is not None for e in (own.within, own.all_pairs)]
    estimates += [e for row in found.rows for e in (row.macro, *[c.auroc for c in row.comparisons])]
    return tag("div", made, footnotes(estimates))


_CAPTION = (
    "AUROC with 95% interval over patients; below it, images with the finding of those in which it is known. Within "
    "sources: pairs of images from one and the same source only. Source alone: a reader who sees only its name. "
    "Statistics: a linear probe of border, grey levels and sharpness of the network's own input, learnt there, "
    "cross-validated."
)


def one_source(found: FindingPlaces) -> str:
    """Where there is but one, all has been said."""
    row = found.rows[0]
    said = f"All images come from one source, {row.sources[0]}: every figure here is within it."
    if row.statistics is None:
        return said
    alone = f"{said} Simple statistics of the network's own input alone have a mean AUROC of {number(row.statistics)}"
    return f"{alone}, the model {number(row.macro)}."


def source_alone(found: FindingPlaces) -> str:
    """What the names of the sources give away."""
    mean = found.mean
    assert mean is not None
    return (
        f"Knowing nothing but the source would score a mean AUROC of {mean.source_alone:.3f} over "
        f"{count(len(found.findings), 'finding')}; within sources the model's is {number(mean.within)}, over all pairs "
        f"{number(mean.all_pairs)}."
    )


def notes(found: FindingPlaces, classes: tuple[str, ...]) -> str:
    """Findings and sources without a figure, and what training saw, in words; empty where there is nothing to say."""
    measured = {own.name for own in found.findings}
    lost = [name for name in classes if name not in measured]
    named = " or ".join([*([", ".join(lost[:-1])] if lost[1:] else []), *lost[-1:]])
    said = [f"no source has images both with and without {named}"] if lost else []
    for row in found.rows:
        if not row.comparisons and found.findings:
            said.append(f"{row.sources[0]} ({count(row.images, 'image')}) has no finding that only some of them show")
    said += training_notes(found.skipped, any(row.seen is not None for row in found.rows))
    return f"{'; '.join(said)}." if said else ""


def place_lines(f: MultilabelFindings) -> list[str]:
    """The mean within each source, a line each."""
    if f.places is None or f.places.alone:
        return []
    lines = []
    for row in f.places.rows:
        if row.comparisons:
            said = f"{number(row.macro)} ({interval(row.macro) or 'no interval'})"
            over = count(len(row.comparisons), "finding")
            alone = "" if row.statistics is None else f"; simple statistics alone {number(row.statistics)}"
            lines.append(f"  {place_name(row)}: mean AUROC over {over} {said}, {count(row.images, 'image')}{alone}")
    return [*lines, f"  {source_alone(f.places)}"] if f.places.mean is not None else lines


def _columns(found: FindingPlaces) -> list[list[Any]]:
    """Header, a cell for each finding, and their mean."""
    if found.mean is None:
        return []
    all_rows = (*found.findings, found.mean)
    columns: list[list[Any]] = [
        ["Within sources", *[cell(own.within) for own in all_rows]],
        ["All pairs", *[cell(own.all_pairs) for own in all_rows]],
        ["Source alone", *[number_only(own.source_alone) for own in all_rows]],
    ]
    for row in (row for row in found.rows if row.comparisons):
        made = {
            c.positive: _figure(cell(c.auroc), f"{c.positives:,} of {c.positives + c.negatives:,}", c.statistics)
            for c in row.comparisons
        }
        made |= {name: tag("span", _ONE_SIDED[side], class_="note") for name, side in row.one_sided.items()}
        mean = _figure(cell(row.macro), f"over {count(len(row.comparisons), 'finding')}", row.statistics)
        columns.append([_heading(row), *[made[own.name] for own in found.findings], mean])
    return columns


def _heading(row: FindingPlace) -> list[Any]:
    said = [text for text in (seen_said(row), count(row.images, "image")) if text]
    return [row.sources[0], *[tag("span", text, class_="interval") for text in said]]


def _figure(made: Html, below: str, statistics: Estimate | None) -> Html:
    alone = "" if statistics is None else tag("span", f"statistics {number(statistics)}", class_="interval")
    return Html(made + tag("span", below, class_="interval") + alone)
