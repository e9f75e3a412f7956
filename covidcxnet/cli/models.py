"""The command `covidcxnet models`: which classifiers there are, their size, their pretrained weights, a drawing."""

from __future__ import annotations

import argparse
import json
from typing import Any

from covidcxnet.cli._common import add_action
from enhancement.command_line import Parser, at_least, command, did_you_mean
from enhancement.errors import InputError
from enhancement.files import check_output

FLOPS = "two for each multiply-add of convolutions and dense layers, for one stack; many tables print half of it"
LICENCES = (
    "as the documentation of keras.applications states them for each network (Keras 2.2, section License); where it "
    "states none, that of the repository the weights come from; ImageNet's own terms are for non-commercial research"
)


@command("covidcxnet models")
def main(argv: list[str], prog: str) -> int:
    """Run one action on the models of the registry."""
    parser = Parser(
        prog=prog,
        description="Classifiers by name, for train.py --model NAME.",
        epilog=f"FLOPs: {FLOPS}. Licences of weights: {LICENCES}.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    action = add_action(actions, "list", _list, "list all: stack, parameters, FLOPs, weights; for two classes")
    action.add_argument("--json", action="store_true", help="print all that is known as JSON")
    text = "show all that is known; --size, --channels, --classes build and count it"
    showing = add_action(actions, "show", _show, text)
    showing.add_argument("name", metavar="NAME")
    showing.add_argument("--json", action="store_true", help="print it as JSON")
    text = "draw a network as blocks with output shapes and parameters, repeated blocks once"
    drawing = add_action(actions, "draw", _draw, text)
    drawing.add_argument("name", metavar="NAME", help="a model, weights, a run, or a lung U-Net: unet, imlab-unet")
    drawing.add_argument("--out", required=True, metavar="FILE", help="picture to write, .png or .svg")
    for action in (showing, drawing):
        action.add_argument("--size", type=int, help="side of the stack in pixels")
        action.add_argument("--channels", type=int, help="planes of the stack")
        action.add_argument("--classes", type=at_least(2, 100_000), help="number of classes")
        action.add_argument("--head", help="head by name: covid-cxnet, pneumonia or linear")
    arguments = parser.parse_args(argv)
    return arguments.action(arguments)


def _facts() -> dict[str, dict[str, Any]]:
    """What is known of each model without building it, ready for JSON."""
    from covidcxnet.models import MODELS

    return {
        name: {
            "name": name,
            "summary": spec.summary,
            "stack": [spec.size, spec.size, spec.channels],
            "layers": spec.layers[0],
            "weighted_layers": spec.layers[1],
            "parameters": spec.parameters,
            "flops": spec.flops,
            "normalization": spec.normalization,
            "feature_layer": spec.feature_layer,
            "head": spec.head,
            "options": {k: v for k, v in spec.options.items() if k not in spec.head_options and k != "head"},
            "weights": spec.origin,
            "imagenet_accuracy": spec.accuracy and dict(zip(("top1", "top5", "source"), spec.accuracy, strict=True)),
            "licence": spec.licence,
        }
        for name, spec in sorted(MODELS.items())
    }


def _list(arguments: argparse.Namespace) -> int:
    from covidcxnet.reporting.table import Table

    models = list(_facts().values())
    if arguments.json:
        print(json.dumps(models))
        return 0
    rows = []
    for model in models:
        # ImageNet, then the details; the licence, then its reservations.
        origin = model["weights"].partition(",")[0] if model["licence"] else "-"
        terms = model["licence"].partition(";")[0] or "-"
        stack = " x ".join(map(str, model["stack"]))
        rows.append((model["name"], stack, model["parameters"], model["flops"] / 1e9, origin, terms))
    header = ("name", "stack", "parameters", "GFLOPs", "pretrained weights", "licence of weights")
    print(Table(header, rows).text())
    return 0


def _show(arguments: argparse.Namespace) -> int:
    # Not built unless a flag changes it: counts at the default size are known, and Keras takes seconds to load.
    models, name = _facts(), arguments.name
    if name not in models:
        raise InputError(f"{name}: no such model{did_you_mean(name, models)} (covidcxnet models list shows all)")
    model = models[name]
    if _changed(arguments):
        model |= _counted(arguments)
    if arguments.json:
        print(json.dumps(model))
        return 0
    for key, value in model.items():
        if key == "stack":
            value = " x ".join(map(str, value))
        elif isinstance(value, int):
            value = f"{value:,}"
        elif key == "imagenet_accuracy":
            value = _accuracy(value)
        elif isinstance(value, dict):
            value = json.dumps(value)
        if value:
            notes = {"flops": FLOPS, "weighted_layers": "convolutions and dense layers"}
            print(f"{key:<17} {value}" + (f"  ({notes[key]})" if key in notes else ""))
    return 0


def _accuracy(published: dict[str, Any] | None) -> str:
    """``top-1 71.3%, top-5 90.1% (source)`` of the weights with their own head of 1,000 classes."""
    if published is None:
        return ""
    top5 = "" if published["top5"] is None else f", top-5 {published['top5']:.1f}%"
    return f"top-1 {published['top1']:.1f}%{top5} ({published['source']})"


def _draw(arguments: argparse.Namespace) -> int:
    out = check_output(arguments.out)
    if out.suffix.lower() not in (".png", ".svg"):
        raise InputError(f"--out: ending {out.suffix!r} given, .png or .svg expected")

    from covidcxnet.models import MODELS
    from covidcxnet.models.diagram import draw
    from covidcxnet.reporting import plots
    from segmentation.backend import quiet_backend
    from segmentation.model import ARCHITECTURES

    quiet_backend()
    name, title = arguments.name, ""
    if name in ARCHITECTURES:
        size = {"size": arguments.size or 256, "channels": arguments.channels or 1}
        model = ARCHITECTURES[name](**size)
    elif name in MODELS:
        # Its levels are networks of their own, side by side: a drawing of both would show each block twice.
        level = MODELS[name].level
        title = f"{name}, one of {len(MODELS[name].stages)} networks" if level else ""
        model = _built(arguments, level or name)
    elif _changed(arguments):
        raise InputError(f"{name}: is no model{did_you_mean(name, MODELS)}; --size and the like are for models by name")
    else:
        from covidcxnet.pretrained import load_model
        from segmentation.segmenter import LungSegmenter
        from weights import manifest

        entry = manifest.read().get(name)
        lungs = entry is not None and entry.kind == "segmenter"
        model, title = (LungSegmenter(name) if lungs else load_model(name)).model, name
    print(plots.save(draw(model, title), out))
    return 0


def _changed(arguments: argparse.Namespace) -> bool:
    return any(getattr(arguments, key) is not None for key in ("size", "channels", "classes", "head"))


def _built(arguments: argparse.Namespace, name: str) -> Any:
    """The model with the settings of the flags."""
    from covidcxnet.models import create

    # Class names change nothing of a network: numbers stand for them.
    head = {} if arguments.head is None else {"head": arguments.head}
    classes = None if arguments.classes is None else list(map(str, range(arguments.classes)))
    return create(name, size=arguments.size, channels=arguments.channels, classes=classes, **head)


def _counted(arguments: argparse.Namespace) -> dict[str, Any]:
    """Size of the model built with these settings."""
    from covidcxnet.models import counts
    from segmentation.backend import quiet_backend

    # TensorFlow's notices would stand above the answer.
    quiet_backend()
    model = _built(arguments, arguments.name)
    parameters, learned = counts.parameters(model)
    size: dict[str, Any] = {"stack": list(model.input_shape[1:])}
    size |= dict(zip(("layers", "weighted_layers"), counts.layers(model), strict=True))
    size |= {"parameters": parameters, "learned": learned}
    return {**size, "flops": counts.flops(model), "outputs": model.output_shape[-1]}
