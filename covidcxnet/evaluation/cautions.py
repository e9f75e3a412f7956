"""What a reader must know before believing a figure, in plain words, the gravest first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from covidcxnet.evaluation.markup import count
from covidcxnet.evaluation.place import WITHIN, Comparison

if TYPE_CHECKING:
    from covidcxnet.evaluation.findings import Findings
    from covidcxnet.evaluation.multilabel import MultilabelFindings

# Below this many patients of a class, the interval of a proportion near 90% is wider than 20 points.
FEW_PATIENTS = 30
HIGH_CALIBRATION_ERROR = 0.1
MANY_FAILED_LUNGS = 0.1
# AUROC of the source alone from which classes and sources are called confounded.
CONFOUNDED = 0.75


@dataclass(frozen=True)
class Caution:
    """A warning.

    Parameters
    ----------
    key : str
        Stable name for programs.
    title, text : str
        In a few words, and what follows from it.
    """

    key: str
    title: str
    text: str


def cautions(findings: Findings) -> list[Caution]:
    """Warnings that apply to `findings`."""
    found = [*independence(findings), *_place(findings), *_size(findings), *_quality(findings)]
    return sorted((c for c in found if c is not None), key=lambda c: c.key != "counted")


def independence(f: Findings | MultilabelFindings):
    """Warnings about images that training saw, and about how often the test set was opened."""
    data = f.data
    if data.overlap is None:
        yield Caution(
            "overlap_unknown",
            "Training images are not known here",
            "Whether some of these images or patients were trained on can't be checked; if so, figures are too high.",
        )
    elif data.overlap > 0:
        yield Caution(
            "overlap",
            f"{count(data.overlap, 'image')} of these were trained on",
            "Figures are too high; leave them out (--seen with the list of the training) to learn how the model does "
            "on new images.",
        )
    left = data.left_out
    if left is not None and not left.found:
        text = (
            f"{', '.join(left.lists)} name{'s' if len(left.lists) == 1 else ''} none of these files. Right for other "
            "data; but if files are called otherwise there, images of the training may be among these."
        )
        yield Caution("seen_unmatched", "No image was found on the lists of what training saw", text)
    if data.split == "train":
        yield Caution("training_images", "These are the training images", "The model has seen every one of them.")
    elif data.split == "all":
        text = "Training images are among them: figures say how well the model remembers, not how well it generalises."
        yield Caution("training_images", "These are all images of the run", text)
    elif data.split == "validation":
        text = "The weights were chosen on these images, so figures lean to the high side; test figures do not."
        yield Caution("validation_images", "These are validation images", text)
    unknown = data.unknown_patients
    if data.split_by == "image":
        title = "Split by image, not by patient"
        if unknown:
            some = f"; the patient of {unknown:,} images is unknown"
            title += "; no patient is known" if unknown == len(data.parts) else some
        text = "Images of one patient may stand on both sides of the split; figures are then too high."
        yield Caution("image_split", title, text)
    elif data.split_by == "patient_where_known":
        text = "Images without a patient were taken for one patient each; where that is wrong, figures are too high."
        title = f"The patient of {unknown:,} of {count(len(data.parts), 'image')} is unknown"
        yield Caution("image_split", title if unknown else "Not all patients are known", text)
    looks = {(o.get("weights_sha256"), o.get("threshold")) for o in f.openings}
    if len(looks) > 1:
        text = (
            f"With {len(looks)} different weights or thresholds. Whatever was chosen after an earlier look, "
            "it was chosen on this test set, and figures lean to the high side."
        )
        yield Caution("test_reopened", f"The test set has been opened {len(f.openings)} times", text)


def _place(f: Findings):
    for label, images in f.counted_images.items():
        name = f.data.counted[label]
        text = (
            f"They do not show {name}. A high figure says that the model tells ill from normal; it does not say that "
            f"it knows {name}."
        )
        yield Caution("counted", f"{count(images, 'image')} of {label} {_are(images)} counted as {name}", text)
    if f.unknown_patients == f.metrics.images:
        text = (
            "Each image counts as a patient of its own; if patients have several images, the intervals are too narrow."
        )
        yield Caution("patients_unknown", "Patients are unknown", text)
    elif f.unknown_patients:
        title = f"The patient of {count(f.unknown_patients, 'image')} is unknown"
        yield Caution("patients_unknown", title, "Each of them counts as a patient of its own.")
    if f.data.phantom:
        return
    if f.sources is None:
        text = (
            "If classes come from different hospitals or collections, a high score can come from recognising "
            "the place, and nothing here would show it."
        )
        yield Caution("sources_unknown", "Sources are unknown", text)
    elif f.sources.unshared or f.sources.place_alone >= CONFOUNDED:
        pairs = "; ".join(f"{a} and {b}" for a, b in f.sources.unshared)
        start = f"No source holds both {pairs}. " if pairs else ""
        alone = f.sources.place_alone
        within = f.sources.within.value
        known = "can't be computed" if math.isnan(within) else f"is {within:.3f}"
        if not math.isnan(within) and f.sources.alone:
            known += f", which leaves out {', '.join(f.sources.alone)}"
        text = (
            f"{start}Knowing nothing but the source would already score an AUROC of {alone:.3f}: "
            f"a high score can come from recognising the place. Within sources the AUROC {known}."
        )
        yield Caution("confounded_source", "Source and label are confounded", text)
    single = () if f.places is None else [place for place in f.places.rows if place.kind == WITHIN]
    yield from statistics_tell((f"within {place.sources[0]}", place.comparisons[0]) for place in single)


def statistics_tell(compared: Iterable[tuple[str, Comparison]]) -> Iterator[Caution]:
    """Within one source the place tells nothing, but its images of one label may all be made alike.

    `compared` has comparisons within a source, each with what is said of it.
    """
    told = [
        f"{name}: {c.statistics.value:.3f}, the model {c.auroc.value:.3f}"
        for name, c in compared
        if c.statistics is not None and c.statistics.value >= CONFOUNDED
    ]
    if told:
        text = (
            "Border, grey levels and sharpness of the network's own input rank it by themselves, AUROC "
            f"{'; '.join(told)}. There a figure can come from how images were made; part of it may be the disease."
        )
        yield Caution("statistics_tell", "Within a source simple statistics tell the label", text)


def _are(images: int) -> str:
    return "is" if images == 1 else "are"


def _size(f: Findings):
    table, few, absent = f.predictions.table, [], []
    patients = pd.Series(table["patient"]) if "patient" in table else pd.Series(pd.NA, table.index)
    for name in f.metrics.classes:
        own = (table["label"] == name).to_numpy()
        if not own.any():
            absent.append(name)
            continue
        known = patients[own].dropna()
        number = known.nunique() + int(own.sum()) - len(known)
        if number < FEW_PATIENTS:
            few.append(f"{name} {number}")
    if absent:
        text = "Figures that need this class, or all classes, are undefined."
        yield Caution("class_absent", f"No image of {', '.join(absent)}", text)
    if few:
        text = f"Patients by class: {', '.join(few)}. A single patient moves the figures by points; read the intervals."
        yield Caution("small_test", f"Fewer than {FEW_PATIENTS} patients in a class", text)


def _quality(f: Findings):
    error = f.metrics.overall["calibration_error"].value
    if error > HIGH_CALIBRATION_ERROR:
        text = (
            f"On average a stated probability is off by {100 * error:.0f} points (expected calibration error "
            f"{error:.3f}). Use them to rank images, not as chances."
        )
        yield Caution("calibration", "Probabilities are poorly calibrated", text)
    failed, sought = len(f.failed_lungs), f.data.lungs_sought
    if sought and failed > MANY_FAILED_LUNGS * sought:
        text = f"In {failed} of {count(sought, 'image')} the mask was not trusted."
        if f.data.region != "none":
            text += " The whole image was used there"
            text += ", so the model saw two kinds of input." if failed < sought else ": look at the segmenter."
        yield Caution("lungs", "Many lung masks failed", text)
    rejected, read = len(f.data.rejected), len(f.data.parts)
    if rejected > 0.02 * (rejected + read):
        text = (
            f"{rejected} of {count(rejected + read, 'file')} could not be used; figures say nothing about such files."
        )
        yield Caution("rejected", "Many files were rejected", text)
