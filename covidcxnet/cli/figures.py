"""The command `covidcxnet figures`: t-SNE, feature maps and class activation maps of trained models, side by side."""

from __future__ import annotations

import argparse
import sys

from covidcxnet.cli._common import LIME_SAMPLES, RESEARCH_ONLY, add_data, add_work, lime_samples, open_data, words
from enhancement.command_line import Parser, at_least, command
from enhancement.errors import InputError
from enhancement.files import check_output, find_images

SUMMARY = f"""Draw what trained models make of radiographs: t-SNE of the features before the head, feature maps of the
first and the last convolution, and CAM (where the head has its closed form) and Grad-CAM of all models side by side on
the same radiographs. Without --images and --data: the first run's validation split. {RESEARCH_ONLY}"""
KINDS = ("tsne", "features", "maps")
_MOST_ROWS = 24
_MOST, _PHANTOMS = 1000, 200  # radiographs in t-SNE where --most is not given; to render more phantoms takes minutes


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Flags of the command."""
    epilog = "Exit code: 0 done, 1 done but some files or figures were left out, 2 the input cannot be used."
    parser = Parser(prog=prog, description=SUMMARY, epilog=epilog)
    add = parser.add_argument
    add("models", nargs="+", metavar="RUN|WEIGHTS", help="run folders, weights files, released names")
    add("--images", nargs="+", metavar="FILE", help="radiographs, folders or glob patterns")
    add_data(parser)
    add("--split", choices=("validation", "test", "train"), help="part of a run's images to use; default validation")
    add("--out", required=True, metavar="DIR", help="folder of the figures")
    text = "figures to draw; repeatable; default all but text, predictions with burned-in letters and without them"
    add("--only", action="append", choices=(*KINDS, "text"), help=text)
    text = "feature layer of Grad-CAM: one for all models, or one for each in their order; default the last one"
    add("--layer", action="append", default=[], metavar="NAME", help=text)
    text = "layers whose first feature map is drawn, of all models in one picture, as in first:9,last:3 or names"
    add("--layers", type=words, default=(), metavar="LAYER[,LAYER]", help=text)
    add("--target", metavar="CLASS", help="class to explain; default the predicted one")
    add("--lime", action="store_true", help="LIME too: minutes for each radiograph and model")
    add("--lime-samples", type=lime_samples, default=1000, metavar="N", help=LIME_SAMPLES)
    add("--rows", type=at_least(1, _MOST_ROWS), default=6, metavar="N", help="radiographs with maps")
    text = f"radiographs in t-SNE; default {_MOST}, of --data phantom {_PHANTOMS}"
    add("--most", type=at_least(8, 20_000), metavar="N", help=text)
    add("--perplexity", type=float, default=30.0, help="perplexity of t-SNE, at most a third of the radiographs")
    add_work(parser, jobs=1, seed="the choice, t-SNE and LIME")
    return parser


@command("covidcxnet figures")
def main(argv: list[str], prog: str) -> int:
    """Draw; each file that was written is a line: 1 done but a file could not be read or a figure not drawn."""
    arguments = build_parser(prog).parse_args(argv)
    _check(arguments)

    from covidcxnet.datasets.phantom import PHANTOM_CLASSES
    from covidcxnet.experiments.figure_inputs import from_dataset, from_files, from_run, load_models, trained_on
    from covidcxnet.experiments.figures import draw_all
    from covidcxnet.explain.layers import chosen_layers, require_cut

    if arguments.images:
        radiographs = from_files(find_images(arguments.images))
    elif arguments.data:
        # Of other figures than t-SNE only a few are seen; --where needs enough to choose from.
        few = max(arguments.rows, len(PHANTOM_CLASSES))
        phantoms = (arguments.most or _PHANTOMS) if "tsne" in (arguments.only or KINDS) else few
        radiographs = from_dataset(open_data(arguments, phantom_images=600 if arguments.where else phantoms))
    else:
        split = arguments.split or "validation"
        radiographs, run = from_run(arguments.models, split)
        print(f"radiographs: {split} split of {run}")
    models = load_models(arguments.models)
    # Every layer and class is checked before the first figure, which may take minutes.
    layers = arguments.layer * len(models) if len(arguments.layer) == 1 else arguments.layer or [None] * len(models)
    for model, layer in zip(models, layers, strict=True):
        chosen_layers(model.classifier.model, arguments.layers, f"--layers for {model.name}")
        if layer is not None:
            require_cut(model.classifier.model, layer, f"--layer for {model.name}")
        if arguments.target is not None and arguments.target not in model.classifier.classes:
            known = ", ".join(model.classifier.classes)
            raise InputError(f"--target: {arguments.target!r} given, {model.name} knows {known}")
    out = check_output(arguments.out, folder=True)
    # Maps and clusters of training images look better than the model is.
    for name, model in zip(arguments.models, models, strict=True):
        if number := trained_on(name, radiographs):
            print(
                f"warning: {model.name} was trained on {number} of these {len(radiographs)} radiographs; figures of "
                "them are too good",
                file=sys.stderr,
            )
    names = ("rows", "perplexity", "seed", "batch_size", "jobs", "progress")
    problems = draw_all(
        models,
        radiographs,
        out,
        kinds=arguments.only or KINDS,
        methods=("cam", "gradcam", *(["lime"] if arguments.lime else [])),
        layers=layers,
        feature_layers=arguments.layers,
        target=arguments.target,
        samples=arguments.lime_samples,
        most=arguments.most or _MOST,
        **{name: getattr(arguments, name) for name in names},
    )
    return 1 if problems else 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.images and (arguments.data or arguments.split):
        flag = "--data" if arguments.data else "--split"
        raise InputError(f"--images: cannot be combined with {flag}; give one of them")
    if arguments.data and arguments.split:
        raise InputError("--split: is part of a run; leave it out, or leave --data out")
    # Flags without effect are refused: whoever gives one expects other radiographs than would be drawn.
    for flag in ("root", "where", "classes", "verdicts"):
        if getattr(arguments, flag) and not arguments.data:
            raise InputError(f"--{flag}: belongs to --data, which is not given")
    if arguments.lime and arguments.only and "maps" not in arguments.only:
        raise InputError("--lime: is drawn beside the other maps; add --only maps")
    if arguments.layers and arguments.only and "features" not in arguments.only:
        raise InputError("--layers: are those of feature maps; add --only features, or give --layer for Grad-CAM")
    count = len(arguments.models)
    if len(arguments.layer) not in (0, 1, count):
        raise InputError(f"--layer: {len(arguments.layer)} given for {count} models; give one, or one for each")
    if not arguments.perplexity > 0:
        raise InputError(f"--perplexity: {arguments.perplexity:g} given, a number above 0 expected")
