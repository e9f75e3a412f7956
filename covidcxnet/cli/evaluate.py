"""The command `evaluate.py` (and `covidcxnet evaluate`): evaluate, and print the summary and where the report is."""

from __future__ import annotations

import argparse
from pathlib import Path

from covidcxnet.cli._common import LIME_SAMPLES, RESEARCH_ONLY, add_bootstrap, add_data, add_work, lime_samples
from enhancement.command_line import Parser, add_engine, at_least, command, named_values
from enhancement.errors import InputError

SUMMARY = f"""Evaluate a run on its own test split, or weights on other data, and write report.html, metrics.json,
predictions.csv and card.md. Without arguments: the newest run under runs/. {RESEARCH_ONLY}"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Flags; each is an argument of `covidcxnet.evaluate` under the same name."""
    parser = Parser(prog=prog, description=SUMMARY)
    add = parser.add_argument
    add("target", nargs="?", metavar="RUN | WEIGHTS", help="run folder, weights file or released name")
    add_data(parser, narrow=False)
    text = "leave out of --data what this CSV (path, split) lists as trained on, and its patients; repeatable"
    add("--seen", action="append", default=[], metavar="CSV", help=text)
    text = "count a label of --data that the model does not know as one of its classes, pneumonia=covid19; repeatable"
    add("--count", action="append", default=[], metavar="LABEL=CLASS", help=text)
    add("--store", metavar="FILE", help="file for the prepared --data, for other weights with the same input")
    add("--split", choices=("test", "validation", "train", "all"), help="part of a run to evaluate; default test")
    add("--out", metavar="DIR", help="folder of the report; default RUN/report")
    text = "show cases with Grad-CAM; if the model sees whole radiographs, lungs are segmented in these cases only"
    add("--explain", action=argparse.BooleanOptionalAction, default=True, help=text)
    add("--lime", type=at_least(0), default=3, metavar="N", help="cases that are explained by LIME too")
    add("--lime-samples", type=lime_samples, default=1000, metavar="N", help=LIME_SAMPLES)
    add_bootstrap(parser)
    text = (
        "two classes: that of the second, or auto, by validation; findings: one for all, default those of the weights"
    )
    add("--threshold", type=_threshold, metavar="P | auto", default=0.5, help=text)
    add_work(parser, seed="the bootstrap and LIME")
    add_engine(parser)
    return parser


@command("evaluate.py")
def main(argv: list[str], prog: str) -> int:
    """Evaluate; the last line printed is the path of the report."""
    arguments = vars(build_parser(prog).parse_args(argv))
    # Checked here: evaluation loads Keras, and errors of flags should not wait for it.
    arguments["where"] = named_values(arguments["where"], "--where")
    arguments["count"] = _count(arguments["count"])
    _check_data(arguments["target"], arguments["data"])

    from covidcxnet.evaluation.evaluator import evaluate
    from covidcxnet.evaluation.page import summary

    report = evaluate(arguments.pop("target"), **arguments)
    print(summary(report))
    print(report.path)
    return 0


def _check_data(target: str | None, data: str | None) -> None:
    """Refuse data that do not exist, and weights without data."""
    from covidcxnet.datasets.load import check_place, folder_of
    from weights.lookup import is_name, released

    if data is not None:
        check_place(data)
        if data != "phantom" and not (folder := folder_of(data).expanduser()).exists():
            raise InputError(f"{data}: no such folder {folder}")
        return
    if target is None or Path(target).is_dir():
        return
    file = released(target) if not is_name(target) and not Path(target).is_file() else Path(target)
    # Weights of a run are evaluated on that run's images.
    if not all((file.parent / name).is_file() for name in ("recipe.yaml", "run.json")):
        raise InputError(f"{target}: weights need images to evaluate; give --data FOLDER or CSV")


def _count(pairs: list[str]) -> dict[str, str]:
    counted: dict[str, str] = {}
    for pair in pairs:
        label, equals, name = (part.strip() for part in pair.partition("="))
        if not equals or not label or not name:
            raise InputError(f"--count: {pair!r} given, LABEL=CLASS expected")
        # Repeating a pair does no harm; two answers for one label would depend on their order.
        if counted.setdefault(label, name) != name:
            raise InputError(f"--count: {label} is counted as {counted[label]} and as {name}; choose one of them")
    return counted


def _threshold(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} given, auto or a number expected") from None
