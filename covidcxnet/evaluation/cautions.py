"""What a reader must know before believing a figure, in plain words, the gravest first."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.by_source import FEWEST_OF_A_CLASS, WITHIN, Pooled
from covidcxnet.evaluation.calibration import error_by_chance
from covidcxnet.evaluation.report import Caution, Report
from covidcxnet.reporting.table import count, number

# Below this many patients of a class, the interval of a proportion near 90% is wider than 20 points.
FEW_PATIENTS = 30
HIGH_CALIBRATION_ERROR = 0.1
MANY_FAILED_LUNGS = 0.1
# AUROC of the source alone from which classes and sources are called confounded.
CONFOUNDED = 0.75
# Share of the images without a finding in which it is predicted all the same: it says yes nearly always.
NEARLY_ALL = 0.85
# Probabilities whose logits all lie within this agree in the digits that are printed.
ONE_ANSWER = 0.01
_SURE = 1e-7  # closest to 0 or 1, so that the logit of a saturated output stays finite
_TOO_FEW = f" Within sources fewer than {FEWEST_OF_A_CLASS} images of a class can be compared, too few to judge by."


def cautions(report: Report) -> tuple[Caution, ...]:
    """Warnings that apply to a report; classes that are never found and counted labels come first."""
    kinds = (_collapsed, _never_found, _independence, _labels, _source, _probe, _size, _quality)
    warnings = [caution for kind in kinds for caution in kind(report)]
    return tuple(sorted(warnings, key=lambda c: c.key != "counted"))


def _collapsed(r: Report) -> Iterator[Caution]:
    """A network that says the same of all images, or of most, cannot tell them apart, whatever its accuracy."""
    p, classes = np.asarray(r.predictions.graded.probabilities, np.float64), r.metrics.classes
    if len(p) < 2:
        return
    remedy = "Train again with a lower learning rate, more epochs or other initial weights."
    logits = np.log(np.clip(p, _SURE, None)) - np.log(np.clip(1 - p, _SURE, None))
    alike = np.ptp(logits, axis=0) < ONE_ANSWER
    if alike.any():
        values = ", ".join(f"{name} {x:.3f}" for name, x, same in zip(classes, p[0], alike, strict=True) if same)
        title = "The network gives every image the same probabilities"
        title += "" if r.exclusive or alike.all() else f" of {count(int(alike.sum()), 'finding')}"
        yield Caution("collapsed", title, f"{values}. Its figures say nothing about the images. {remedy}")
        return
    rows, times = np.unique(p, axis=0, return_counts=True)
    if times.max() > len(p) / 2:
        values = ", ".join(f"{name} {x:.3f}" for name, x in zip(classes, rows[times.argmax()], strict=True))
        title = f"{times.max():,} of {count(len(p), 'image')} have exactly the same probabilities"
        yield Caution("collapsed", title, f"{values}. The network can't tell these images apart. {remedy}")


def _never_found(r: Report) -> Iterator[Caution]:
    """A mean over classes, or of AUROCs, looks well while whole classes or findings are never found."""
    m = r.metrics
    lost = [m.by_class[name] for name in m.never_found]
    if lost:
        where = "; ".join(
            f"{row.name} in {count(row.present, 'image')}, "
            + (f"predicted in {row.fp} others" if row.fp else "never predicted")
            for row in lost
        )
        unchosen = not r.exclusive and r.threshold_from.startswith("0.5")
        what, plural = ("class", "classes") if r.exclusive else ("finding", "findings")
        why = "No threshold was chosen for these weights" if unchosen else f"Means over {plural} count them as 0"
        title = f"{len(lost)} of {count(len(m.classes), what, plural)} never found (F1 0)"
        yield Caution("f1_zero", title, f"{where}. {why}; AUROC shows whether the model ranks them at all.")
    if r.exclusive:
        return
    blind = [row.name for row in m.by_class.values() if row.absent > row.present and row.fp > NEARLY_ALL * row.absent]
    if blind:
        text = "A model that always says yes has the same sensitivity and F1. Look at AUROC and specificity."
        yield Caution("always_called", f"Predicted in nearly every image: {', '.join(blind)}", text)
    if m.untested:
        text = "Each is present in no image here, or in all. Their figures are undefined and left out of the means."
        yield Caution("untested", f"Not tested: {', '.join(m.untested)}", text)


def _independence(r: Report) -> Iterator[Caution]:
    """Images that training saw, and how often the test set was opened."""
    data = r.data
    if data.overlap is None:
        title = "Training images are unknown"
        text = (
            "Whether some of these images or patients were used in training can't be checked; if so, figures are too "
            "high."
        )
        yield Caution("overlap_unknown", title, text)
    elif data.overlap > 0:
        text = (
            "Figures are too high. Leave these images out (--seen with the list of the training) to learn how the "
            "model does on new images."
        )
        yield Caution("overlap", f"{count(data.overlap, 'image')} of these were used in training", text)
    earlier = (("initial", "initial weights", data.seen_by_initial), ("teacher", "teacher", data.seen_by_teacher))
    for key, name, images in earlier:
        if images:
            text = (
                f"The {name} saw them in training, or other images of their patients. Figures are too high. Evaluate "
                "on other images, or leave these out: --data with --seen and the list of that training, the CSV "
                "beside released weights or split.csv of a run."
            )
            yield Caution(f"{key}_overlap", f"{count(images, 'image')} of these were used to train the {name}", text)
    left = data.left_out
    if left is not None and not left.listed:
        text = (
            f"{', '.join(left.lists)} name{'s' if len(left.lists) == 1 else ''} none of these files. This is right for "
            "other data. If files are named differently there, images of the training may be among these."
        )
        yield Caution("seen_unmatched", "No evaluated image is on the lists of training images", text)
    if data.split == "train":
        yield Caution("training_images", "These are the training images", "The model has seen every one of them.")
    elif data.split == "all":
        text = "Training images are among them: figures say how well the model remembers, not how well it generalises."
        yield Caution("training_images", "These are all images of the run", text)
    elif data.split == "validation":
        text = "The weights were chosen on these images, so figures are optimistic; test figures are not."
        yield Caution("validation_images", "These are validation images", text)
    unknown = data.unknown_patients
    if data.split_by == "image":
        title = "Split by image, not by patient"
        if unknown:
            some = f"; the patient of {unknown:,} images is unknown"
            title += "; no patient IDs" if unknown == len(data.parts) else some
        text = "Images of one patient can be on both sides of the split; figures are then too high."
        yield Caution("image_split", title, text)
    elif data.split_by == "patient_where_known":
        text = "Each image without a patient ID counts as one patient. Where that is wrong, figures are too high."
        title = f"The patient of {unknown:,} of {count(len(data.parts), 'image')} is unknown"
        yield Caution("image_split", title if unknown else "Not all patients are known", text)
    looks = {(o.get("weights_sha256"), o.get("threshold")) for o in r.openings}
    if len(looks) > 1:
        text = (
            f"With {len(looks)} different weights or thresholds. Choices made after an earlier look were made "
            "on this test set, so figures are optimistic."
        )
        yield Caution("test_reopened", f"The test set has been opened {len(r.openings)} times", text)


def _labels(r: Report) -> Iterator[Caution]:
    """Labels that are counted as another, and images without a patient."""
    for label, images in r.counted_images.items():
        name, verb = r.data.counted[label], "is" if images == 1 else "are"
        text = (
            f"They do not show {name}. A high figure means that the model tells diseased from normal, not that "
            f"it recognises {name}."
        )
        yield Caution("counted", f"{count(images, 'image')} of {label} {verb} counted as {name}", text)
    if r.unknown_patients:
        every = r.unknown_patients == r.metrics.images
        title = "Patients are unknown" if every else f"The patient of {count(r.unknown_patients, 'image')} is unknown"
        text = "Each such image counts as a patient of its own; if patients have several, the intervals are too narrow."
        yield Caution("patients_unknown", title, text)


def _source(r: Report) -> Iterator[Caution]:
    """Whether the source gives the label away."""
    by_source, mean = r.by_source, None if r.by_source is None else r.by_source.mean
    key = "confounded_source"
    if r.data.phantom:
        return
    if r.predictions.graded.sources is None:
        text = (
            "If classes come from different hospitals or collections, a high score can come from recognising the "
            "source, and this report could not detect it. The intensity probe and figures within sources are therefore "
            "not measured. Give the hospital or collection of each image in a column `source` of the table."
        )
        yield Caution("sources_unknown", "Sources are unknown", text)
    elif not r.exclusive:
        rows = [(row.source_alone, row.name) for row in r.metrics.by_class.values() if row.source_alone >= CONFOUNDED]
        if rows:
            names = ", ".join(f"{name} {auroc:.3f}" for auroc, name in sorted(rows, reverse=True))
            text = f"AUROC of a reader who sees only the name of the source: {names}."
            text += " A high score can come from the source."
            if by_source is not None and mean is not None:
                over = count(len(by_source.pooled), "finding")
                text += (
                    _TOO_FEW if mean.few else f" Within sources the mean AUROC over {over} is {number(mean.within)}."
                )
            elif r.sites:
                text += " No source has images both with and without a finding, so nothing can rule that out."
            yield Caution(key, "The source reveals findings", text)
    elif by_source is not None and mean is not None and (by_source.unshared or mean.source_alone >= CONFOUNDED):
        pairs = "; ".join(f"{a} and {b}" for a, b in by_source.unshared)
        text = (
            f"{f'No source holds both {pairs}. ' if pairs else ''}Knowing nothing but the source would already score "
            f"an AUROC of {mean.source_alone:.3f}: a high score can come from recognising the source."
            f"{_within_sources(mean, by_source.alone)}"
        )
        yield Caution(key, "Source and label are confounded", text)


def _within_sources(mean: Pooled, alone: tuple[str, ...]) -> str:
    if math.isnan(mean.within.value):
        return " Within sources the AUROC can't be computed."
    if mean.few:
        return _TOO_FEW
    left = f", which leaves out {', '.join(alone)}" if alone else ""
    return f" Within sources the AUROC is {mean.within.value:.3f}{left}."


def _probe(r: Report) -> Iterator[Caution]:
    """Within one source the source tells nothing, but its images of one label may all be made alike."""
    if r.data.phantom:
        return
    high = []
    for site in (site for site in r.sites if site.kind == WITHIN):
        # Of exclusive classes the broadest comparison has the others in it; findings have one each.
        for c in site.comparisons[: 1 if r.exclusive else None]:
            if c.probe is not None and c.probe.value >= CONFOUNDED:
                where = f"{'' if r.exclusive else f'of {c.positive} '}within {site.sources[0]}"
                high.append(f"{where}: {c.probe.value:.3f}, the model {c.auroc.value:.3f}")
    if high:
        text = (
            "Border, grey levels and sharpness of the network's own input predict the label by themselves, AUROC "
            f"{'; '.join(high)}. A score there can come from how images were made, though part of it may be the "
            "disease."
        )
        yield Caution("statistics_tell", "Within a source, an intensity probe predicts the label", text)


def _size(r: Report) -> Iterator[Caution]:
    rows = r.metrics.by_class.values()
    if r.exclusive and (absent := [row.name for row in rows if not row.present]):
        text = "Figures that need this class, or all classes, are undefined."
        yield Caution("class_absent", f"No image of {', '.join(absent)}", text)
    few = [f"{row.name} {row.patients}" for row in rows if 0 < row.patients < FEW_PATIENTS]
    if few:
        of, by = ("in a class", "Patients by class") if r.exclusive else ("with a finding", "Patients with it")
        text = f"{by}: {', '.join(few)}. One patient changes the figures by percentage points. Read the intervals."
        yield Caution("small_test", f"Fewer than {FEW_PATIENTS} patients {of}", text)


def _quality(r: Report) -> Iterator[Caution]:
    error = r.metrics.overall["calibration_error"].value if r.exclusive else 0.0
    chance = 0.0
    if error > HIGH_CALIBRATION_ERROR:
        graded = r.predictions.graded
        patients = Bootstrap(graded.column("patient"), len(graded), resamples=0)
        chance = error_by_chance(graded.probabilities, patients.index)
    if error > max(chance, HIGH_CALIBRATION_ERROR):
        text = (
            f"On average a stated probability is off by {100 * error:.0f} points (expected calibration error "
            f"{error:.3f}; by chance alone a calibrated network would stay below {chance:.3f} in 95 of 100 such sets "
            "of images). Use probabilities to rank images, not as chances of disease."
        )
        yield Caution("calibration", "Probabilities are poorly calibrated", text)
    failed, sought = len(r.failed_lungs), r.data.lungs_sought
    if sought and failed > MANY_FAILED_LUNGS * sought:
        text = f"In {failed} of {count(sought, 'image')} the mask was not trusted."
        if r.data.region != "none":
            text += " The whole image was used there"
            text += ", so the model saw two kinds of input." if failed < sought else "; check the segmenter."
        yield Caution("lungs", "Many lung masks failed", text)
    rejected, read = len(r.data.rejected), len(r.data.parts)
    if rejected > 0.02 * (rejected + read):
        text = f"{rejected} of {count(rejected + read, 'file')} could not be used; figures do not cover such files."
        yield Caution("rejected", "Many files were rejected", text)
