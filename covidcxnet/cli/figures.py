"""The command `covidcxnet figures`: t-SNE, feature maps and class activation maps of trained models, side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from covidcxnet.cli._common import add_data, open_data
from enhancement import command_line
from enhancement.errors import InputError
from enhancement.files import check_output

if TYPE_CHECKING:
    from covidcxnet.experiments.figure_inputs import NamedModel, Radiograph

SUMMARY = """Draw what trained models make of radiographs: t-SNE of the features before the head, feature maps of the
first and the last convolution, and CAM (where the head has its closed form) and Grad-CAM of all models side by side on
the same radiographs. Without --images and --data: the first run's validation split. A research tool, not a medical
device."""

KINDS = ("tsne", "features", "maps")
_MOST_ROWS, _MOST_FEATURES = 24, 3


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet figures") -> int:
    """Draw from command-line arguments; each file that was written is a line.

    Returns
    -------
    int
        0 done, 1 done but some files could not be read or a figure could not be drawn, 2 the input cannot be used,
        130 interrupted by Ctrl-C.
    """
    return command_line.run(partial(_figures, prog=prog), argv, prog=prog)


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Flags of the command."""
    parser = command_line.Parser(
        prog=prog,
        description=SUMMARY,
        epilog="Exit code: 0 done, 1 done but some files could not be read or a figure not drawn, 2 the input cannot "
        "be used.",
    )
    parser.add_argument("models", nargs="+", metavar="RUN|WEIGHTS", help="run folders, weights files, released names")
    parser.add_argument("--images", nargs="+", metavar="FILE", help="radiographs, folders or glob patterns")
    add_data(parser)
    parser.add_argument("--split", choices=("validation", "test", "train"), help="of a run; default validation")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the figures")
    parser.add_argument(
        "--only", action="append", choices=KINDS, help="figures to draw, repeatable; default all: tsne, features, maps"
    )
    parser.add_argument(
        "--layer", action="append", default=[], metavar="NAME",
        help="feature layer of Grad-CAM: one for all models, or one for each in their order; default the last one",
    )  # fmt: skip
    parser.add_argument("--target", metavar="CLASS", help="class that maps explain; default the one each predicts")
    parser.add_argument("--lime", action="store_true", help="LIME too; minutes a radiograph and model")
    parser.add_argument("--lime-samples", type=int, default=1000, metavar="N", help="default %(default)s")
    parser.add_argument("--rows", type=int, default=6, metavar="N", help="with maps (default %(default)s)")
    parser.add_argument("--most", type=int, default=1000, metavar="N", help="in t-SNE (default %(default)s)")
    parser.add_argument("--perplexity", type=float, default=30.0, help="of t-SNE (default %(default)g, at most n/3)")
    parser.add_argument("--seed", type=int, default=0, help="of choice, t-SNE and LIME (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that read (default %(default)s)")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True, help="progress bars")
    return parser


def _figures(argv: list[str], prog: str) -> int:
    arguments = build_parser(prog).parse_args(argv)
    _check(arguments)
    radiographs = _radiographs(arguments)

    from covidcxnet.experiments.figure_inputs import choose, load_models
    from covidcxnet.explain.layers import require_cut

    models = load_models(arguments.models)
    layers = arguments.layer * len(models) if len(arguments.layer) == 1 else arguments.layer or [None] * len(models)
    for model, layer in zip(models, layers, strict=True):
        if layer is not None:
            require_cut(model.classifier.model, layer, f"--layer for {model.name}")
        if arguments.target is not None and arguments.target not in model.classifier.classes:
            known = ", ".join(model.classifier.classes)
            raise InputError(f"--target: {arguments.target!r} given, {model.name} knows {known}")
    out, kinds = check_output(arguments.out, folder=True), arguments.only or KINDS
    for target, model in zip(arguments.models, models, strict=True):
        _warn_of_known(target, model, radiographs)
    shown = choose(radiographs, arguments.rows, arguments.seed)
    print(f"{len(models)} models, {len(radiographs)} radiographs; {len(shown)} of them with maps")
    troubles = 0
    if "maps" in kinds:
        troubles += _try(lambda: _draw_maps(models, layers, shown, arguments, out))
    if "features" in kinds:
        for model in models:
            troubles += _try(partial(_draw_features, model, shown, out))
    if "tsne" in kinds:
        troubles += _draw_tsne(models, choose(radiographs, arguments.most, arguments.seed), arguments, out)
    return 1 if troubles else 0


def _warn_of_known(target: str, model: NamedModel, radiographs: list[Radiograph]) -> None:
    """A model's maps and clusters of what it was trained on say little of others."""
    from covidcxnet.evaluation.subject import find_run

    run = find_run(target)
    if run is None:
        return
    trained = run.split.loc[run.split["split"] == "train", "path"]
    known = {(run.dataset.root / path).resolve() for path in trained}
    if number := sum(one.path.resolve() in known for one in radiographs):
        said = f"{number} of these {len(radiographs)} radiographs"
        print(f"warning: {model.name} was trained on {said}; what it makes of them flatters", file=sys.stderr)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.images and (arguments.data or arguments.split):
        raise InputError(f"--images: goes without {'--data' if arguments.data else '--split'}; give one of them")
    if arguments.data and arguments.split:
        raise InputError("--split: is that of a run; leave it out, or leave --data out")
    for flag in ("root", "where", "classes", "verdicts"):
        if getattr(arguments, flag) and not arguments.data:
            raise InputError(f"--{flag}: narrows --data, which is not given")
    if arguments.lime and arguments.only and "maps" not in arguments.only:
        raise InputError("--lime: is drawn beside the other maps; add --only maps")
    if len(arguments.layer) not in (0, 1, len(arguments.models)):
        count = len(arguments.models)
        raise InputError(f"--layer: {len(arguments.layer)} given for {count} models; give one, or one for each")
    for flag, low, high in (
        ("rows", 1, _MOST_ROWS),
        ("most", 8, 20_000),
        ("batch_size", 1, 4096),
        ("jobs", 1, 1024),
        ("lime_samples", 10, 100_000),
    ):
        if not low <= getattr(arguments, flag) <= high:
            name = flag.replace("_", "-")
            raise InputError(f"--{name}: {getattr(arguments, flag)} given, {low} to {high} expected")
    if not arguments.perplexity > 0:
        raise InputError(f"--perplexity: {arguments.perplexity:g} given, a number above 0 expected")


def _radiographs(arguments: argparse.Namespace) -> list[Radiograph]:
    from covidcxnet.experiments.figure_inputs import from_dataset, from_files

    if arguments.images:
        from enhancement.files import find_images

        return from_files(find_images(arguments.images))
    if arguments.data:
        return from_dataset(open_data(arguments))
    from covidcxnet.evaluation.subject import find_run

    run = next((found for found in map(find_run, arguments.models) if found is not None), None)
    if run is None:
        raise InputError("--images or --data: one of them is needed, as none of the models is a run with data")
    side, dataset = arguments.split or "validation", run.dataset
    own = set(run.split.loc[run.split["split"] == side, "path"])
    rows = dataset.table["path"].isin(own)
    if not rows.any():
        raise InputError(f"--split: {run.path} has no image in {side}")
    print(f"radiographs: {side} split of {run.path}")
    from covidcxnet.datasets import Dataset

    return from_dataset(Dataset(dataset.table[rows], dataset.root, dataset.classes, dataset.name))


def _draw_maps(models: list[NamedModel], layers, shown: list[Radiograph], arguments, out: Path) -> int:
    from covidcxnet.experiments.figures import activation_maps, draw
    from covidcxnet.reporting.plots import save as save_figure

    columns, troubles = [], 0
    for model, layer in zip(models, layers, strict=True):
        try:
            columns += activation_maps(
                model,
                shown,
                layer=layer,
                methods=("cam", "gradcam", "lime") if arguments.lime else ("cam", "gradcam"),
                target=arguments.target,
                samples=arguments.lime_samples,
                seed=arguments.seed,
                jobs=arguments.jobs,
                progress=arguments.progress,
            )
        except InputError as error:
            print(f"left out: maps of {model.name}: {command_line.one_line(error)}")
            troubles += 1
    for k, radiograph in enumerate(shown):
        reasons = [column.cells[k].error for column in columns if column.cells[k].error]
        if reasons:
            print(f"not read: {radiograph.path}: {reasons[0]}")
            troubles += 1
    print(save_figure(draw(shown, columns), out / "activation-maps.png"))
    return troubles


def _draw_features(model: NamedModel, shown: list[Radiograph], out: Path) -> int:
    from covidcxnet.experiments.feature_maps import draw, feature_maps
    from covidcxnet.experiments.figure_inputs import stacks_of
    from covidcxnet.reporting.plots import save as save_figure

    chosen, made = _one_each(shown), 0
    for rows, stacks in stacks_of(model, chosen):
        for row, stack in zip(rows, stacks, strict=True):
            made += 1
            picture = draw(model, stack, feature_maps(model.classifier.model, stack), chosen[row].caption)
            print(save_figure(picture, out / f"feature-maps-{model.file_name}-{made}.png"))
    return 0 if made else 1


def _one_each(shown: list[Radiograph]) -> list[Radiograph]:
    """The first of each class, the first few where classes are not known."""
    first = {one.label if one.label is not None else k: one for k, one in reversed(list(enumerate(shown)))}
    return [one for one in shown if any(one is other for other in first.values())][:_MOST_FEATURES]


def _draw_tsne(models: list[NamedModel], radiographs: list[Radiograph], arguments, out: Path) -> int:
    from covidcxnet.experiments.embedding import FEWEST, draw, embed, table
    from covidcxnet.reporting.plots import save as save_figure
    from enhancement.files import whole_file

    if len(radiographs) < FEWEST:
        print(f"left out: t-SNE: {len(radiographs)} radiographs given, {FEWEST} or more expected")
        return 1 if arguments.only and "tsne" in arguments.only else 0
    embeddings, troubles = [], 0
    for model in models:

        def one(model: NamedModel = model) -> int:
            embeddings.append(
                embed(
                    model,
                    radiographs,
                    perplexity=arguments.perplexity,
                    seed=arguments.seed,
                    batch_size=arguments.batch_size,
                    jobs=arguments.jobs,
                    progress=arguments.progress,
                )
            )
            return embeddings[-1].unreadable

        troubles += _try(one)
    if embeddings:
        print(save_figure(draw(embeddings), out / "tsne.png"))
        with whole_file(out / "tsne.csv") as partial_file:
            table(embeddings).to_csv(partial_file, index=False)
        print(out / "tsne.csv")
    return troubles


def _try(work: Callable[[], int]) -> int:
    """Do it; what can't be drawn is said and the other figures go on."""
    try:
        return work()
    except InputError as error:
        print(f"left out: {command_line.one_line(error)}")
        return 1
