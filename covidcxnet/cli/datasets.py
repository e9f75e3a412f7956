"""The command `covidcxnet datasets`: which sets there are, what is in one, what is wrong with it, and its CSV."""

from __future__ import annotations

from typing import Any

from covidcxnet.cli._common import DATA, add_root, add_work
from enhancement.command_line import Parser, add_engine, add_progress, command


@command("covidcxnet datasets")
def main(argv: list[str], prog: str) -> int:
    """Run one action on data sets: 0 done, 1 done but the check found files to reject."""
    arguments = build_parser(prog).parse_args(argv)

    # After the arguments: both load pandas and OpenCV, which --help does without.
    from covidcxnet.cli import _datasets_checks, _datasets_tables

    module = _datasets_checks if arguments.action in _datasets_checks.ACTIONS else _datasets_tables
    return module.ACTIONS[arguments.action](arguments)


def build_parser(prog: str) -> Parser:
    """A parser with one action after the other."""
    parser = Parser(prog=prog, description="Public data sets by name, and checks of your own before you train on them.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str, data: str | None = None, **nargs: Any) -> Any:
        added = actions.add_parser(name, help=text, description=text)
        if data:
            added.add_argument("data", metavar="DATA", help=data, **nargs)
            add_root(added)
        return added.add_argument

    def add_overwrite(name: str) -> None:
        actions.choices[name].add_argument("--overwrite", action="store_true", help="replace a table that exists")

    action("list", "list the sets known by name")
    add = action("show", "show facts about a set: origin, licence, how to get it, labels, known problems")
    add("name", metavar="NAME")
    action("summary", "count images by class, source, split, view and findings", DATA)

    add = action("check", "open every file and write a table of verdicts", DATA)
    add("--out", default="verdicts.csv", help="CSV to write; train --verdicts reads it")
    add("--pixels", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="size that images should have")
    add_overwrite("check")

    # Copies are looked for in plain folders too, which have no labels yet.
    folders = "NAME:FOLDER, a CSV, or a folder: every image below it, in any layout"
    add = action(
        "duplicates", "find copies: exact, cropped, scaled, mirrored, or with other grey levels", folders, nargs="+"
    )
    add("--out", default="duplicates.csv", help="CSV of pairs; groups (.groups.csv) and a picture (.png) go beside it")
    add("--exclude", action="append", default=[], metavar="PATTERN", help="files to leave out, '*/masks/*'; repeatable")
    add_overwrite("duplicates")

    add = action(
        "bias", "write one HTML page: how well grey levels, border and size predict source and label", DATA, nargs="+"
    )
    add("--out", default="bias.html", help="page to write; the same content goes to a .json beside it")

    add = action(
        "opacities",
        "write radiographs with and without a drawn opacity, so that the source says nothing about the label",
        DATA,
    )
    add("--out", required=True, help="folder to write: images, lesions, pairs.csv, left_out.csv")
    add("--label", default="normal", help="label of the radiographs to use")
    add("--split", metavar="CSV", help="CSV of path and split: test images are left out, and a pair stays on one side")
    add("--size", type=int, default=384, help="longest side in pixels")
    add("--seed", type=int, default=0, help="seed of the drawing")
    add("--segmenter", metavar="W", help="weights that find the lungs; default the released lung-unet")
    add_engine(actions.choices["opacities"], "the lung network", precisions=())

    add = action("convert", "write one CSV of one or several sets, with paths relative to it", DATA, nargs="+")
    add("--out", required=True, metavar="CSV", help="CSV to write; train --data takes it")
    add("--verdicts", action="append", default=[], metavar="CSV", help="table of check, one for each set; repeatable")
    add(
        "--accept",
        action="append",
        default=[],
        metavar="LABEL",
        help="label to merge even where sets define it differently; repeatable",
    )
    add("--duplicates", metavar="CSV", help=".groups.csv of duplicates: copies stay on one side of a split")
    add("--classes", metavar="CLASS[,CLASS]", help="labels to keep")
    add_overwrite("convert")

    add = action("dicom", "write a table of the chest radiographs in DICOM files, with patients as keyed hashes")
    add("inputs", nargs="+", metavar="FILE", help="files, folders or a DICOMDIR")
    add("--out", required=True, metavar="CSV", help="CSV to write; its path must not name a patient")
    text = "CSV: label and path, SOPInstanceUID, StudyInstanceUID, AccessionNumber or PatientID"
    add("--labels", metavar="CSV", help=text)
    text = "key of the patient hashes, created if missing; default in your configuration folder"
    add("--key", metavar="FILE", help=text)
    for name in ("modalities", "body-parts", "views"):
        add(
            f"--{name}",
            metavar="VALUE[,VALUE]",
            help="values to keep, separated by commas; none keeps files without one",
        )
    add_overwrite("dicom")

    for name in ("check", "duplicates", "bias"):
        add_work(actions.choices[name], batch_size=False)
    for name in ("opacities", "dicom"):
        add_progress(actions.choices[name])
    return parser
