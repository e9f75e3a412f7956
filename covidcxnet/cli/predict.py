"""The commands `covidcxnet predict` and `explain`: a line for each radiograph, and a picture of the evidence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from covidcxnet.cli import _output
from covidcxnet.cli._common import EXIT_CODES, LIME_SAMPLES, add_cluster, add_work, lime_samples
from covidcxnet.preparation.pipeline import MARK, about_image
from covidcxnet.reporting.table import count
from enhancement.command_line import Parser, add_engine, at_least, command
from enhancement.errors import InputError, Refusal
from enhancement.files import check_output, find_image_tree, whole_file
from enhancement.signatures import HEAD, kind_of

RESEARCH_ONLY = "Research only: a label is not a diagnosis."
# Written out, as --help does without `covidcxnet.explain`.
METHODS = ("gradcam", "cam", "lime")
_LIME = ("samples", "segments", "seed")
_MOST_DRAWN = 12  # radiographs of --figure: more make a picture that no screen shows


@command("covidcxnet predict")
def main(argv: list[str], prog: str) -> int:
    """Predict radiographs."""
    text = "Predict radiographs with trained weights: file, label, probability, and whether the lungs were found."
    parser = build_parser(prog, text)
    add = parser.add_argument
    add("--explain", choices=METHODS, help="also draw a panel for each radiograph into --out")
    add_cluster(parser)
    return run(parser.parse_args(argv))


@command("covidcxnet explain")
def explain(argv: list[str], prog: str) -> int:
    """Explain predictions."""
    parser = build_parser(prog, "Draw where a classifier finds its evidence, with the outline of the lungs.")
    text = "cam needs a network that ends in global pooling and dense layers; lime takes 1,000 predictions a file"
    parser.add_argument("--method", dest="explain", choices=METHODS, default="gradcam", help=text)
    return run(parser.parse_args(argv))


def build_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Flags that `predict` and `explain` share; each adds the one that names the method."""
    parser = Parser(prog=prog, description=f"{description} {RESEARCH_ONLY}", epilog=EXIT_CODES)
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="radiographs, folders or glob patterns")
    add("--weights", required=True, metavar="W", help="weights file, run folder or released name")
    add("--json", action="store_true", help="print one JSON object per line for each file instead of a table")
    text = r"also write the predictions as a UTF-8 table; other bytes in file names are escaped, as in lunge_\udcfc.png"
    add("--csv", type=Path, metavar="FILE", help=text)
    text = f"also draw all probabilities as bars beside each radiograph, the first {_MOST_DRAWN} (.png or .svg)"
    add("--figure", type=Path, metavar="FILE", help=text)
    add("--segmenter", metavar="W", help="find lungs with these weights instead of the recorded ones")
    add_work(parser, jobs=1)
    add_engine(parser)
    group = parser.add_argument_group("explanations")
    group.add_argument("--out", type=Path, metavar="DIR", help="folder of the pictures; default explanations")
    group.add_argument("--target", metavar="CLASS", help="class to explain; default the predicted one")
    group.add_argument("--full-size", action="store_true", help="also write the overlay alone, at full size")
    group.add_argument("--overwrite", action="store_true", help="replace pictures and tables that exist")
    # No defaults here, so that a setting of LIME given with another method can be refused.
    group.add_argument("--samples", type=lime_samples, metavar="N", help=f"{LIME_SAMPLES}; default 1000")
    group.add_argument("--segments", type=at_least(1), help="superpixels for LIME; default 64")
    group.add_argument("--seed", type=int, help="seed of LIME; default 0")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Predict, and explain where ``arguments.explain`` names a method."""
    method, out = arguments.explain, arguments.out or Path("explanations")
    for flag in () if method else ("out", "target", "full_size"):
        if getattr(arguments, flag):
            raise InputError(f"--{flag.replace('_', '-')}: is for pictures; add --explain, or leave it out")
    scheduler, workers = getattr(arguments, "scheduler", None), getattr(arguments, "workers", None)
    if method and (scheduler or workers):
        raise InputError(f"--{'scheduler' if scheduler else 'workers'}: is for predictions; leave out --explain")
    # From here to the import: what can be refused is refused before TensorFlow takes its seconds to load.
    files = find_image_tree(arguments.files)
    paths = [path for path, _ in files]
    panels = _output.panel_paths(files, out, method) if method else {}
    overlays = list(map(_output.overlay_path, panels.values())) if arguments.full_size else []
    files_written = [path for path in (arguments.csv, arguments.figure) if path]
    _output.refuse_loss([*files_written, *panels.values(), *overlays], paths, arguments.overwrite)
    for path in files_written:
        check_output(path)
    if arguments.figure and arguments.figure.suffix.lower() not in (".png", ".svg"):
        raise InputError(f"--figure: ending {arguments.figure.suffix!r} given, .png or .svg expected")
    if method:
        check_output(out, folder=True)
    _check_readable(paths)
    lime = {name: value for name in _LIME if (value := getattr(arguments, name)) is not None}
    if lime and method != "lime":
        raise InputError(f"--{next(iter(lime))}: is a setting of LIME; choose lime as the method, or leave it out")

    from covidcxnet.cluster import connected
    from covidcxnet.pretrained import load_model
    from segmentation.segmenter import LungSegmenter

    # First, as no network is built for it. By request only: other weights than in training change the input.
    how = {"engine": arguments.engine, "precision": arguments.precision}
    segmenter = LungSegmenter(arguments.segmenter, **how) if arguments.segmenter else None
    classifier = load_model(arguments.weights, **how)
    if segmenter is not None:
        classifier = classifier.with_segmenter(segmenter)
    # Rows that appear on the screen are progress enough; a bar among them would only garble both.
    # LIME takes minutes for a row: it shows its own bar on a terminal, and lines in a log file.
    terminal, garbled = sys.stderr.isatty(), sys.stderr.isatty() and sys.stdout.isatty()
    progress = arguments.progress and not garbled and (terminal or method == "lime")
    options: dict[str, Any] = {"batch_size": arguments.batch_size, "jobs": arguments.jobs, "progress": progress}
    unreadable = unusual = marked = 0
    drawn: list[Any] = []
    with ExitStack() as stack:
        # Generators: a row appears when its radiograph is done, and memory does not grow with the folder.
        results: Iterator[tuple[Any, Any]]
        if method:
            explanations = classifier.iter_explain(paths, method, arguments.target, **options, **lime)
            results = ((explanation.prediction, explanation) for explanation in explanations)
        else:
            cluster = stack.enter_context(connected(scheduler, workers))
            results = ((prediction, None) for prediction in classifier.iter_predict(paths, **options, cluster=cluster))
        writers: list[Callable[[dict[str, Any]], None]]
        writers = [_output.print_json if arguments.json else _output.Lines(paths)]
        if arguments.csv:
            writers.append(
                _output.Csv(stack.enter_context(whole_file(arguments.csv)), classifier.classes, stack, method)
            )
        for path, (prediction, explanation) in zip(paths, results, strict=True):
            row = prediction.to_dict()
            if prediction.error is None and len(drawn) < _MOST_DRAWN:
                drawn.append(prediction)
            unusual += bool(about_image(prediction.notes))
            marked += bool(prediction.notes)
            unreadable += prediction.error is not None
            if explanation is not None and prediction.error is None:
                row["explanation"] = _draw(explanation, panels[path], arguments.full_size)
            for write in writers:
                write(row)
    if arguments.figure and drawn:
        from covidcxnet.prediction import draw
        from covidcxnet.reporting import plots

        named = dict(zip(classifier.classes, classifier.thresholds.tolist(), strict=True))
        plots.save(draw(drawn, named if classifier.task == "independent" else None), arguments.figure)
    ending = f"; {unusual} {'does' if unusual == 1 else 'do'} not look like {_output.EXPECTED}" if unusual else ""
    lines = [f"{count(len(paths), 'radiograph')}, {unreadable} could not be read{ending}.", RESEARCH_ONLY]
    if marked:
        lines.insert(
            0,
            f"{MARK.strip()} Do not rely on these: the image or its lungs are in doubt ({marked} of {len(paths)}).",
        )
    if arguments.figure:
        lines.insert(0, f"{arguments.figure}: {len(drawn)} of {count(len(paths), 'radiograph')} drawn.")
    # With --json, standard output holds objects and nothing else.
    for line in lines:
        print(line, file=sys.stderr if arguments.json else sys.stdout, flush=True)
    return 1 if unreadable else 0


def _check_readable(paths: list[Path]) -> None:
    """`InputError` for the first file if none of them is an image by its first bytes."""
    refusal = None
    for path in paths:
        try:
            with open(path, "rb") as file:
                kind_of(file.read(HEAD))
            return
        except Refusal as error:
            refusal = refusal or InputError(f"{path}: {error}")
        except OSError as error:
            refusal = refusal or InputError(f"{path}: {error.strerror}")
    if refusal:
        raise refusal


def _draw(explanation: Any, path: Path, full_size: bool) -> dict[str, Any]:
    row = {name: getattr(explanation, name) for name in ("method", "target", "fit", "samples")}
    row["panel"] = str(explanation.save_panel(path))
    if full_size:
        row["overlay"] = str(explanation.save_overlay(_output.overlay_path(path)))
    return row
