"""What the cards of both kinds of report share: the weights file, the command lines, figures and tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.findings import Evaluation
from covidcxnet.evaluation.markup import count, interval, number
from covidcxnet.evaluation.page import NOTICE

TO_WRITE = ("Purpose", "Known failures, as they look", "Must not be used for")

STATISTICS = (
    "Simple statistics: border, grey levels, sharpness and corners of the network's own input, told by a linear probe "
    "learnt on these images, cross-validated over patients."
)
"""What the column of that name is."""


def compose(f: Evaluation, sections: Iterable[tuple[str, list[str]]]) -> str:
    """Markdown of titled sections, below a line that says where they come from."""
    lines = [
        f"<!-- Measured by evaluate.py, {f.created}; replace as a whole. To be written by hand: "
        f"{'; '.join(TO_WRITE)}. -->",
        "",
    ]
    for title, body in sections:
        lines += [f"## {title}", ""] if title else []
        lines += [*body, ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def about_file(f: Evaluation) -> list[str]:
    """The weights file: hash, architecture, classes, input, training."""
    model, settings, trained = f.model, f.input_settings, f.model.training
    weights = model.weights.replace("\\", "/").rsplit("/", 1)[-1]
    rows = [
        ["file", f"`{weights}`" + (f", {model.size:,} bytes" if model.size else "")
         + (f", SHA-256 `{model.sha256}`" if model.sha256 else "")],
        ["architecture", f"{model.name}" + (f", {model.parameters:,} parameters" if model.parameters else "")],
        ["classes", ", ".join(f.metrics.classes)],
        ["input", _input(settings)],
        ["training", _training(trained)],
        ["status", NOTICE],
    ]  # fmt: skip
    return markdown_table(["", ""], [row for row in rows if row[1]])


def evaluated(f: Evaluation) -> str:
    """How many images of how many patients, and what of them training saw."""
    known = f.metrics.patients - f.unknown_patients
    patients = count(known, "patient") if known else "unknown patients"
    said = f"Evaluated: {count(f.metrics.images, 'image')} of {patients}."
    left = f.data.left_out
    if left is not None:
        said += (
            f" Left out: {left.images:,} that stand as train or validation in {', '.join(left.lists)}, and "
            f"{left.of_patients:,} more of their patients."
        )
    if f.data.overlap is None:
        return f"{said} Whether training saw some of them is not known."
    if f.data.overlap > 0:
        return f"{said} {f.data.overlap:,} of them were trained on: figures that count them are too high."
    return said


def intervals(f: Evaluation) -> str:
    """Where the intervals come from."""
    unit = "images" if f.metrics.patients == f.unknown_patients else "patients"
    if not f.resamples:
        return "No intervals were asked for."
    return f"95% intervals from a bootstrap over {unit} ({f.resamples:,} resamples)."


def commands(f: Evaluation) -> list[str]:
    """Command lines, and what they were run with."""
    lines = ["```bash", *f.commands, "```"]
    versions = {k: v for k, v in f.environment.items() if isinstance(v, str) and k in ("python", "backend", "device")}
    if versions:
        lines += ["", "; ".join(f"{k} {v}" for k, v in versions.items()) + "."]
    return lines


def with_interval(estimate: Estimate, percent: bool = False) -> str:
    """``0.941 (0.912 to 0.968)``."""
    between = interval(estimate, percent)
    return number(estimate, percent) + (f" ({between})" if between else "")


def or_dash(estimate: Estimate | None) -> str:
    """As `with_interval`, and a dash for what was not measured."""
    return "–" if estimate is None else with_interval(estimate)


def markdown_table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a table."""
    lines = [_row(header), _row(["---"] * len(header))]
    return lines + [_row(row) for row in rows]


def _input(settings) -> str:
    if not settings:
        return ""
    said = [f"{settings.get('size')} x {settings.get('size')}", f"channels {', '.join(settings.get('channels', ()))}"]
    region = settings.get("region")
    said.append("whole image" if region in (None, "none") else f"lungs' {region}, found by {settings.get('segmenter')}")
    if settings.get("resolution"):
        said.append(f"first brought down to {settings['resolution']} px")
    if settings.get("histogram"):
        said.append("histogram matched")
    return ", ".join(said)


def _training(trained) -> str:
    names = ("epoch", "seed", "init", "batch_size", "learning_rate", "label_smoothing", "class_weights", "precision")
    said = [f"{name.replace('_', ' ')} {trained[name]}" for name in names if trained.get(name) not in (None, "")]
    if trained.get("erase_shortcuts"):
        said.append(f"{trained['erase_shortcuts']} directions of simple statistics erased")
    if trained.get("average"):
        said.append("mean of the weights of " + " and ".join(trained["average"]))
    for part, by_class in (trained.get("images") or {}).items():
        said.append(f"{part}: " + ", ".join(f"{n:,} {label}" for label, n in by_class.items()))
    return "; ".join(said)


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
