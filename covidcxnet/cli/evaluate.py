"""The command `evaluate.py` (and `covidcxnet evaluate`): parse, evaluate, say where the report lies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from enhancement import command_line
from enhancement.errors import InputError

SUMMARY = """Evaluate a run on its own test split, or weights on other data, and write report.html, metrics.json,
predictions.csv and card.md. Without arguments: the newest run under runs/. A research tool, not a medical device."""


def main(argv: Sequence[str] | None = None, prog: str = "evaluate.py") -> int:
    """Evaluate from command-line arguments; the last line printed is the report's path.

    Returns
    -------
    int
        0 done, 2 the input cannot be used, 130 interrupted by Ctrl-C.
    """
    return command_line.run(partial(_evaluate, prog=prog), argv, prog=prog)


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Flags; each is an argument of `covidcxnet.evaluate` under the same name."""
    parser = command_line.Parser(prog=prog, description=SUMMARY)
    parser.add_argument("target", nargs="?", metavar="RUN | WEIGHTS", help="run folder, weights file or released name")
    parser.add_argument(
        "--data", metavar="NAME:DIR | DIR | CSV",
        help="other data: a public set (covidcxnet datasets list), a folder per class, a CSV, or phantom",
    )  # fmt: skip
    parser.add_argument("--root", metavar="DIR", help="folder that the CSV's paths are relative to")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE[,VALUE]", help="rows of --data to use; repeatable"
    )
    parser.add_argument(
        "--seen", action="append", default=[], metavar="CSV",
        help="leave out of --data what stands there as train or validation (columns path and split, as a run's "
        "split.csv), and other images of such patients; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--count", action="append", default=[], metavar="LABEL=CLASS",
        help="count images of --data with a label that the model does not know as a class of it, to compare within a "
        "source that has no images of that class (pneumonia=covid19); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--store", metavar="FILE",
        help="keep the prepared --data here, for other weights with the same input; default in the report's folder",
    )  # fmt: skip
    parser.add_argument("--split", choices=("test", "validation", "train", "all"), help="of a run; default test")
    parser.add_argument("--out", metavar="DIR", help="folder of the report; default RUN/report")
    parser.add_argument(
        "--explain", action=argparse.BooleanOptionalAction, default=True,
        help="show cases with Grad-CAM (default yes); for a model that sees whole radiographs, lungs are looked for in "
        "these cases alone",
    )  # fmt: skip
    parser.add_argument("--lime", type=int, default=3, metavar="N", help="cases with LIME too (default %(default)s)")
    parser.add_argument(
        "--lime-samples", type=int, default=1000, metavar="N",
        help="perturbed images for each of them (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", type=int, default=2000, metavar="N", help="resamples (default %(default)s; 0: none)"
    )
    parser.add_argument(
        "--threshold", type=_threshold, default=0.5, metavar="P | auto",
        help="two classes: probability from which the second is called (default 0.5); auto: chosen on validation; "
        "findings: a number for all, by default those of the weights",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of bootstrap and LIME (default 0)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default %(default)s")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes that prepare --data; default one a core")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True, help="progress bars")
    return parser


def _evaluate(argv: list[str], prog: str) -> int:
    arguments = vars(build_parser(prog).parse_args(argv))
    arguments["where"] = command_line.named_values(arguments["where"], "--where")
    arguments["count"] = _count(arguments["count"])
    from covidcxnet.evaluation.evaluator import evaluate

    report = evaluate(arguments.pop("target"), **arguments)
    print(report.findings.summary())
    print(report.path)
    return 0


def _count(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        label, equals, name = (part.strip() for part in pair.partition("="))
        if not equals or not label or not name:
            raise InputError(f"--count: {pair!r} given, LABEL=CLASS expected")
        if found.setdefault(label, name) != name:
            raise InputError(f"--count: {label} is counted as {found[label]} and as {name}; choose one")
    return found


def _threshold(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} given, auto or a number expected") from None
