"""What a reader must know before believing a figure about independent findings, the gravest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from covidcxnet.evaluation.cautions import CONFOUNDED, FEW_PATIENTS, Caution, independence, statistics_tell
from covidcxnet.evaluation.markup import count, number

if TYPE_CHECKING:
    from covidcxnet.evaluation.multilabel import MultilabelFindings
    from covidcxnet.evaluation.multilabel_metrics import FindingFigures

NEARLY_ALL = 0.85


def finding_cautions(findings: MultilabelFindings) -> list[Caution]:
    """Warnings that apply to `findings`; a finding that is never found comes first."""
    made = [*_collapse(findings), *independence(findings), *_place(findings), *_size(findings)]
    return [c for c in made if c is not None]


def _collapse(f: MultilabelFindings):
    lost = [own for own in f.metrics.findings if own.name in f.metrics.collapsed]
    if lost:
        said = "; ".join(f"{own.name} in {count(own.present, 'image')}, {_called(own.alarms)}" for own in lost)
        unchosen = f.threshold_from.startswith("0.5")
        why = "No threshold was chosen for these weights" if unchosen else "Means over findings count them as 0"
        title = f"{len(lost)} of {count(len(f.metrics.classes), 'finding')} never found (F1 0)"
        yield Caution("f1_zero", title, f"{said}. {why}; AUROC says whether they are ranked at all.")
    blind = [own.name for own in f.metrics.findings if _nearly_all(own)]
    if blind:
        text = "Its sensitivity and F1 are those of always saying yes; look at AUROC and specificity."
        yield Caution("always_called", f"Called in nearly every image: {', '.join(blind)}", text)
    if f.metrics.untested:
        text = "Present in no image here, or absent in none: their undefined figures are in no mean."
        yield Caution("untested", f"Not tested: {', '.join(f.metrics.untested)}", text)


def _nearly_all(own: FindingFigures) -> bool:
    """Whether a finding that most images lack is called in most of those that lack it."""
    return own.absent > own.present and own.alarms > NEARLY_ALL * own.absent


def _called(alarms: int) -> str:
    return f"called in {alarms} others" if alarms else "never called"


def _place(f: MultilabelFindings):
    images = f.metrics.images
    if f.unknown_patients:
        some = f"The patient of {count(f.unknown_patients, 'image')} is unknown"
        text = "Each such image counts as a patient of its own; if patients have several, the intervals are too narrow."
        yield Caution("patients_unknown", "Patients are unknown" if f.unknown_patients == images else some, text)
    told = [(own.place_alone, own.name) for own in f.metrics.findings if own.place_alone >= CONFOUNDED]
    if told:
        names = ", ".join(f"{name} {auroc:.3f}" for auroc, name in sorted(told, reverse=True))
        text = f"AUROC of a reader who sees only the name of the source: {names}. A high score can come from the place."
        if f.places is not None and f.places.mean is not None:
            over = count(len(f.places.findings), "finding")
            text += f" Within sources the mean AUROC over {over} is {number(f.places.mean.within)}."
        elif f.places is not None:
            text += " No source has images both with and without a finding, so nothing can rule that out."
        yield Caution("confounded_source", "The source gives findings away", text)
    elif f.predictions.column("source") is None:
        text = "If findings come from different hospitals, a score can come from the place, and nothing would show it."
        yield Caution("sources_unknown", "Sources are unknown", text)
    rows = () if f.places is None else f.places.rows
    yield from statistics_tell((f"of {c.positive} within {row.sources[0]}", c) for row in rows for c in row.comparisons)


def _size(f: MultilabelFindings):
    few = [f"{own.name} {own.patients}" for own in f.metrics.findings if 0 < own.patients < FEW_PATIENTS]
    if few:
        text = f"Patients with it: {', '.join(few)}. A single patient moves such figures by points; read the intervals."
        yield Caution("small_test", f"Fewer than {FEW_PATIENTS} patients with a finding", text)
    rejected, read = len(f.data.rejected), len(f.data.parts)
    if rejected > 0.02 * (rejected + read):
        text = f"{rejected} of {count(rejected + read, 'file')} could not be used; nothing is said about such files."
        yield Caution("rejected", "Many files were rejected", text)
