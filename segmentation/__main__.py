"""Command line of the lung segmenter: ``python -m segmentation train | predict | evaluate``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np

from enhancement import command_line
from enhancement.batch import write_image
from enhancement.errors import InputError, printable
from enhancement.files import check_output, find_image_tree, result_names, whole_file, write_csv
from enhancement.radiograph import read_radiograph

from . import training
from .augmentation import AUGMENTATIONS
from .backend import quiet_backend
from .evaluation import score_pairs, split_by_knowledge, summarize
from .losses import LOSSES
from .model import CONVENTIONS, ENHANCEMENTS, FITS, SCALINGS, SegmenterInput
from .overlay import FOUND, TRUE, contact_sheet, draw_outline
from .pairs import SPLITS, Pair, pairs_from_csv, pairs_from_folders, read_mask
from .segmenter import RELEASED, LungSegmenter


@command_line.command("python -m segmentation")
def main(argv: list[str], prog: str) -> int:
    """Run a command: 0; 1 if some files could not be read; 2 if the input cannot be used; 130 after Ctrl-C."""
    arguments = _parser(prog).parse_args(argv)
    return arguments.action(arguments, prog)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = command_line.Parser(prog=prog, description="Lungs on frontal chest radiographs. For research only.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(action, summary: str, description: str) -> argparse.ArgumentParser:
        new = commands.add_parser(action.__name__.lstrip("_"), help=summary, description=description)
        new.set_defaults(action=action)
        command_line.add_progress(new)
        return new

    train = command(
        _train,
        "train a U-Net on pairs of image and mask",
        "Train a lung U-Net. The run folder can be resumed after Ctrl-C or a crash.",
    )
    _add_data(train)
    train.add_argument("--out", type=Path, default=Path("runs/lung-unet"), help="new run folder")
    train.add_argument("--resume", type=Path, metavar="RUN", help="resume this run; no other flag is needed")
    add = train.add_argument_group("network").add_argument
    add("--width", type=int, default=16, help="filters at the first level")
    add("--stride", type=int, choices=(1, 2), default=1, help="2 works at half the resolution, in a third of the time")
    add("--batch-norm", action=argparse.BooleanOptionalAction, default=True, help="normalize batches")
    add("--scaling", choices=SCALINGS, default="unit", help="scaling of the input, inside the network")
    add = train.add_argument_group("input").add_argument
    add("--size", type=int, default=256, help="side of the network's square, a multiple of 16, with --stride 2 of 32")
    add("--enhancement", choices=ENHANCEMENTS, default="clahe", help="of the square")
    add("--fit", choices=FITS, default="pad", help="how a radiograph fills the square")
    add("--augment", choices=tuple(AUGMENTATIONS), default="strong", help="augmentation of the pairs")
    add = train.add_argument_group("training").add_argument
    add("--init", default="", metavar="FILE|NAME", help="initial weights, of the same network; random by default")
    add("--epochs", type=int, default=36, help="passes over the training pairs")
    add("--batch-size", type=int, default=8, help="pairs in a step")
    add("--learning-rate", type=float, default=1e-3, help="of Adam; falls to 0 by a cosine")
    add("--loss", choices=LOSSES, default="combined", help="Dice, cross-entropy or their sum")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="of the computation")
    add("--workers", type=int, default=2, help="threads that augment")
    add("--seed", type=int, default=0, help="of the split, the weights, the order, the augmentation")
    add = train.add_argument_group("split (a split column of the table wins, except for held-out sources)").add_argument
    shares = ("TRAIN", "VALIDATION", "TEST")
    add("--fractions", nargs=3, type=float, metavar=shares, default=(0.7, 0.15, 0.15), help="shares of the three parts")
    add("--split-by", choices=("patient", "source"), default="patient", help="what stays together")
    # Every default here is that of `TrainingSettings`, which takes each flag under its own name.
    add(
        "--holdout", nargs="+", default=(), metavar="SOURCE", help="sources used only for testing, whatever their split"
    )

    predict = command(
        _predict,
        "write lung masks and their verdicts",
        "Write OUT/masks (PNG, 0 and 255, folders kept), OUT/verdicts.csv and, if wanted, OUT/overlays. "
        "docs/guides/enhancement.md explains the columns.",
    )
    predict.add_argument("inputs", nargs="+", metavar="INPUT", help="radiographs: files, folders or globs")
    predict.add_argument("--out", type=Path, required=True, help="folder for the results")
    predict.add_argument("--overlays", action="store_true", help="also draw the outlines on the radiographs")
    predict.add_argument("--overwrite", action="store_true", help="replace existing results")
    _add_segmenter(predict)
    predict.add_argument("--convention", choices=CONVENTIONS, help="which masks; by default the network's first")

    evaluate = command(
        _evaluate,
        "Dice, IoU and Hausdorff distance by source, with intervals",
        "Compare with known masks. A run folder brings its weights, its pairs and its split.",
    )
    evaluate.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run folder of the train command")
    _add_data(evaluate)
    _add_segmenter(evaluate)
    add = evaluate.add_argument
    add("--split", choices=(*SPLITS, "all"), help="part to evaluate: by default test of a run, all of other data")
    stand_in = "score pairs of a mask convention that the network has not learnt by its masks of this one"
    add("--stand-in", choices=CONVENTIONS, help=f"{stand_in}; without it they are counted and not scored")
    add("--samples", type=int, default=2000, help="bootstrap samples over patients")
    add("--out", type=Path, help="folder for scores.csv, summary.json, sheet.png; by default RUN/evaluation")
    add("--sheet", type=int, default=32, metavar="N", help="pairs on the contact sheet, worst first")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("pairs").add_argument
    add("--data", type=Path, metavar="CSV", help="table with image, mask; source, convention, patient")
    add("--root", type=Path, help="folder that the table's paths are relative to")
    add("--images", type=Path, metavar="DIR", help="folder of images")
    add("--masks", type=Path, nargs="+", metavar="DIR", help="folder of masks, or of left and right ones")
    # A wrong one shifts Dice by the heart's area without an error, so that a column of the table outweighs it.
    add("--convention", choices=CONVENTIONS, default=CONVENTIONS[0], help="mask convention where no column names it")


def _add_segmenter(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("segmenter")
    add = group.add_argument
    add("--weights", metavar="FILE|NAME", help=f"weights file or released name; by default {RELEASED}")
    add("--threshold", type=float, default=0.5, help="probability from which a pixel is lung")
    add("--components", type=int, default=2, help="largest components to keep")
    add("--fill-holes", action=argparse.BooleanOptionalAction, default=True, help="fill holes")
    add("--dilation", type=float, default=0.0, help="growth, as a fraction of the longer side")
    add("--batch-size", type=int, default=16, help="radiographs in one pass")
    command_line.add_engine(group, "the network", ("f32", "bf16"))


def _train(arguments: Namespace, prog: str) -> int:
    run = arguments.resume
    if run is None:
        pairs = _pairs(arguments)
        if pairs is None:
            raise InputError("no pairs given; expected --data CSV, or --images DIR --masks DIR, or --resume RUN")
        # Every other setting has a flag of its name.
        names = {f.name for f in dataclasses.fields(training.TrainingSettings)} - {"input", "augmentation"}
        settings = training.TrainingSettings(
            input=SegmenterInput(arguments.size, arguments.enhancement, fit=arguments.fit),
            augmentation=AUGMENTATIONS[arguments.augment],
            **{name: getattr(arguments, name) for name in names},
        )
        run = training.start_run(pairs, settings, arguments.out)
    for line in training.untrained(training.read_run(run)[0]):
        print(f"note: {line}", file=sys.stderr)
    # After the settings are checked: this loads TensorFlow, and errors of input should not wait for it.
    quiet_backend()
    try:
        best = training.train(run, progress=arguments.progress)
    except KeyboardInterrupt:
        message = f"stopped; to resume after the last complete epoch: {prog} train --resume {run}"
        raise KeyboardInterrupt(message) from None
    print(best)
    return 0


def _predict(arguments: Namespace, prog: str) -> int:
    # Before files are listed: a folder of 100,000 takes a while, and a name that cannot be written is known now.
    check_output(arguments.out, folder=True)
    tree = find_image_tree(arguments.inputs)
    files = [(path, name) for (path, _), name in zip(tree, result_names(tree), strict=True)]
    # Before the network is loaded: a name that is taken would else be noticed after minutes of work.
    table = arguments.out / "verdicts.csv"
    kinds = ("masks", "overlays") if arguments.overlays else ("masks",)
    if not arguments.overwrite:
        for path in (table, *(arguments.out / kind / target for kind in kinds for _, target in files)):
            if path.exists():
                raise InputError(f"{path} exists already; give another --out, or --overwrite")
    segmenter = _segmenter(arguments, arguments.weights, arguments.convention)
    unreadable, rows = [], []
    results = segmenter.stream([path for path, _ in files], progress=arguments.progress)
    for (path, target), result in zip(files, results, strict=True):
        row = {"file": str(path), "mask": "", "trusted": "", "reasons": "", "box": "", "error": result.error or ""}
        if result.mask is None or result.verdict is None:
            unreadable.append(f"{path}: {result.error}")
        else:
            values = result.verdict.to_dict()
            values["reasons"] = "; ".join(values["reasons"])
            values["position"] = " ".join(f"{v:.4f}" for v in values["position"])
            row |= {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in values.items()}
            row |= {"mask": f"masks/{target.as_posix()}", "box": " ".join(str(v) for v in result.box or ())}
            write_image(arguments.out / "masks" / target, result.mask.astype(np.uint8) * 255)
            if arguments.overlays:
                drawn = draw_outline(read_radiograph(path), result.mask, FOUND)
                write_image(arguments.out / "overlays" / target, drawn)
        rows.append(row)
    # Last: a table stands only where all of its masks do.
    write_csv(table, rows)
    trusted = sum(row["trusted"] is True for row in rows)
    masks, places = len(rows) - len(unreadable), (printable(arguments.out), printable(table))
    plural = "" if masks == 1 else "s"
    print(f"{masks} mask{plural} in {places[0]}, {trusted} of {masks} trusted; verdicts in {places[1]}")
    for line in unreadable:
        print(f"not read: {printable(line)}", file=sys.stderr)
    return 1 if unreadable else 0


def _evaluate(arguments: Namespace, prog: str) -> int:
    pairs, weights, out = _pairs(arguments), arguments.weights, arguments.out
    # Figures on a run's own training pairs are too high; pairs given by --data are new to it, as far as is known.
    part = arguments.split or ("all" if pairs else "test")
    if arguments.run is not None:
        pairs = pairs or training.read_run(arguments.run)[0]
        weights = weights or arguments.run / training.BEST
        out = out or arguments.run / "evaluation"
    if out is not None:
        check_output(out, folder=True)
    if pairs is None:
        raise InputError("no pairs given; expected a run folder, --data CSV, or --images DIR --masks DIR")
    if part != "all":
        pairs = [p for p in pairs if p.split == part]
        if not pairs:
            raise InputError(f"split: no pair belongs to {part}; the table needs a column named split for that")
    segmenter, stand_in = _segmenter(arguments, weights), arguments.stand_in
    if stand_in is not None and stand_in not in segmenter.conventions:
        known = ", ".join(segmenter.conventions)
        raise InputError(f"stand-in: {stand_in!r} given; {segmenter.path} knows {known}")
    # Conventions differ in what they count as lung, so that a network loses Dice on masks it has not learnt to draw.
    comparable, others = split_by_knowledge(segmenter.conventions, pairs)
    if stand_in is not None:
        comparable = pairs
    remedy = f"; --stand-in {segmenter.conventions[0]} scores them by another convention's masks"
    if not comparable:
        raise InputError(f"none of {len(pairs)} pairs can be scored: {others[0]['reason']}{remedy}")
    rows = score_pairs(segmenter, comparable, stand_in=stand_in, progress=arguments.progress)
    summary = summarize(rows, samples=arguments.samples)

    print(f"{segmenter.path}, {part}: means, and the median of Dice (95% interval over patients)")
    columns = {"dice": "Dice", "median_dice": "median Dice", "iou": "IoU", "hd95": "HD95 (% of side)"}
    lines = [["source", "pairs", "patients", *columns.values(), "trusted"]]
    for name, s in summary.items():
        estimates = [s[metric] for metric in columns]
        cells = [f"{v:.3f}" if low is None else f"{v:.3f} ({low:.3f}-{high:.3f})" for v, low, high in estimates]
        lines.append([name, str(s["pairs"]), str(s["patients"]), *cells, f"{s['trusted'][0]:.1%}"])
    print(_aligned(lines))
    for other in others:
        what = f"pairs of {other['source']} ({other['pairs']}): {other['reason']}"
        print(f"not scored: {what}{remedy}" if stand_in is None else f"scored by {stand_in}: {what}")

    if out is not None:
        write_csv(out / "scores.csv", rows)
        report = {"weights": segmenter.name, "sha256": segmenter.sha256, "part": part, "summary": summary}
        report["other_conventions"] = [{**other, "scored_by": stand_in} for other in others]
        with whole_file(out / "summary.json") as partial:
            partial.write_text(json.dumps(report, indent=1), "utf-8")
        if arguments.sheet > 0:
            write_image(out / "sheet.png", _sheet(segmenter, comparable, rows, arguments.sheet))
        print(f"scores, summary and contact sheet in {printable(out)}")
    return 0


# `covidcxnet.reporting.table` has this too, but stands above this package.
def _aligned(rows: list[list[str]]) -> str:
    """Lines of a table of text: names in the first column, figures that end together in the others."""
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        "  ".join([name.ljust(first), *(text.rjust(width) for text, width in zip(cells, widths, strict=True))])
        for name, *cells in rows
    )


def _sheet(segmenter: LungSegmenter, pairs: list[Pair], rows: list[dict], count: int) -> np.ndarray:
    """The worst pairs by Dice, with the true outline (blue) and the segmenter's (orange)."""
    pictures, captions = [], []
    # Read and segmented again, for these few only: masks of all pairs would not fit in memory.
    for i in sorted(range(len(rows)), key=lambda i: rows[i]["dice"])[:count]:
        image = read_radiograph(pairs[i].image)
        mask = segmenter.following(rows[i]["output"]).predict(image)[0].mask
        assert mask is not None  # it was read and scored above
        pictures.append(draw_outline(draw_outline(image, read_mask(pairs[i].masks), TRUE), mask, FOUND))
        trust = "trusted" if rows[i]["trusted"] else "NOT TRUSTED"
        captions.append(f"{printable(pairs[i].image.stem)[:36]}\n{pairs[i].source} Dice {rows[i]['dice']:.3f} {trust}")
    return contact_sheet(pictures, captions, legend=(("given mask", TRUE), ("segmenter", FOUND)))


def _segmenter(arguments: Namespace, weights, convention: str | None = None) -> LungSegmenter:
    names = ("batch_size", "threshold", "components", "fill_holes", "dilation", "engine", "precision")
    settings = {name: getattr(arguments, name) for name in names}
    # Before the backend loads: weights that cannot be used are refused at once.
    segmenter = LungSegmenter(weights, convention=convention, **settings)
    quiet_backend()
    return segmenter


def _pairs(arguments: Namespace) -> list[Pair] | None:
    if arguments.data is not None and arguments.images is not None:
        raise InputError("--data and --images given; one of them is expected")
    if arguments.data is not None:
        return pairs_from_csv(arguments.data, arguments.root, arguments.convention)
    if (arguments.images is None) != (arguments.masks is None):
        raise InputError("--images and --masks belong together; one is missing")
    if arguments.images is not None:
        return pairs_from_folders(arguments.images, arguments.masks, arguments.convention)
    return None


if __name__ == "__main__":
    sys.exit(main())
