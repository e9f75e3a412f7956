"""Probabilities of all radiographs below a folder, as a table for a spreadsheet, pandas or R.

    python examples/export_probabilities.py radiographs/ --out probabilities.csv

The same from the command line: covidcxnet predict radiographs/ --weights covid-cxnet-lite --csv FILE.
Research only: a label is not a diagnosis.
"""

import argparse
import csv
import sys
from pathlib import Path

import covidcxnet
from enhancement import find_images
from enhancement.command_line import run
from enhancement.files import whole_file


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("radiographs", nargs="+", help="files, folders or glob patterns")
    parser.add_argument("--weights", default="covid-cxnet-lite", help="a released name, a weights file or a run folder")
    parser.add_argument("--out", type=Path, default=Path("probabilities.csv"), help="table to write")
    parser.add_argument("--jobs", type=int, default=1, help="processes that read and enhance")
    arguments = parser.parse_args(argv)

    files = find_images(arguments.radiographs)
    classifier = covidcxnet.load_model(arguments.weights)
    unreadable = 0
    # The table appears whole or not at all; the predictions come one by one, so that memory stays flat.
    with whole_file(arguments.out) as partial, _table(partial) as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", *(f"probability_{label}" for label in classifier.classes), "lungs", "error"])
        for one in classifier.iter_predict(files, jobs=arguments.jobs, progress=True):
            unreadable += one.error is not None
            lungs = "" if one.lungs is None else "trusted" if one.lungs.trusted else "; ".join(one.lungs.reasons)
            row = [f"{one.probabilities[label]:.6f}" if one.error is None else "" for label in classifier.classes]
            writer.writerow([one.path, one.label or "", *row, lungs, one.error or ""])
    print(f"{arguments.out}: {len(files)} radiographs, {unreadable} could not be read")
    return 1 if unreadable else 0


def _table(path: Path):
    # a file's name may hold bytes that are no UTF-8
    return open(path, "w", newline="", encoding="utf-8", errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(run(main, prog="export_probabilities.py"))
