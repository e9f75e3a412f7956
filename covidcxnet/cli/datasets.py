"""The command `covidcxnet datasets`: which sets there are, what is in one, what is wrong with it, and its CSV."""

from __future__ import annotations

from typing import Any

from covidcxnet.cli._common import DATA
from enhancement.command_line import Parser, add_progress, at_least, command


@command("covidcxnet datasets")
def main(argv: list[str], prog: str) -> int:
    """Run one action on data sets: 0 done, 1 done but the check found files to reject."""
    parser = Parser(prog=prog, description="Public data sets by name, and checks of your own before you train on them.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> Any:
        return actions.add_parser(name, help=text, description=text)

    action("list", "list the sets known by name")
    show = action("show", "show facts about a set: origin, licence, how to get it, labels, known problems")
    show.add_argument("name", metavar="NAME")
    _data(action("summary", "count images by class, source, split, view and findings"))
    _check(action("check", "open every file and write a table of verdicts"))
    _duplicates(action("duplicates", "find copies: exact, cropped, scaled, tinted or mirrored"))
    _bias(action("bias", "write one HTML page: how well simple image statistics predict source and label"))
    text = "write each radiograph twice, with and without a drawn opacity: a task that no source can give away"
    _opacities(action("opacities", text))
    _convert(action("convert", "write one CSV of one or several sets, with paths relative to it"))
    _dicom(action("dicom", "write a table of the chest radiographs in DICOM files, with patients as keyed hashes"))
    arguments = parser.parse_args(argv)

    # After the arguments: both load pandas and OpenCV, which --help does without.
    from covidcxnet.cli import _datasets_checks, _datasets_tables

    module = _datasets_checks if arguments.action in _datasets_checks.ACTIONS else _datasets_tables
    return module.ACTIONS[arguments.action](arguments)


def _data(parser: Any, several: bool = False, text: str = DATA) -> None:
    parser.add_argument("data", nargs="+" if several else None, metavar="DATA", help=text)
    parser.add_argument("--root", metavar="DIR", help="folder that the CSV's paths are relative to")


def _reading(parser: Any) -> None:
    text = "processes that read images; default one per core"
    parser.add_argument("--jobs", type=at_least(1), metavar="N", help=text)
    add_progress(parser)


def _overwrite(parser: Any) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace a table that exists")


def _check(parser: Any) -> None:
    _data(parser)
    parser.add_argument("--out", default="verdicts.csv", help="CSV to write; train --verdicts reads it")
    parser.add_argument("--pixels", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="size that images should have")
    _overwrite(parser)
    _reading(parser)


def _duplicates(parser: Any) -> None:
    _data(parser, several=True, text="NAME:FOLDER, a CSV, or a folder: every image below it, in any layout")
    text = "CSV of pairs; the groups (.groups.csv) and a picture (.png) are written beside it"
    parser.add_argument("--out", default="duplicates.csv", help=text)
    text = "pattern of files in plain folders to leave out: '*/masks/*'; repeatable"
    parser.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help=text)
    _overwrite(parser)
    _reading(parser)


def _bias(parser: Any) -> None:
    _data(parser, several=True)
    parser.add_argument("--out", default="bias.html", help="page to write; the same content goes to a .json beside it")
    _reading(parser)


def _opacities(parser: Any) -> None:
    _data(parser)
    parser.add_argument("--out", required=True, help="folder to write: images, lesions, pairs.csv, left_out.csv")
    parser.add_argument("--label", default="normal", help="label of the radiographs to use")
    text = "CSV of path and split: test images are left out, and both images of a pair are on the same side"
    parser.add_argument("--split", metavar="CSV", help=text)
    parser.add_argument("--size", type=int, default=384, help="longest side in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawing")
    parser.add_argument("--segmenter", metavar="W", help="weights that find the lungs; default the released lung-unet")
    add_progress(parser)


def _convert(parser: Any) -> None:
    _data(parser, several=True)
    parser.add_argument("--out", required=True, metavar="CSV", help="CSV to write; train --data takes it")
    text = "table written by check, one for each set; repeatable"
    parser.add_argument("--verdicts", action="append", default=[], metavar="CSV", help=text)
    text = "label to merge although its meaning differs between the sets; repeatable"
    parser.add_argument("--accept", action="append", default=[], metavar="LABEL", help=text)
    text = "the .groups.csv of duplicates over the same sets: copies stay on one side of a split"
    parser.add_argument("--duplicates", metavar="CSV", help=text)
    parser.add_argument("--classes", metavar="CLASS[,CLASS]", help="labels to keep")
    _overwrite(parser)


def _dicom(parser: Any) -> None:
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="files, folders or a DICOMDIR")
    text = "CSV to write; its path must not name a patient"
    parser.add_argument("--out", required=True, metavar="CSV", help=text)
    text = "CSV: label and path, SOPInstanceUID, StudyInstanceUID, AccessionNumber or PatientID"
    parser.add_argument("--labels", metavar="CSV", help=text)
    text = "key file of the patient hashes, created if missing; default in your user configuration folder"
    parser.add_argument("--key", metavar="FILE", help=text)
    for name in ("modalities", "body-parts", "views"):
        text = "values to take, with commas; none for files without one"
        parser.add_argument(f"--{name}", metavar="VALUE[,VALUE]", help=text)
    _overwrite(parser)
    add_progress(parser)
