"""Command line of the lung segmenter: ``python -m segmentation train | predict | evaluate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from enhancement import command_line

from .inputs import ENHANCEMENTS, FITS
from .unet import CONVENTIONS, SCALINGS


def main(argv: Sequence[str] | None = None, prog: str = "python -m segmentation") -> int:
    """Run a command.

    Returns
    -------
    int
        0; 1 if some files could not be read; 2 if what was given cannot be used; 130 after Ctrl-C.
    """
    return command_line.run(partial(_run, prog=prog), argv, prog=prog)


def _run(argv: list[str], prog: str) -> int:
    arguments = _parser(prog).parse_args(argv)
    # Here, not above: --help must not load Keras.
    from . import commands

    return getattr(commands, arguments.command)(arguments, prog)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = command_line.Parser(prog=prog, description="Lungs on frontal chest radiographs. For research only.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_train, _add_predict, _add_evaluate):
        command = add(commands)
        command.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def _add_train(commands) -> argparse.ArgumentParser:
    new = commands.add_parser(
        "train",
        help="train a U-Net on pairs of image and mask",
        description="Train a lung U-Net. The run folder can be resumed after Ctrl-C or a crash.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_data(new)
    new.add_argument("--out", type=Path, default=Path("runs/lung-unet"), help="run folder to make")
    new.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run; nothing else is needed")
    network = new.add_argument_group("network")
    network.add_argument("--width", type=int, default=16, help="filters at the first level")
    network.add_argument("--batch-norm", action=argparse.BooleanOptionalAction, default=True, help="normalise batches")
    network.add_argument("--scaling", choices=SCALINGS, default="unit", help="of the input, inside the network")
    seen = new.add_argument_group("input")
    seen.add_argument("--size", type=int, default=256, help="side of the square that the network sees; times 16")
    seen.add_argument("--enhancement", choices=ENHANCEMENTS, default="clahe", help="of the square")
    seen.add_argument("--fit", choices=FITS, default="pad", help="how a radiograph fills the square")
    seen.add_argument("--augment", choices=("strong", "mild", "none"), default="strong", help="how pairs are varied")
    training = new.add_argument_group("training")
    training.add_argument(
        "--init", default="", metavar="FILE | NAME", help="weights to begin with, of the same network; random if empty"
    )
    training.add_argument("--epochs", type=int, default=36, help="passes over the training pairs")
    training.add_argument("--batch-size", type=int, default=8, help="pairs in a step")
    training.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam; falls to 0 by a cosine")
    training.add_argument("--loss", choices=("combined", "dice", "bce"), default="combined", help="loss")
    precisions = ("float32", "bfloat16")
    training.add_argument("--precision", choices=precisions, default="float32", help="of the computation")
    training.add_argument("--workers", type=int, default=2, help="threads that augment")
    training.add_argument("--seed", type=int, default=0, help="of the split, the weights, the order, the augmentation")
    split = new.add_argument_group("split (a split column of the table wins, but for held-out sources)")
    shares = {"nargs": 3, "type": float, "metavar": ("TRAIN", "VALIDATION", "TEST")}
    split.add_argument("--fractions", **shares, default=(0.7, 0.15, 0.15), help="shares of the three parts")
    split.add_argument("--split-by", choices=("patient", "source"), default="patient", help="what stays together")
    split.add_argument(
        "--holdout", nargs="+", default=(), metavar="SOURCE", help="sources that only test, whatever their split"
    )
    return new


def _add_predict(commands) -> argparse.ArgumentParser:
    new = commands.add_parser(
        "predict",
        help="write lung masks and their verdicts",
        description="Write OUT/masks (PNG, 0 and 255, folders kept), OUT/verdicts.csv and, if wanted, OUT/overlays.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    new.add_argument("inputs", nargs="+", metavar="INPUT", help="radiographs: files, folders or globs")
    new.add_argument("--out", type=Path, required=True, help="folder for the results")
    new.add_argument("--overlays", action="store_true", help="also draw the outlines on the radiographs")
    new.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    _add_segmenter(new)
    new.add_argument("--convention", choices=CONVENTIONS, help="which masks to give; by default the network's first")
    return new


def _add_evaluate(commands) -> argparse.ArgumentParser:
    new = commands.add_parser(
        "evaluate",
        help="Dice, IoU and Hausdorff distance by source, with intervals",
        description="Compare with known masks. A run folder brings its weights, its pairs and its split.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    new.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run folder of the train command")
    _add_data(new)
    _add_segmenter(new)
    parts = ("train", "validation", "test", "all")
    new.add_argument("--split", choices=parts, help="part to evaluate: test of a run, all of other data")
    new.add_argument(
        "--stand-in",
        choices=CONVENTIONS,
        help="score pairs whose mask convention the network has not learnt by its masks of this one; else they are "
        "counted and not scored",
    )
    new.add_argument("--samples", type=int, default=2000, help="bootstrap samples over patients")
    new.add_argument("--out", type=Path, help="folder for scores.csv, summary.json, sheet.png; else RUN/evaluation")
    new.add_argument("--sheet", type=int, default=32, metavar="N", help="pairs on the contact sheet, worst first")
    return new


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("pairs")
    data.add_argument("--data", type=Path, metavar="CSV", help="table with image, mask; source, convention, patient")
    data.add_argument("--root", type=Path, help="folder that the table's paths are relative to")
    data.add_argument("--images", type=Path, metavar="DIR", help="folder of images")
    data.add_argument("--masks", type=Path, nargs="+", metavar="DIR", help="folder of masks, or of left and right ones")
    convention = "mask convention where no column tells it"
    data.add_argument("--convention", choices=CONVENTIONS, default=CONVENTIONS[0], help=convention)


def _add_segmenter(parser: argparse.ArgumentParser) -> None:
    segmenter = parser.add_argument_group("segmenter")
    segmenter.add_argument("--weights", metavar="FILE|NAME", help="weights file or released name; else lung-unet")
    segmenter.add_argument("--threshold", type=float, default=0.5, help="probability from which a pixel is lung")
    segmenter.add_argument("--components", type=int, default=2, help="largest components to keep")
    segmenter.add_argument("--fill-holes", action=argparse.BooleanOptionalAction, default=True, help="fill holes")
    segmenter.add_argument("--dilation", type=float, default=0.0, help="growth, as a fraction of the longer side")
    segmenter.add_argument("--batch-size", type=int, default=16, help="radiographs in one pass")


if __name__ == "__main__":
    sys.exit(main())
