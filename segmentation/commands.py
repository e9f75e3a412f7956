"""What the sub-commands do; their flags stand in `segmentation.__main__`."""

from __future__ import annotations

import csv
import json
import sys
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np

from enhancement.errors import InputError
from enhancement.files import check_output, whole_file

from .backend import quiet_backend
from .pairs import Pair, pairs_from_csv, pairs_from_folders


def train(arguments: Namespace, prog: str) -> int:
    """Train, or resume."""
    from . import run_folder, training
    from .augmentation import AUGMENTATIONS
    from .inputs import SegmenterInput

    run = arguments.resume
    if run is None:
        pairs = _pairs(arguments)
        if pairs is None:
            raise InputError("no pairs given; expected --data CSV, or --images DIR --masks DIR, or --resume RUN")
        settings = run_folder.TrainingSettings(
            width=arguments.width,
            batch_norm=arguments.batch_norm,
            scaling=arguments.scaling,
            input=SegmenterInput(arguments.size, arguments.enhancement, fit=arguments.fit),
            augmentation=AUGMENTATIONS[arguments.augment],
            init=arguments.init,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            loss=arguments.loss,
            precision=arguments.precision,
            fractions=tuple(arguments.fractions),
            split_by=arguments.split_by,
            holdout=tuple(arguments.holdout),
            seed=arguments.seed,
            workers=arguments.workers,
        )
        run = run_folder.start_run(pairs, settings, arguments.out)
    for line in run_folder.untrained(run_folder.read_run(run)[0]):
        print(f"note: {line}", file=sys.stderr)
    quiet_backend()
    try:
        best = training.train(run, progress=not arguments.quiet)
    except KeyboardInterrupt:
        message = f"stopped; to go on after the last whole epoch: {prog} train --resume {run}"
        raise KeyboardInterrupt(message) from None
    print(best)
    return 0


def predict(arguments: Namespace, prog: str) -> int:
    """Masks, verdicts and overlays of files."""
    from enhancement import read_radiograph

    from .overlay import FOUND, draw_outline

    check_output(arguments.out, folder=True)
    files = _targets(arguments.inputs)
    table = arguments.out / "verdicts.csv"
    kinds = ("masks", "overlays") if arguments.overlays else ("masks",)
    if not arguments.overwrite:
        there = [p for p in [table, *(arguments.out / k / t for k in kinds for _, t in files)] if p.exists()]
        if there:
            raise InputError(f"{there[0]} is there already; give another --out, or --overwrite")
    segmenter = _segmenter(arguments, arguments.weights, arguments.convention)
    unreadable, rows = [], []
    results = segmenter.stream([path for path, _ in files], progress=not arguments.quiet)
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
            _write_png(arguments.out / "masks" / target, result.mask.astype(np.uint8) * 255)
            if arguments.overlays:
                drawn = draw_outline(read_radiograph(path), result.mask, FOUND)
                _write_png(arguments.out / "overlays" / target, drawn)
        rows.append(row)
    _write_csv(table, rows)
    trusted = sum(row["trusted"] is True for row in rows)
    print(f"{len(rows) - len(unreadable)} masks in {arguments.out}, {trusted} of them trusted; verdicts in {table}")
    for line in unreadable:
        print(f"not read: {line}", file=sys.stderr)
    return 1 if unreadable else 0


def evaluate(arguments: Namespace, prog: str) -> int:
    """Scores of pairs, by source."""
    from .evaluation import score_pairs, split_by_knowledge, summarize
    from .run_folder import BEST, read_run

    pairs, weights, out = _pairs(arguments), arguments.weights, arguments.out
    part = arguments.split or ("all" if pairs else "test")
    if arguments.run is not None:
        own, _ = read_run(arguments.run)
        pairs, weights = pairs or own, weights or arguments.run / BEST
        out = out or arguments.run / "evaluation"
    if out is not None:
        check_output(out, folder=True)
    if pairs is None:
        raise InputError("no pairs given; expected a run folder, --data CSV, or --images DIR --masks DIR")
    if part != "all":
        pairs = [p for p in pairs if p.split == part]
        if not pairs:
            raise InputError(f"split: no pair belongs to {part}; the table needs a column named split for that")
    segmenter = _segmenter(arguments, weights)
    stand_in = arguments.stand_in
    if stand_in is not None and stand_in not in segmenter.conventions:
        known = ", ".join(segmenter.conventions)
        raise InputError(f"stand-in: {stand_in!r} given; {segmenter.path} knows {known}")
    comparable, others = split_by_knowledge(segmenter.conventions, pairs)
    if stand_in is not None:
        comparable = pairs
    if not comparable:
        raise InputError(f"none of {len(pairs)} pairs can be scored: {others[0]['reason']}{_remedy(segmenter)}")
    rows = score_pairs(segmenter, comparable, stand_in=stand_in, progress=not arguments.quiet)
    summary = summarize(rows, samples=arguments.samples)
    _print_summary(f"{segmenter.path}, {part}", summary)
    for other in others:
        what = f"pairs of {other['source']} ({other['pairs']}): {other['reason']}"
        print(f"not scored: {what}{_remedy(segmenter)}" if stand_in is None else f"scored by {stand_in}: {what}")
    if out is not None:
        _write_csv(out / "scores.csv", rows)
        report = {"weights": segmenter.name, "sha256": segmenter.sha256, "part": part, "summary": summary}
        report["other_conventions"] = [{**other, "scored_by": stand_in} for other in others]
        with whole_file(out / "summary.json") as partial:
            partial.write_text(json.dumps(report, indent=1), "utf-8")
        if arguments.sheet > 0:
            _write_png(out / "sheet.png", _sheet(segmenter, comparable, rows, arguments.sheet))
        print(f"scores, summary and contact sheet in {out}")
    return 0


def _print_summary(title: str, summary: dict[str, dict]) -> None:
    print(f"{title}: means, and the median of Dice (95% interval over patients)")
    columns = {"dice": "Dice", "median_dice": "median Dice", "iou": "IoU", "hd95": "HD95 (% of side)"}
    heads = "".join(head.rjust(22) for head in columns.values())
    print(f"{'source':16}{'pairs':>6}{'patients':>9}{heads}{'trusted':>9}")
    for name, s in summary.items():
        cells = "".join(f" {_with_interval(*s[metric])}".rjust(22) for metric in columns)
        print(f"{name:16}{s['pairs']:6}{s['patients']:9}{cells}{s['trusted'][0]:9.1%}")


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.3f}" if low is None else f"{value:.3f} ({low:.3f}-{high:.3f})"


def _remedy(segmenter) -> str:
    return f"; --stand-in {segmenter.conventions[0]} scores them by another convention's masks"


def _sheet(segmenter, pairs: list[Pair], rows: list[dict], count: int) -> np.ndarray:
    """The worst pairs by Dice, with the true outline (blue) and the found one (orange)."""
    from enhancement import read_radiograph

    from .overlay import FOUND, TRUE, contact_sheet, draw_outline
    from .pairs import read_mask

    pictures, captions = [], []
    for i in sorted(range(len(rows)), key=lambda i: rows[i]["dice"])[:count]:
        image = read_radiograph(pairs[i].image)
        found = segmenter.following(rows[i]["output"]).predict(image)[0].mask
        pictures.append(draw_outline(draw_outline(image, read_mask(pairs[i].masks), TRUE), found, FOUND))
        sure = "trusted" if rows[i]["trusted"] else "NOT TRUSTED"
        captions.append(f"{pairs[i].image.stem[:36]}\n{pairs[i].source} Dice {rows[i]['dice']:.3f} {sure}")
    return contact_sheet(pictures, captions)


def _segmenter(arguments: Namespace, weights, convention: str | None = None):
    from .segmenter import LungSegmenter

    segmenter = LungSegmenter(
        weights,
        convention=convention,
        batch_size=arguments.batch_size,
        threshold=arguments.threshold,
        components=arguments.components,
        fill_holes=arguments.fill_holes,
        dilation=arguments.dilation,
    )
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


def _targets(inputs: list[str]) -> list[tuple[Path, Path]]:
    """Each file with the name of its results: its place below the folder it was found in, as PNG."""
    from enhancement.files import find_image_tree

    tree = find_image_tree(inputs)
    names = [relative.with_suffix(".png") for _, relative in tree]
    # a.jpg beside a.png: keep both endings apart.
    names = [r.with_name(r.name + ".png") if names.count(n) > 1 else n for n, (_, r) in zip(names, tree, strict=True)]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InputError(f"two inputs would both be written to {twice}; give one folder above them, or run twice")
    return [(path, name) for (path, _), name in zip(tree, names, strict=True)]


def _write_png(path: Path, image: np.ndarray) -> None:
    """Write ``uint8 [H, W]``, or RGB ``[H, W, 3]``, whole or not at all."""
    with whole_file(path) as partial:
        _, data = cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])
        partial.write_bytes(data.tobytes())


def _write_csv(path: Path, rows: list[dict]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
