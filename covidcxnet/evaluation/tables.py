"""What page, card and terminal share: the tables of a report, each made once, and a few sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.by_source import FEWEST_OF_A_CLASS, HELD_OUT, INTERNAL, WITHIN, Site
from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.evaluation.predictions import UNKNOWN
from covidcxnet.evaluation.report import Report
from covidcxnet.reporting.table import DASH, Cell, Estimate, Share, Table, count, interval, number

# Name of each figure in tables, and whether it is written as a percentage.
_FIGURES = {
    "accuracy": ("Accuracy", True),
    "balanced_accuracy": ("Balanced accuracy", True),
    "macro_f1": ("F1, mean", False),
    "sensitivity": ("Sensitivity", True),
    "specificity": ("Specificity", True),
    "precision": ("Precision", True),
    "npv": ("NPV", True),
    "f1": ("F1", False),
    "auroc": ("AUROC", False),
    "average_precision": ("Av. precision", False),
    "brier": ("Brier score", False),
    "calibration_error": ("ECE", False),
    "calibration_slope": ("Calibration slope", False),
    "loss": ("Loss", False),
}
_BY_CLASS = ("sensitivity", "specificity", "precision", "npv", "f1", "auroc", "average_precision")
_CALIBRATION = ("calibration_error", "brier", "calibration_slope")
_ONE_SIDED = {"absent": "none with it", "present": "all with it", "unknown": "not known"}
_PARTS = {
    "train": "training",
    "all": "all images of the run",
    "other": "other data",
    "none": "no split",
    "patient_seen": "left out: patient in training",
}
FEW = f"In gray, or in brackets: fewer than {FEWEST_OF_A_CLASS} images of one side, too few to judge by."
_WIDEST_SLOPE = 10  # a larger calibration slope only says that all probabilities are nearly alike
_WORST = 5  # wrong predictions shown of each kind

PROBE = (
    "Intensity probe: AUROC of a linear probe that knows only border, grey levels, sharpness and corners of the "
    "network's own input, trained on these images and cross-validated over patients."
)


def part_name(part: str) -> str:
    """A split's name as readers know it."""
    return _PARTS.get(part, part)


def evaluated(r: Report) -> str:
    """Which images, how many, of how many patients."""
    known = r.metrics.patients - r.unknown_patients
    if not known:
        return f"{part_name(r.data.split)}: {count(r.metrics.images, 'image')}; patients are unknown"
    patients = count(known, "patient")
    if r.unknown_patients:
        patients += f", and {count(r.unknown_patients, 'image')} without a known patient"
    return f"{part_name(r.data.split)}: {count(r.metrics.images, 'image')} of {patients}"


def computed(r: Report) -> str:
    """Which engine computed the network, and in which number format; empty where that is not known."""
    if not r.model.engine:
        return ""
    other = "; the same weights in f32 may have other figures" if r.model.precision != "f32" else ""
    name = {"keras": "Keras", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}.get(r.model.engine, r.model.engine)
    return f"{name} in {r.model.precision}{other}"


def left_out(r: Report) -> str | None:
    """What was left out because training saw it; None where no list was given."""
    left = r.data.left_out
    if left is None:
        return None
    if not left.images + left.of_patients:
        return f"none; none of these images or patients is listed as train or validation in {', '.join(left.lists)}"
    patients = f" ({count(left.patients, 'patient')})" if left.patients else ""
    return (
        f"{count(left.images + left.of_patients, 'image')}{patients}: {left.images:,} of training or validation, "
        f"{left.of_patients:,} more of their patients, by {', '.join(left.lists)}"
    )


def counted(r: Report) -> list[str]:
    """Of each label that the model does not know: what its images are counted as."""
    return [
        f"{count(r.counted_images[label], 'image')} labelled {label} counted as {name}; {label} is not {name}"
        for label, name in r.data.counted.items()
    ]


def intervals(r: Report) -> str:
    """Where the intervals come from."""
    if not r.resamples:
        return "none"
    unit = "images" if r.metrics.patients == r.unknown_patients else "patients"
    fixed = "Wilson's where a proportion is the same in all of them"
    return f"95%, bootstrap over {unit}, {r.resamples:,} resamples; {fixed}"


def decision(r: Report) -> str:
    """How a class is predicted."""
    if r.predictions.threshold is not None:
        return f"{r.metrics.classes[1]} from {r.predictions.threshold:.3g} on ({r.threshold_from})"
    return "the most probable class" if r.exclusive else f"a threshold for each finding: {r.threshold_from}"


def site_name(site: Site) -> str:
    """A site as tables call it."""
    if site.kind == INTERNAL:
        return "Internal: sources that training saw"
    if site.kind == HELD_OUT:
        return "Held out: sources never seen"
    trained = "" if site.trained is None else ", seen in training" if site.trained else ", never seen"
    return f"Within {site.sources[0]}{trained}"


def source_alone(r: Report) -> str | None:
    """What the names of the sources give away, of independent findings; None where nothing is pooled."""
    if r.by_source is None or r.by_source.mean is None or r.by_source.single or r.exclusive:
        return None
    mean = r.by_source.mean
    pairs = "" if mean.all_pairs is None else f", over all pairs {number(mean.all_pairs)}"
    return (
        f"Knowing nothing but the source would score a mean AUROC of {mean.source_alone:.3f} over "
        f"{count(len(r.by_source.pooled), 'finding')}; within sources the model's is {number(mean.within)}{pairs}."
    )


def single_source(r: Report) -> str | None:
    """Of independent findings from one source, whose figures within it are those of the whole report."""
    if r.exclusive or r.by_source is None or not r.by_source.single:
        return None
    (site,) = r.sites
    text = f"All images come from one source, {site.sources[0]}: every figure here is within it."
    if site.mean_probe is None:
        return text
    probe = f"The intensity probe of the network's own input has a mean AUROC of {number(site.mean_probe)}"
    return f"{text} {probe}, the model {number(site.mean)}."


def all_tables(r: Report, percent: bool = True) -> dict[str, Table]:
    """The tables that a report has, by name; shares are percentages on the page and plain numbers in the card."""
    first = ["All images" if r.exclusive else "Mean over findings", *_cells(r.metrics.overall, percent)]
    header = ["", *[_FIGURES[key][0] for key in r.metrics.overall]]
    note = "Loss: cross-entropy, without weights."
    overall = Table(header, [first], f"95% interval below each figure. {note}" if percent else note)
    shown = {"split": _split(r), "overall": overall, "classes": _classes(r, percent)}
    pooled = r.by_source is not None and r.by_source.mean is not None and not r.by_source.single
    if r.sites and not single_source(r):
        shown["sites"] = _sites(r)
    if not r.exclusive:
        return shown | {"counts": _counts(r)} | ({"pooled": _pooled(r)} if pooled else {})
    if r.by_source is not None and r.by_source.mean is not None:
        shown |= {"sources": _sources(r, percent), "pooled": _pooled(r)}
    if missed := r.metrics.missed:
        rows = [[r.called(m.name), f"{m.missed:,} of {m.images:,}", Cell(m.rate, percent=True)] for m in missed]
        shown["missed"] = Table([f"Called {NORMAL}", "Images", "Share"], rows)
    return shown | {"calibration": _calibration(r), "confusion": _confusion(r)}


def _split(r: Report) -> Table:
    """Images and patients of each class, or with each finding, and of each source in each part."""
    parts, rows = r.data.parts, []
    if r.data.findings is None:
        names = list(dict.fromkeys(parts["part"]))
        called = {label: f"{label}, counted as {name}" for label, name in r.data.counted.items()}
        groups = [(called.get(label, label), parts["label"] == label) for label in (*r.metrics.classes, *called)]
        groups.append(("all", pd.Series(True, parts.index)))
        sources = parts["source"].fillna(UNKNOWN) if "source" in parts else pd.Series(dtype=object)
        if sources.nunique() > 1:
            groups += [(f"source {source}", sources == source) for source in sources.value_counts().index]
        for title, members in groups:
            row = [title]
            for name in names:
                part = parts[members & (parts["part"] == name)]
                known = "patient" in part and not part["patient"].isna().all()
                row.append(_tally(len(part), part["patient"].nunique() if known else None))
            rows.append(row)
    else:
        names = list(dict.fromkeys(r.data.findings["part"]))
        for finding, group in r.data.findings.groupby("finding", sort=False):
            pairs = zip(group["images"], group["patients"], strict=True)
            rows.append([str(finding), *[_tally(images, patients) for images, patients in pairs]])
    header = [part_name(name) + (" ◂" if name == r.data.split else "") for name in names]
    return Table(["Images (patients)", *header], rows, class_="first-table")


def _tally(images: int, patients: float | None) -> str:
    return f"{images:,}" if patients is None or np.isnan(patients) else f"{images:,} ({int(patients):,})"


def _classes(r: Report, percent: bool) -> Table:
    """Figures of each class against all others, or of each finding over the images in which it is known."""
    rows = [
        [r.called(name), row.present, row.tp + row.fp, *_cells({key: row.figures[key] for key in _BY_CLASS}, percent)]
        for name, row in r.metrics.by_class.items()
    ]
    what = "Each class against all others." if r.exclusive else "Each finding over the images in which it is known."
    header = ["Class" if r.exclusive else "Finding", "Images", "Predicted", *[_FIGURES[key][0] for key in _BY_CLASS]]
    return Table(header, rows, what)


def _cells(figures: Mapping[str, Estimate], percent: bool) -> list[Cell]:
    return [
        Cell("no meaning", below=["probabilities nearly alike"])
        if key == "calibration_slope" and abs(estimate.value) > _WIDEST_SLOPE
        else Cell(estimate, percent=percent and _FIGURES[key][1])
        for key, estimate in figures.items()
    ]


def _counts(r: Report) -> Table:
    """Images of each independent finding by truth and decision."""
    rows = [
        [name, f"{row.threshold:.3g}", row.tp, row.fn, row.fp, row.tn, r.metrics.images - row.present - row.absent]
        for name, row in r.metrics.by_class.items()
    ]
    header = ["Finding", "Threshold", "True pos.", "False neg.", "False pos.", "True neg.", "Unknown"]
    return Table(header, rows, f"Images by truth and decision. Thresholds: {r.threshold_from}.")


def _confusion(r: Report) -> Table:
    """Images of exclusive classes by truth and decision."""
    names, cells = r.metrics.classes, r.metrics.confusion
    assert cells is not None
    rows = [[r.called(name), *map(int, row), int(row.sum())] for name, row in zip(names, cells, strict=True)]
    return Table(["True class", *[f"predicted {name}" for name in names], "all"], rows)


def _calibration(r: Report) -> Table:
    """Calibration of exclusive classes over all images and over the sources that training saw or did not."""
    measured = [("All images", r.metrics.images, r.metrics.overall)]
    measured += [(site_name(site), site.images, site.calibration) for site in r.sites if site.calibration]
    rows = [
        [name, images, *_cells({key: figures[key] for key in _CALIBRATION}, True)] for name, images, figures in measured
    ]
    what = "the second class" if len(r.metrics.classes) == 2 else "the predicted class"
    slope = "A slope of 1 is right; below 1 probabilities are too extreme, above 1 too cautious."
    note = f"Of the probability of {what}. {slope}"
    return Table(["Calibration", "Images", "ECE", "Brier score", "Slope"], rows, note=note)


def _sites(r: Report) -> Table:
    """AUROC at each site beside that of the intensity probe."""
    rows: list[list[Any]] = []
    for site in r.sites:
        below = [] if site.kind == WITHIN else [", ".join(site.sources)]
        below += [f"{name}: {_ONE_SIDED[side]}" for name, side in site.one_sided.items()]
        name: Any = Cell(site_name(site), below=below) if below else site_name(site)
        if not r.exclusive and site.comparisons:
            over = f"mean over {count(len(site.comparisons), 'finding')}"
            mean = Cell(site.mean, faint=any(c.few for c in site.comparisons))
            rows.append([name, over, count(site.images, "image"), "", mean, site.mean_probe])
            name = ""
        for c in site.comparisons:
            pair = f"{c.positives:,} {c.positive}", f"{c.negatives:,} {c.negative}"
            rows.append([name, *pair, c.score, Cell(c.auroc, faint=c.few), c.probe])
            name = ""
        if not site.comparisons:
            labels = ", ".join(f"{n:,} {label}" for label, n in site.by_label.items() if n)
            rows.append([name, labels or count(site.images, "image"), "nothing to compare", "", "undefined", ""])
    gap = None if r.by_source is None else r.by_source.gap
    if gap is not None and not np.isnan(gap.auroc.value):
        title = "Gap: internal minus held out, smaller is better"
        few = any(c.few for site in r.sites if site.kind != WITHIN for c in site.comparisons[:1])
        rows.append([title, gap.positive, gap.negative, gap.score, Cell(gap.auroc, faint=few), ""])
    header = ["Images of", "Positive", "Negative", "Ranked by", "AUROC", "Intensity probe"]
    return Table(header, rows, note=_site_notes(r), class_="sites")


def _site_notes(r: Report) -> str:
    compared = [c for site in r.sites for c in site.comparisons]
    notes = [PROBE] if any(c.probe is not None for c in compared) else []
    notes += [FEW] if any(c.few for c in compared) else []
    for label, name in r.data.counted.items():
        notes.append(f"{label} is counted as {name} within a source, and left out of the other rows.")
    pooled = {row.name for row in r.by_source.pooled} if r.by_source is not None else set()
    lost = [name for name in r.metrics.classes if name not in pooled]
    if lost and not r.exclusive:
        names = " or ".join([*([", ".join(lost[:-1])] if lost[1:] else []), *lost[-1:]])
        notes.append(f"No source has images both with and without {names}.")
    if r.by_source is not None and r.by_source.skipped:
        notes.append(f"{count(r.by_source.skipped, 'image')} that training saw in none of these figures.")
    if all(site.trained is None for site in r.sites):
        notes.append("The training sources are unknown here; give the list of training images with --seen.")
    return " ".join(notes)


def _pooled(r: Report) -> Table:
    """AUROC over pairs of one source, over all pairs, and of the name of the source."""
    by_source = r.by_source
    assert by_source is not None and by_source.mean is not None
    overall, all_rows = r.metrics.overall["auroc"], (*by_source.pooled, by_source.mean)
    rows = [[row.name, Cell(row.within, faint=row.few), row.all_pairs or overall, row.source_alone] for row in all_rows]
    left = f" They leave out {', '.join(by_source.alone)}, which shares no source." if by_source.alone else ""
    note = (
        "Within sources: only pairs of images from the same source, so that recognising the source does not "
        f"help.{left} Source alone: a reader who sees only the name of the source."
        f"{f' {FEW}' if by_source.mean.few else ''}"
    )
    rows = [["AUROC", *row[1:]] for row in rows] if r.exclusive else rows
    return Table(["", "Within sources", "All pairs", "Source alone"], rows, note=note, class_="pooled")


def _sources(r: Report, percent: bool) -> Table:
    """Decisions and ranking of exclusive classes in each source."""
    assert r.by_source is not None
    trained = {True: "yes", False: "no", None: "unknown"}
    rows = [
        [
            s.name,
            trained[s.trained],
            s.images,
            s.patients if r.unknown_patients < r.metrics.images else "unknown",
            *[s.by_class[name] or DASH for name in r.metrics.classes],
            Cell(s.accuracy, percent=percent),
            "one class" if np.isnan(s.auroc.value) else Cell(s.auroc, faint=s.few),
        ]
        for s in r.by_source.sources
    ]
    names = [r.called(name) for name in r.metrics.classes]
    header = ["Source", "In training", "Images", "Patients", *names, "Accuracy", "AUROC within"]
    few = any(s.few and not np.isnan(s.auroc.value) for s in r.by_source.sources)
    return Table(header, rows, note=FEW if few else "")


def licence_table(r: Report) -> Table:
    """Images of each source and label in each part, with the licences that stand in the data."""
    parts = r.data.parts.copy()
    licence = next((c for c in ("license", "licence") if c in parts), None)
    keys = [column for column in ("source", "label") if column in parts]
    for column in (*keys, *([licence] if licence else [])):
        parts[column] = parts[column].astype(object).replace("", None).fillna("not given").astype(str)
    names = list(dict.fromkeys(parts["part"]))
    rows = []
    for key, group in parts.groupby(keys):
        images = [int((group["part"] == name).sum()) or DASH for name in names]
        rows.append([*(key if isinstance(key, tuple) else (key,)), *images])
        if licence is not None:
            terms = group[licence].value_counts()
            rows[-1].append("; ".join(f"{name} ({n:,})" if len(terms) > 1 else str(name) for name, n in terms.items()))
    totals = [int((parts["part"] == name).sum()) for name in names]
    rows.append(["all", *[""] * (len(keys) - 1), *totals, *([""] if licence else [])])
    title = [part_name(n) if n not in ("other", r.data.split) else "evaluated here" for n in names]
    return Table([*keys, *title, *(["licence"] if licence else [])], rows)


def mistakes_table(r: Report) -> Table | None:
    """Each kind of wrong prediction: how many, where, and the most confident ones, which a person should look at."""
    p = r.predictions
    labels, predicted = p.labelled.to_numpy(dtype=object), np.array(p.classes, dtype=object)[p.predicted]
    wrong, sources = p.predicted != p.targets, p.sources
    confidence = p.probabilities[np.arange(len(p)), p.predicted]
    rows = []
    kinds = pd.Series(list(zip(labels[wrong], predicted[wrong], strict=True)), dtype=object).value_counts()
    for label, name in kinds.index:
        members = np.flatnonzero(wrong & (labels == label) & (predicted == name))
        by = ""
        if sources is not None:
            by = ", ".join(
                f"{source} {n:,} of {int(((sources == source) & (labels == label)).sum()):,}"
                for source, n in pd.Series(sources[members]).value_counts().items()
            )
        worst = members[np.argsort(-confidence[members], kind="stable")][:_WORST]
        shown = ", ".join(f"`{p.table['path'].iloc[i]}` {confidence[i]:.2f}" for i in worst)
        rows.append([f"{label} predicted {name}", Share(len(members), int((labels == label).sum())), by, shown])
    header = ["kind", "images", "by source", "most confident, with its probability"]
    return Table(header, rows) if rows else None


def headline(r: Report) -> list[tuple[str, str, str]]:
    """Name, value and interval of the figures that stand first."""
    overall, by_class, classes, present = r.metrics.overall, r.metrics.by_class, r.metrics.classes, r.metrics.present
    if not r.exclusive:
        mean = None if r.by_source is None or r.by_source.single else r.by_source.mean
        figures = [("AUROC, mean over findings", overall["auroc"], False)]
        figures += [] if mean is None else [("AUROC within sources, mean", mean.within, False)]
        for name, key in (("Average precision", "average_precision"), ("F1", "macro_f1")):
            figures.append((f"{name}, mean", overall[key], False))
        figures += [(f"{name.capitalize()}, mean", overall[name], True) for name in ("sensitivity", "specificity")]
    elif len(present) < len(classes):
        # Means over classes are undefined: show what is known of the classes that are there.
        rows = [(name, by_class[name].figures) for name in present[-2:]]
        figures = [(f"AUROC, {n}", row["auroc"], False) for n, row in rows if not np.isnan(row["auroc"].value)]
        figures += [(f"Sensitivity, {n}", row["sensitivity"], True) for n, row in rows]
        figures += [("Accuracy", overall["accuracy"], True)]
    else:
        two, name, second = len(classes) == 2, r.called(classes[1]), by_class[classes[1]].figures
        figures = [(f"AUROC, {name}" if two else "AUROC, mean over classes", overall["auroc"], False)]
        if two:
            figures += [(f"{key.capitalize()}, {name}", second[key], True) for key in ("sensitivity", "specificity")]
        else:
            figures.append(("Balanced accuracy", overall["balanced_accuracy"], True))
        figures.append(("Accuracy", overall["accuracy"], True))
        figures += [] if two else [("F1, mean over classes", overall["macro_f1"], False)]
        figures.append(("Calibration error", overall["calibration_error"], False))
    return [(name, number(e, percent), interval(e, percent) or "no interval") for name, e, percent in figures]
