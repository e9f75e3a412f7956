"""The command `covidcxnet export`: a trained network for ONNX Runtime, OpenVINO, TFLite or TensorFlow Serving."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from covidcxnet.cli._common import add_data
from covidcxnet.export_formats import EXTRA, FORMATS, INPUT_TYPES, RESEARCH_ONLY, TOLERANCE, default_path
from covidcxnet.reporting.table import count, with_interval
from enhancement.command_line import Parser, command, named_values
from enhancement.errors import InputError


@command("covidcxnet export")
def main(argv: list[str], prog: str) -> int:
    """Export weights: 1 done but some of the images could not be read."""
    text = "Write trained weights for another runtime, compare the two, and describe the input in a file beside it."
    parser = Parser(
        prog=prog,
        description=f"{text} {RESEARCH_ONLY}",
        epilog=f"ONNX needs packages of its own: {EXTRA}. The batch size stays open in all formats.",
    )
    add = parser.add_argument
    add("--weights", required=True, metavar="W", help="weights file, run folder or released name")
    add("--format", required=True, choices=tuple(FORMATS), help="what to write")
    add("--out", type=Path, metavar="PATH", help="file or folder to write; default named after the weights")
    add("--images", nargs="+", default=[], metavar="FILE", help="radiographs to compare on; default phantoms and noise")
    add("--tolerance", type=float, default=TOLERANCE, metavar="T", help="largest accepted difference of a probability")
    add("--input-type", choices=INPUT_TYPES, default="float32", help="number type of the input, 0 to 255 in both")
    add("--overwrite", action="store_true", help="replace an earlier export")
    text = "int8, for OpenVINO: calibrated with --images, its AUROC measured on --data; needs pip install '.[int8]'"
    add("--precision", choices=("f32", "int8"), default="f32", help=text)
    add_data(parser, narrow=False)
    arguments = parser.parse_args(argv)
    if arguments.precision == "int8":
        return _quantize(arguments)
    if arguments.data:
        raise InputError("--data: is for --precision int8, whose AUROC is measured on it")
    path = arguments.out or default_path(arguments.weights, arguments.format)
    # Their names are those of the arguments of `export`.
    names = ("images", "tolerance", "input_type", "overwrite")
    options = {name: getattr(arguments, name) for name in names}
    from covidcxnet.export import export

    done = export(arguments.weights, path, arguments.format, **options)
    difference = done.comparison
    for reason in difference.unreadable:
        print(f"not read: {reason.encode('utf-8', 'backslashreplace').decode()}", file=sys.stderr)
    # OpenVINO's weights lie beside its .xml, and a SavedModel is a folder.
    files = done.path.rglob("*") if done.path.is_dir() else [done.path, done.path.with_suffix(".bin")]
    size = sum(file.stat().st_size for file in files if file.is_file())
    print(f"{done.path}: {size / 1e6:.1f} MB; how to use it: {done.description}")
    print(
        f"largest difference from the Keras model: {difference.difference:.2g} (allowed: {arguments.tolerance:g}) on "
        f"{difference.stacks} stacks of {done.source}, outputs {difference.lowest:.3f} to {difference.highest:.3f}"
    )
    # Last, as an exported network travels without a model card.
    print(RESEARCH_ONLY)
    return 1 if difference.unreadable else 0


def _quantize(arguments: argparse.Namespace) -> int:
    if arguments.format != "openvino":
        raise InputError(f"--precision: int8 is for openvino, {arguments.format} given")
    for flag, what in (("images", "radiographs to calibrate with"), ("data", "labelled radiographs to measure on")):
        if not getattr(arguments, flag):
            raise InputError(f"--precision: int8 needs --{flag}, {what}")
    path = arguments.out or default_path(arguments.weights, "openvino").with_suffix(".int8.xml")
    where = named_values(arguments.where, "--where")

    from covidcxnet.experiments.quantization import quantize

    given = {"images": arguments.images, "data": arguments.data, "root": arguments.root, "where": where}
    done = quantize(arguments.weights, path, **given, overwrite=arguments.overwrite)
    size = (done.path.stat().st_size + done.path.with_suffix(".bin").stat().st_size) / 1e6
    print(f"{done.path}: {size:.1f} MB; calibrated with {count(done.calibration_images, 'radiograph')}")
    patients = "" if done.patients is None else f" of {count(done.patients, 'patient')}"
    both = f"f32 {with_interval(done.auroc_f32)}, INT8 {with_interval(done.auroc_int8)}"
    print(f"AUROC on {count(done.images, 'radiograph')}{patients}: {both}")
    print(f"change of the AUROC, with its 95% interval: {with_interval(done.difference, signed=True)}")
    print(
        f"largest change of a probability: {done.largest_difference:.3f}; thresholds and calibration do not carry over"
    )
    print(RESEARCH_ONLY)
    return 0
