"""The commands `covidcxnet predict` and `covidcxnet explain`: a line for each radiograph, and pictures where wished."""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enhancement import command_line
from enhancement.errors import InputError
from enhancement.files import IMAGE_SUFFIXES, check_output, find_image_tree, whole_file

if TYPE_CHECKING:
    from covidcxnet.explain.explanation import Explanation
    from covidcxnet.prediction import Prediction

RESEARCH_ONLY = "Research only: a label here is no diagnosis."
EXPECTED = "an upright frontal chest radiograph"
METHODS = ("gradcam", "cam", "lime")


def main_predict(argv: Sequence[str] | None = None, prog: str = "covidcxnet predict") -> int:
    """Predict radiographs from command-line arguments.

    Returns
    -------
    int
        0 done, 1 done but some files could not be read, 2 the input cannot be used, 130 interrupted.
    """
    return command_line.run(partial(_predict, prog=prog), argv, prog=prog)


def main_explain(argv: Sequence[str] | None = None, prog: str = "covidcxnet explain") -> int:
    """Draw where a classifier finds its evidence, from command-line arguments; returns as `main_predict`."""
    return command_line.run(partial(_explain, prog=prog), argv, prog=prog)


def _predict(argv: list[str], prog: str) -> int:
    parser = _parser(prog, "Predict radiographs with trained weights: file, label, probability, state of the lungs.")
    parser.add_argument("--explain", choices=METHODS, help="also draw a panel for each radiograph into --out")
    _add_explain_arguments(parser)
    return _run(parser.parse_args(argv))


def _explain(argv: list[str], prog: str) -> int:
    parser = _parser(prog, "Draw where a classifier finds its evidence, on the radiograph, with the lungs' outline.")
    text = "default gradcam; cam needs a network of pooling and one dense layer; lime takes minutes a file"
    parser.add_argument("--method", dest="explain", choices=METHODS, default="gradcam", help=text)
    _add_explain_arguments(parser)
    return _run(parser.parse_args(argv))


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    parser = command_line.Parser(
        prog=prog,
        description=f"{description} {RESEARCH_ONLY}",
        epilog="Exit code: 0 done, 1 done but some files could not be read, 2 the input cannot be used.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="radiographs, folders or glob patterns")
    parser.add_argument("--weights", required=True, metavar="W", help="weights file, run folder or released name")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for each file, no table")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the predictions as a table")
    parser.add_argument("--batch-size", type=_positive, default=16, help="default 16")
    parser.add_argument("--jobs", type=_positive, default=1, help="processes that read and enhance; default 1")
    parser.add_argument("--segmenter", metavar="W", help="find lungs with these weights instead of the recorded ones")
    return parser


def _add_explain_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("explanations")
    group.add_argument("--out", type=Path, metavar="DIR", help="default: explanations")
    group.add_argument("--target", metavar="CLASS", help="class to explain; default: the one predicted")
    group.add_argument("--full-size", action="store_true", help="also the overlay at full size, alone")
    group.add_argument("--overwrite", action="store_true", help="replace pictures and tables that exist")
    group.add_argument("--samples", type=_positive, help="of LIME; default 1000")
    group.add_argument("--segments", type=_positive, help="superpixels of LIME; default 64")
    group.add_argument("--seed", type=int, help="of LIME; default 0: same seed, same map")


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} given, a whole number from 1 expected")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.explain:
        for flag in ("out", "target", "full_size"):
            if getattr(arguments, flag):
                raise InputError(f"--{flag.replace('_', '-')}: is of pictures; add --explain, or leave it out")
    arguments.out = arguments.out or Path("explanations")
    found = find_image_tree(arguments.files)
    paths = [path for path, _ in found]
    pictures = _pictures(found, arguments.out, arguments.explain) if arguments.explain else {}
    written = [arguments.csv] if arguments.csv else []
    for path in pictures.values():
        written += [path, _overlay_path(path)] if arguments.full_size else [path]
    _refuse(written, paths, arguments.overwrite)
    if arguments.csv:
        check_output(arguments.csv)
    if arguments.explain:
        check_output(arguments.out, folder=True)
    lime = {name: value for name in ("samples", "segments", "seed") if (value := getattr(arguments, name)) is not None}
    if lime and arguments.explain != "lime":
        raise InputError(f"--{next(iter(lime))}: is a setting of LIME; add lime as the method, or leave it out")

    from covidcxnet.pretrained import load_model

    classifier = load_model(arguments.weights)
    if arguments.segmenter:
        from covidcxnet.classifier import Classifier
        from segmentation.segmenter import LungSegmenter

        segmenter = LungSegmenter(arguments.segmenter)
        classifier = Classifier(classifier.model, classifier.metadata, classifier.path, segmenter=segmenter)
    # Rows that appear on the screen are progress enough; a bar among them would only garble both.
    progress = sys.stderr.isatty() and not sys.stdout.isatty()
    options: dict[str, Any] = {"batch_size": arguments.batch_size, "jobs": arguments.jobs, "progress": progress}
    results: Iterable[tuple[Prediction, Explanation | None]]
    if arguments.explain:
        explained = classifier.iter_explain(paths, arguments.explain, arguments.target, **options, **lime)
        results = ((one.prediction, one) for one in explained)
    else:
        results = ((one, None) for one in classifier.iter_predict(paths, **options))
    unreadable = unusual = 0
    with ExitStack() as stack:
        writers: list[Callable[[dict[str, Any]], None]] = [_JsonLines() if arguments.json else _Table(paths)]
        if arguments.csv:
            writers.append(_Csv(stack.enter_context(whole_file(arguments.csv)), classifier.classes, stack))
        for path, (prediction, explanation) in zip(paths, results, strict=True):
            row = prediction.to_dict()
            unusual += bool(prediction.notes)
            if prediction.error is not None:
                unreadable += 1
            elif explanation is not None:
                row["explanation"] = _draw(explanation, pictures[path], arguments.full_size)
            for writer in writers:
                writer(row)
    ending = f"; {unusual} {'does' if unusual == 1 else 'do'} not look like {EXPECTED}" if unusual else ""
    for line in (f"{len(paths)} radiographs, {unreadable} could not be read{ending}.", RESEARCH_ONLY):
        print(line, file=sys.stderr if arguments.json else sys.stdout)
    return 1 if unreadable else 0


def _draw(explanation, path: Path, full_size: bool) -> dict[str, Any]:
    row = {"method": explanation.method, "target": explanation.target, "fit": explanation.fit}
    row["panel"] = str(explanation.save_panel(path))
    if full_size:
        row["overlay"] = str(explanation.save_overlay(_overlay_path(path)))
    return row


def _pictures(found: list[tuple[Path, Path]], out: Path, method: str) -> dict[Path, Path]:
    """A name for each radiograph's panel below `out`, in the tree in which the radiographs lie."""
    names: dict[Path, Path] = {}
    taken: set[Path] = set()
    for path, relative in found:
        # "1.2.840.10008.5" is the whole name of a DICOM file, not a name and its ending.
        stem = relative.stem if relative.suffix.lower() in IMAGE_SUFFIXES else relative.name
        picture, number = relative.with_name(f"{stem}.{method}.png"), 1
        while picture in taken:
            number += 1
            picture = relative.with_name(f"{stem}-{number}.{method}.png")
        taken.add(picture)
        names[path] = out / picture
    return names


def _overlay_path(panel: Path) -> Path:
    return panel.with_name(f"{panel.stem}.overlay.png")


def _refuse(written: list[Path], read: list[Path], overwrite: bool) -> None:
    """Say before the work what would be lost by it."""
    existing = [path for path in written if path.exists()]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise InputError(f"{existing[0]}{more}: exists; give another place or --overwrite")
    originals = {path.resolve() for path in read} if existing else set()
    for path in existing:
        if path.resolve() in originals:
            raise InputError(f"{path}: is one of the radiographs and won't be overwritten; give another --out")


class _Table:
    """Rows for a person, printed as they come."""

    def __init__(self, paths: list[Path]):
        self.width = min(max([4, *(len(str(path)) for path in paths)]), 100)
        print(f"{'file':<{self.width}}  {'label':<12}  probability  lungs")

    def __call__(self, row: dict[str, Any]) -> None:
        file = _printable(row["file"]).ljust(self.width)
        if row["error"] is not None:
            print(f"{file}  not read: {_printable(row['error'])}", flush=True)
            return
        said = f"{row['label']:<12}  {row['probability']:11.3f}  {_lungs(row['lungs'])}"
        if row["notes"]:
            said += f"  not like {EXPECTED}: {'; '.join(row['notes'])}"
        if "explanation" in row:
            said += f"  {_printable(row['explanation']['panel'])}"
        print(f"{file}  {said}", flush=True)


class _JsonLines:
    """One JSON object a line, printed as they come: a program can read them before the last is done."""

    def __call__(self, row: dict[str, Any]) -> None:
        print(json.dumps(_finite(row), allow_nan=False), flush=True)


class _Csv:
    """A table for a spreadsheet or pandas, with one probability column a class."""

    def __init__(self, path: Path, classes: Sequence[str], stack: ExitStack):
        self.classes = classes
        # File names that are no valid text come out as the bytes they are.
        file = open(path, "w", newline="", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        self.writer = csv.writer(stack.enter_context(file))
        columns = [f"probability_{label}" for label in classes]
        self.writer.writerow(
            ["file", "label", "probability", *columns, "lungs_trusted", "lungs_reasons", "notes", "error"]
        )

    def __call__(self, row: dict[str, Any]) -> None:
        lungs = row["lungs"] or {}
        self.writer.writerow(
            [
                row["file"],
                row["label"],
                row["probability"],
                *(row["probabilities"].get(label) for label in self.classes),
                lungs.get("trusted"),
                "; ".join(lungs.get("reasons", ())),
                "; ".join(row["notes"]),
                row["error"],
            ]
        )


def _lungs(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return "not looked for"
    return "found" if verdict["trusted"] else f"not trusted: {'; '.join(verdict['reasons'])}"


def _printable(text: str) -> str:
    """A file name may hold bytes that no terminal encoding takes, and line breaks that would break the table."""
    safe = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in safe)


def _finite(value: Any) -> Any:
    """JSON knows no NaN: null stands for a number that is none."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
