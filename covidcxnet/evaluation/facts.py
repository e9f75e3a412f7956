"""Facts beside the figures of any report: data, split, model, what was left out, and how it was decided."""

from __future__ import annotations

from typing import Any

from covidcxnet.evaluation.description import Data
from covidcxnet.evaluation.findings import Evaluation
from covidcxnet.evaluation.markup import Html, count, definitions, tag

_SPLIT_BY = {
    "patient": "patient",
    "patient_where_known": "patient where known, else image",
    "image": "image, not by patient",
    "": "not split here",
}


def facts(f: Evaluation, decision: tuple[str, str]) -> Html:
    """The list of them; `decision` is the line, name and text, about thresholds."""
    data, model = f.data, f.model
    sha256 = [tag("br"), tag("span", f"SHA-256 {model.sha256[:16]}…", class_="mono note")] if model.sha256 else []
    return definitions(
        [
            ("Data set", _data_set(data)),
            ("Evaluated", evaluated(f)),
            ("Split by", _split_by(data)),
            ("Left out", left_out(data)),
            ("Test set opened", _opened(f)),
            ("Model", _model(f)),
            ("Weights", [model.weights, *sha256]),
            ("Rejected files", _rejected(f)),
            ("Lung masks", _lungs(f)),
            decision,
            ("Intervals", _intervals(f)),
        ],
        class_="facts",
    )


def part_name(part: str) -> str:
    """A split's name as the page says it."""
    said = {"train": "training", "all": "all images of the run", "other": "other data", "none": "no split"}
    said["patient_seen"] = "left out: patient in training"
    return said.get(part, part)


def evaluated(f: Evaluation) -> str:
    """Which images, how many, of how many patients."""
    known = f.metrics.patients - f.unknown_patients
    patients = count(known, "patient") if known else "patients unknown"
    if known and f.unknown_patients:
        patients += f", and {count(f.unknown_patients, 'image')} without a known patient"
    return f"{part_name(f.data.split)}: {count(f.metrics.images, 'image')} of {patients}"


def left_out(data: Data) -> str | None:
    """What was left out because training saw it; None where no list was given."""
    left = data.left_out
    if left is None:
        return None
    if not left.images + left.of_patients:
        return f"none; no image or patient of these stands as train or validation in {', '.join(left.lists)}"
    patients = f" ({count(left.patients, 'patient')})" if left.patients else ""
    return (
        f"{count(left.images + left.of_patients, 'image')}{patients}: {left.images:,} of training or validation, "
        f"{left.of_patients:,} more of their patients, by {', '.join(left.lists)}"
    )


def _data_set(data: Data) -> str:
    chosen = []
    for column, value in data.where.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        chosen.append(f"{column} {' or '.join(map(str, values))}")
    return data.name + (f", only {'; '.join(chosen)}" if chosen else "")


def _split_by(data: Data) -> str:
    unknown, images = data.unknown_patients, len(data.parts)
    if not unknown or not data.split_by or data.phantom:
        return _SPLIT_BY[data.split_by]
    known = "no patient is known" if unknown == images else f"the patient of {unknown:,} of {images:,} is unknown"
    return f"{_SPLIT_BY[data.split_by]}; {known}"


def _opened(f: Evaluation) -> str | None:
    if not f.openings:
        return None
    first = str(f.openings[0].get("date", ""))[:16].replace("T", " ")
    if len(f.openings) == 1:
        return f"once, {first}"
    same = len({o.get("weights_sha256") for o in f.openings}) == 1
    return f"{len(f.openings)} times, first {first}{', always these weights' if same else ''}"


def _model(f: Evaluation) -> str:
    parameters = f", {f.model.parameters:,} parameters" if f.model.parameters else ""
    started = f.model.training.get("init")
    return f"{f.model.name}{parameters}{f', initial weights: {started}' if started else ''}"


def _rejected(f: Evaluation) -> Any:
    if not len(f.data.rejected):
        return "none"
    return [f"{count(len(f.data.rejected), 'file')} could not be used: ", tag("a", "list", href="#rejected")]


def _lungs(f: Evaluation) -> Any:
    sought, failed = f.data.lungs_sought, len(f.failed_lungs)
    if not sought:
        return "not used: the model sees the whole image"
    if not failed:
        return f"all {sought:,} trusted"
    used = "; the whole image was used there" if f.data.region != "none" else ""
    return [f"{failed:,} of {sought:,} not trusted{used}: ", tag("a", "list", href="#rejected")]


def _intervals(f: Evaluation) -> str:
    if not f.resamples:
        return "none asked for"
    unit = "images" if f.metrics.patients == f.unknown_patients else "patients"
    return f"95%, bootstrap over {unit}, {f.resamples:,} resamples"
