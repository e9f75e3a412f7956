"""The page of a report: one HTML file with its style and pictures inside, made by `templates/report.html`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from covidcxnet.evaluation import plots, tables
from covidcxnet.evaluation.cases import rule
from covidcxnet.evaluation.report import Report
from covidcxnet.reporting.pages import NOTICE, render
from covidcxnet.reporting.plots import data_uri
from covidcxnet.reporting.table import Html, Table, count, interval, number, with_interval

_SPLIT_BY = {
    "patient": "patient",
    "patient_where_known": "patient where known, else image",
    "image": "image, not by patient",
    "": "not split here",
}
_MOST_ROWS = 500  # of a list of files; the file beside the page has them all


def page(r: Report) -> str:
    """The page as text."""
    shown, drawings = tables.all_tables(r), _drawings(r)
    sections = (
        ("sites", "Internal, held-out and within-source figures" if r.exclusive else "Within single sources", r.sites),
        ("classes", "By class" if r.exclusive else "By finding", True),
        ("curves", "Curves", r.exclusive or drawings["curves"]),
        # a single source has nothing to compare
        ("sources", "By source", "pooled" in shown and (not r.exclusive or len(shown["sources"].rows) > 1)),
        ("confusion", "Confusion matrix", r.exclusive),
        ("calibration", "Calibration", r.exclusive),
        ("cases", "Cases and explanations", r.cases),
        ("training", "Training", drawings["training"]),
        ("rejected", "Rejected files and lung masks", len(r.data.rejected) or len(r.failed_lungs)),
        ("settings", "Settings", True),
        ("reproduce", "Reproduce", True),
        ("glossary", "Glossary", True),
    )
    groups: dict[str, list] = {}
    for case in r.cases:
        groups.setdefault(f"True class: {case.label}" if r.exclusive else case.predicted, []).append(case)
    headline, lost = tables.headline(r), r.metrics.never_found
    if not r.exclusive:
        names = ", ".join(lost) if len(lost) <= 3 else "named above"
        headline.append(("Never found (F1 0)", f"{len(lost)} of {len(r.metrics.classes)}", names or "none"))
    return render(
        "evaluation/report.html",
        title=r.title,
        r=r,
        evaluated=f"{count(r.metrics.images, 'image')} ({tables.part_name(r.data.split)})",
        banners=_banners(r),
        headline=headline,
        missed=[(r.called(x.name), f"{x.missed} of {x.images}", _rate(x)) for x in r.metrics.missed],
        facts=_facts(r),
        warnings=[(c.title, c.text) for c in r.cautions],
        sections=[(key, name) for key, name, content in sections if content],
        tables=shown,
        plots=drawings,
        source_alone=tables.source_alone(r),
        single_source=tables.single_source(r),
        confusion=_confusion(r),
        rule=rule(r.metrics.task),
        case_groups=groups.items(),
        listings=_listings(r),
        settings=_settings(r),
    )


def summary(r: Report) -> str:
    """The headline, what else must be seen first, and the warnings as plain text for a terminal."""
    lines = [f"{r.title}: {tables.evaluated(r)}"]
    lines += [
        f"  {name:<26} {value:>8}" + ("" if below == "no interval" else f"  ({below})")
        for name, value, below in tables.headline(r)
    ]
    if len(rejected := r.data.rejected):
        path, reason = rejected[["path", "reason"]].iloc[0]
        lines.append(f"  {count(len(rejected), 'file')} could not be used, the first {path} ({reason})")
    lines += [f"  {r.called(x.name)} called normal: {x.missed} of {x.images}" for x in r.metrics.missed]
    for name, row in () if r.exclusive else r.metrics.by_class.items():
        auroc, f1 = row.figures["auroc"], row.figures["f1"]
        lost = "  NEVER FOUND" if name in r.metrics.never_found else ""
        figures = f"AUROC {number(auroc)} ({interval(auroc) or 'no interval'}), F1 {number(f1)}"
        lines.append(f"    {name:<24} {row.present:>5} present, {figures}{lost}")
    lines += [f"  Left out: {tables.left_out(r)}"] if r.data.left_out is not None else []
    lines += [f"  {text}" for text in _site_lines(r)]
    lines += [f"  Caution: {c.title}. {c.text}" for c in r.cautions]
    return "\n".join([*lines, f"  {NOTICE}."])


def _site_lines(r: Report) -> Iterable[str]:
    """The broadest comparison at each site; the page has them all."""
    if tables.single_source(r):
        return
    for site in (site for site in r.sites if site.comparisons):
        first = site.comparisons[0]
        auroc, probe = (first.auroc, first.probe) if r.exclusive else (site.mean, site.mean_probe)
        over = f"mean AUROC over {count(len(site.comparisons), 'finding')}"
        what = f"{tables.compared(first)}, AUROC" if r.exclusive else over
        images = "" if r.exclusive else f", {count(site.images, 'image')}"
        alone = "" if probe is None else f"; intensity probe {number(probe)}"
        yield f"{tables.site_name(site)}: {what} {with_interval(auroc)}{images}{alone}"
    gap = None if r.by_source is None else r.by_source.gap
    if gap is not None and not np.isnan(gap.auroc.value):
        pair = f"{gap.positive} against {gap.negative}, by {gap.score}"
        yield f"Gap of AUROC, internal to held out: {pair}: {with_interval(gap.auroc)}"
    if text := tables.source_alone(r):
        yield text


def _banners(r: Report) -> list[tuple[str, str]]:
    """What stands where nobody can pass it by."""
    banners = []
    if r.data.phantom:
        text = "These figures say nothing about real radiographs."
        banners.append((f"Phantom run: the images are computed and show no patient. {text}", ""))
    if r.data.counted:
        ask = "whether the model tells ill from normal."
        if r.predictions.ungraded.any():
            use = f"They count only in the figures within a source, which ask {ask}"
        else:
            use = f"These figures ask {ask}"
        banners.append((f"Not what it is called: {'; '.join(tables.counted(r))}. {use}", ""))
    lost = r.metrics.never_found
    if lost and not r.exclusive:
        which = f"{len(lost)} of {count(len(r.metrics.classes), 'finding')} never found: {', '.join(lost)}."
        banners.append((which, "Their F1 is 0 and is in the mean as 0."))
    return banners


def _rate(missed) -> str:
    """The rate and its interval; where none was missed, the bootstrap knows no spread and the rule of three speaks."""
    if missed.missed:
        return f"{number(missed.rate, True)}, {interval(missed.rate, True) or 'no interval'}"
    most = min(1.0, 3 / missed.patients)
    return f"with {count(missed.patients, 'patient')}, a true rate of up to {100 * most:.0f}% would fit"


def _facts(r: Report) -> list[tuple[str, Any]]:
    """Facts beside the figures: data, split, model, what was left out, and how it was decided."""
    data, model = r.data, r.model
    chosen = []
    for column, value in data.where.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        chosen.append(f"{column} {' or '.join(map(str, values))}")
    unknown, split_by = data.unknown_patients, _SPLIT_BY[data.split_by]
    if unknown and data.split_by and not data.phantom:
        some = f"the patient of {unknown:,} of {len(data.parts):,} is unknown"
        split_by += f"; {'no patient is known' if unknown == len(data.parts) else some}"
    opened = None
    if r.openings:
        first = str(r.openings[0].get("date", ""))[:16].replace("T", " ")
        same = len({o.get("weights_sha256") for o in r.openings}) == 1
        times = f"{len(r.openings)} times, first {first}{', always these weights' if same else ''}"
        opened = f"once, {first}" if len(r.openings) == 1 else times
    started = model.training.get("init")
    parameters = f", {model.parameters:,} parameters" if model.parameters else ""
    weights: Any = model.weights
    if model.sha256:
        weights = Html('{}<br><span class="mono note">SHA-256 {}…</span>').format(weights, model.sha256[:16])
    listed = Html('{} <a href="#rejected">list</a>')
    files = count(len(data.rejected), "file")
    rejected = listed.format(f"{files} could not be used:") if len(data.rejected) else "none"
    sought, failed = data.lungs_sought, len(r.failed_lungs)
    lungs = f"all {sought:,} trusted" if sought else "not used: the model sees the whole image"
    if failed:
        used = "; the whole image was used there" if data.region != "none" else ""
        lungs = listed.format(f"{failed:,} of {sought:,} not trusted{used}:")
    return [
        ("Data set", data.name + (f", only {'; '.join(chosen)}" if chosen else "")),
        ("Evaluated", tables.evaluated(r)),
        ("Split by", split_by),
        ("Left out", tables.left_out(r)),
        ("Test set opened", opened),
        ("Model", f"{model.name}{parameters}{f', initial weights: {started}' if started else ''}"),
        ("Weights", weights),
        ("Rejected files", rejected),
        ("Lung masks", lungs),
        ("Decision", tables.decision(r)),
        ("Intervals", tables.intervals(r)),
    ]


def _drawings(r: Report) -> dict[str, list[dict[str, str]]]:
    """Pictures of each section with their texts."""
    m = r.metrics
    drawn: dict[str, list] = {"curves": [], "classes": [], "calibration": [], "training": []}

    def add(section: str, drawing, alt: str, caption: str = "") -> None:
        drawn[section].append({"source": data_uri(drawing), "alt": alt, "caption": caption})

    if r.exclusive:
        names = ", ".join(plots.drawn_classes(m))
        auroc, precision = number(m.overall["auroc"]), number(m.overall["average_precision"])
        if names:
            add("curves", plots.roc(m), f"ROC curve of {names}; AUROC {auroc}.")
            alt = f"Precision-recall curve of {names}; average precision {precision}."
            add("curves", plots.precision_recall(m), alt)
        error, brier = number(m.overall["calibration_error"]), number(m.overall["brier"])
        caption = (
            "Points: share of images for which the prediction came true in each tenth of probability, with 95% "
            "interval. On the dotted line it is the stated probability. Bars: images in each tenth. "
            f"Brier score {brier}, ECE {error}."
        )
        alt = f"Reliability diagram; expected calibration error {error}."
        add("calibration", plots.reliability(m), alt, caption)
    else:
        if (curves := plots.finding_curves(m)) is not None:
            add("curves", curves, "ROC curve of each finding with its AUROC.")
        alt = "AUROC, average precision and F1 of each finding with 95% intervals; the numbers stand in the table."
        caption = "Images with the finding in brackets. Upright ticks: chance. A cross: never found."
        add("classes", plots.finding_intervals(m), alt, caption)
    if r.log is not None and plots.learned(r.log):
        epochs = count(len(r.log), "epoch") + (f"; weights of epoch {r.best_epoch}" if r.best_epoch is not None else "")
        caption = f"{epochs}. Validation picks the epoch; the test split has no part in it."
        add("training", plots.learning_curves(r.log, r.best_epoch), f"Learning curves over {epochs}.", caption)
    return drawn


def _confusion(r: Report) -> list[tuple[str, list[dict[str, Any]], int]]:
    """Rows of the confusion matrix: counts, shares of the row, and the shade of each."""
    if r.metrics.confusion is None:
        return []
    rows = []
    for k, (name, counts) in enumerate(zip(r.metrics.classes, r.metrics.confusion, strict=True)):
        total, cells = int(counts.sum()), []
        for c, n in enumerate(map(int, counts)):
            share = n / total if total else 0.0
            # white to mid blue; the darkest still carries dark text at a contrast above 4.5
            shade = np.array([255, 255, 255]) + (np.array([120, 175, 218]) - 255) * share
            colour = "#" + "".join(f"{round(v):02x}" for v in shade)
            text = f"{100 * share:.1f}%" if total else "–"
            cells.append({"images": n, "share": text, "colour": colour, "correct": c == k})
        rows.append((name, cells, total))
    return rows


def _listings(r: Report) -> list[Table]:
    """Files that were left out, and images whose lung mask was not trusted, with reasons."""
    listed = []
    if len(r.data.rejected):
        rows = r.data.rejected[["path", "reason"]].to_numpy().tolist()
        caption = "Files that could not be used in any part of the data; they are in no figure."
        listed.append((["File", "Reason"], rows, caption, "metrics.json"))
    failed = r.failed_lungs
    if len(failed):
        reasons = failed["lungs_reasons"] if "lungs_reasons" in failed else [""] * len(failed)
        whole = Html('<span class="whole">{}</span>')
        labels = [whole.format(label) for label in r.predictions.labelled[failed.index]]
        rows = [list(row) for row in zip(failed["path"], labels, reasons, strict=True)]
        used = " The whole image was used for them." if r.data.region != "none" else ""
        caption = f"Evaluated images whose lung mask was not trusted.{used}"
        listed.append((["Image", "Label", "Reason"], rows, caption, "predictions.csv"))
    return [
        Table(
            header,
            rows[:_MOST_ROWS],
            caption,
            f"{len(rows) - _MOST_ROWS:,} more stand in {file}." if len(rows) > _MOST_ROWS else "",
            "text",
        )
        for header, rows, caption, file in listed
    ]


def _settings(r: Report) -> list[tuple[str, list[tuple[str, Html]]]]:
    """Input settings, recipe and environment: each value as code, under its dotted name."""
    recipe = {key: value for key, value in r.recipe.items() if key != "input"}
    groups = []
    for title, values in (("From file to stack", r.input_settings), ("Recipe", recipe), ("Environment", r.environment)):
        pairs = []
        for key, value in values.items():
            inner = {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, Mapping) and value else {}
            pairs += [
                (name, Html("<code>{}</code>").format(_setting(v))) for name, v in (inner or {key: value}).items()
            ]
        if pairs:
            groups.append((title, pairs))
    return groups


def _setting(value: Any) -> str:
    if isinstance(value, str):
        return value or "–"
    if isinstance(value, (list, tuple)) and len(value) > 20:
        return f"{len(value)} numbers"
    return json.dumps(value, default=str)
