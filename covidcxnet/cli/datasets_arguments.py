"""Flags of the command `covidcxnet datasets`; what they do stands in `datasets_command`."""

from __future__ import annotations

import argparse

from enhancement import command_line

_SUMMARY = (
    "The command `covidcxnet datasets`: what sets there are, what is in one, what is wrong with it, and it as a CSV."
)
_DATA = "NAME:FOLDER (NAME,option=value:FOLDER), a folder with a folder per class, or a CSV"


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Arguments of all nine."""
    parser = command_line.Parser(prog=prog, description=_SUMMARY)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="list|show|summary|check|duplicates|bias|opacities|convert|dicom"
    )
    commands.add_parser("list", help="sets known by name")
    show = commands.add_parser("show", help="facts about a set: origin, licence, how to get it, labels, known problems")
    show.add_argument("name")
    summary = commands.add_parser("summary", help="images by class, source, split, view and findings")
    _data(summary)
    check = commands.add_parser("check", help="open every file and write a table of verdicts")
    _data(check)
    check.add_argument("--out", default="verdicts.csv", help="CSV to write (%(default)s); train --verdicts reads it")
    check.add_argument("--jobs", type=int, default=None, help="processes; one a core")
    check.add_argument("--pixels", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="size that images should have")
    check.add_argument("--quiet", action="store_true", help="no progress bar")
    duplicates = commands.add_parser("duplicates", help="find copies: exact, cropped, scaled, tinted, mirrored")
    _data(duplicates, several=True, says="NAME:FOLDER, a CSV, or a folder: every image below it, however it lies")
    duplicates.add_argument(
        "--out", default="duplicates.csv", help="CSV of pairs (%(default)s); beside it .groups.csv and a picture, .png"
    )
    duplicates.add_argument(
        "--exclude", action="append", default=[], help="pattern of files in plain folders to leave out: '*/masks/*'"
    )
    duplicates.add_argument("--jobs", type=int, default=None, help="processes that read; one a core")
    duplicates.add_argument("--quiet", action="store_true", help="no progress bar")
    bias = commands.add_parser("bias", help="what simple image statistics tell of source and label; one HTML page")
    _data(bias, several=True)
    bias.add_argument("--out", default="bias.html", help="page to write (%(default)s), and the same as .json")
    bias.add_argument("--jobs", type=int, default=None, help="processes that read; one a core")
    bias.add_argument("--quiet", action="store_true", help="no progress bar")
    opacities = commands.add_parser(
        "opacities", help="each radiograph once as it is and once with a drawn opacity: a task that no place can solve"
    )
    _data(opacities)
    opacities.add_argument("--out", required=True, help="folder to write: images, lesions, pairs.csv, left_out.csv")
    opacities.add_argument("--label", default="normal", help="radiographs to take (%(default)s)")
    opacities.add_argument("--split", help="CSV of path and split: test is left out, both of a pair go to one side")
    opacities.add_argument("--size", type=int, default=384, help="longest side, pixels (%(default)s)")
    opacities.add_argument("--seed", type=int, default=0, help="of what is drawn (%(default)s)")
    opacities.add_argument("--segmenter", help="weights that find the lungs; the released lung-unet")
    opacities.add_argument("--quiet", action="store_true", help="no progress bar")
    convert = commands.add_parser("convert", help="one CSV of one or several sets, paths relative to it")
    _data(convert, several=True)
    convert.add_argument("--out", required=True, help="CSV to write; train --data takes it")
    convert.add_argument("--verdicts", action="append", default=[], help="tables of check, one for each set")
    convert.add_argument(
        "--accept", action="append", default=[], help="label that may mean different things in the sets"
    )
    convert.add_argument("--duplicates", help="the .groups.csv of duplicates over the same sets: no split parts copies")
    convert.add_argument("--classes", help="labels to keep, with commas")
    dicom = commands.add_parser(
        "dicom", help="a table of the chest radiographs in DICOM files, patients as keyed hashes"
    )
    dicom.add_argument("inputs", nargs="+", help="files, folders or a DICOMDIR")
    dicom.add_argument("--out", required=True, help="CSV to write; it must lie where no patient is named in its path")
    dicom.add_argument(
        "--labels", help="CSV: label and path, SOPInstanceUID, StudyInstanceUID, AccessionNumber or PatientID"
    )
    dicom.add_argument(
        "--key", help="file with the key of patient hashes, made if missing (default: in the user's settings)"
    )
    for one in (check, duplicates, convert, dicom):
        one.add_argument("--overwrite", action="store_true", help="replace a table that exists")
    for name in ("modalities", "body_parts", "views"):
        dicom.add_argument(f"--{name}", help="values to take, with commas; none stands for files that say nothing")
    dicom.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _data(parser: argparse.ArgumentParser, several: bool = False, says: str = _DATA) -> None:
    parser.add_argument("data", nargs="+" if several else None, metavar="DATA", help=says)
    parser.add_argument("--root", help="what a CSV's paths are relative to")
