"""The command `covidcxnet export`: a trained network for ONNX Runtime, OpenVINO, TFLite or TensorFlow Serving."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from covidcxnet.export import INPUT_TYPES, RESEARCH_ONLY, TOLERANCE, default_path, export
from covidcxnet.export_formats import EXTRA, FORMATS
from enhancement import command_line


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet export") -> int:
    """Export a weights file from command-line arguments.

    Returns
    -------
    int
        0 done, 1 done but some of the images could not be read, 2 the input cannot be used, 130 interrupted.
    """
    return command_line.run(partial(_run, prog=prog), argv, prog=prog)


def _run(argv: list[str], prog: str) -> int:
    arguments = _parser(prog).parse_args(argv)
    path = arguments.out or default_path(arguments.weights, arguments.format)
    done = export(
        arguments.weights,
        path,
        arguments.format,
        images=arguments.images,
        tolerance=arguments.tolerance,
        input_type=arguments.input_type,
        overwrite=arguments.overwrite,
    )
    found = done.comparison
    for reason in found.unreadable:
        print(f"not read: {reason.encode('utf-8', 'backslashreplace').decode()}", file=sys.stderr)
    print(f"{done.path}: {_bytes(done.path) / 1e6:.1f} MB; how to feed it: {done.description}")
    print(
        f"largest difference from the Keras model: {found.difference:.2g} (allowed: {arguments.tolerance:g}) on "
        f"{found.stacks} stacks of {done.source}, outputs {found.lowest:.3f} to {found.highest:.3f}"
    )
    print(RESEARCH_ONLY)
    return 1 if found.unreadable else 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = command_line.Parser(
        prog=prog,
        description="Write trained weights for another runtime, compare the two, and describe the input beside it. "
        + RESEARCH_ONLY,
        epilog=f"ONNX and OpenVINO need packages of their own: {EXTRA}. The batch size stays open in all formats.",
    )
    parser.add_argument(
        "--weights", required=True, metavar="W", help="a .weights.h5 file, a run folder or a released name"
    )
    parser.add_argument("--format", required=True, choices=tuple(FORMATS), help="what to write")
    parser.add_argument("--out", type=Path, metavar="PATH", help="default: NAME.onnx, .xml, .tflite, NAME-savedmodel")
    text = "radiographs or folders to compare on; default: phantoms and noise"
    parser.add_argument("--images", nargs="+", default=[], metavar="FILE", help=text)
    text = f"largest accepted difference of a probability; default {TOLERANCE:g}"
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, metavar="T", help=text)
    text = "number type of the input, 0..255 in both; default float32"
    parser.add_argument("--input-type", choices=INPUT_TYPES, default="float32", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    return parser


def _bytes(path: Path) -> int:
    """Size of an export with all that belongs to it."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    beside = path.with_suffix(".bin")
    return path.stat().st_size + (beside.stat().st_size if path.suffix == ".xml" else 0)
