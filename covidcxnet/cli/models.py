"""The command `covidcxnet models`: which classifiers there are, how large, and whose weights they can have."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from enhancement import command_line
from enhancement.errors import InputError

FLOPS = "two for each multiply-add of convolutions and dense layers, one stack; many tables print half of it"
LICENCES = (
    "as the documentation of keras.applications states them for each network (Keras 2.2, sections License); where it "
    "states none, that of the repository the weights come from; ImageNet's own terms are for non-commercial research"
)


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet models") -> int:
    """Run one action on the models of the registry.

    Returns
    -------
    int
        0 done; 2 the input cannot be used; 130 interrupted.
    """
    return command_line.run(partial(_run, prog=prog), argv, prog=prog)


def facts(name: str) -> dict[str, Any]:
    """What is known of a model without building it, ready for JSON.

    Raises
    ------
    InputError
        If there is no such model.
    """
    from covidcxnet.models import MODELS

    if name not in MODELS:
        raise InputError(f"{name}: no such model; there are {', '.join(sorted(MODELS))}")
    spec = MODELS[name]
    return {
        "name": name,
        "summary": spec.summary,
        "stack": [spec.size, spec.size, spec.channels],
        "parameters": spec.parameters,
        "flops": spec.flops,
        "normalization": spec.normalization,
        "feature_layer": spec.feature_layer,
        "head": spec.head,
        "options": {
            key: value for key, value in spec.options.items() if key not in spec.head_options and key != "head"
        },
        "weights": spec.origin,
        "licence": spec.licence,
    }


def _run(argv: list[str], prog: str) -> int:
    arguments = _parser(prog).parse_args(argv)
    return arguments.action(arguments)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = command_line.Parser(
        prog=prog,
        description="Classifiers by name, for train.py --model NAME.",
        epilog=f"FLOPs: {FLOPS}. Licences of weights: {LICENCES}.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    text = "what there is: stack, parameters, FLOPs, weights; for two classes"
    one = actions.add_parser("list", help=text, description=text)
    one.set_defaults(action=_list)
    one.add_argument("--json", action="store_true", help="print all that is known as JSON")
    text = "everything known of one; with --size or --channels or --classes it is built and counted"
    one = actions.add_parser("show", help=text, description=text)
    one.set_defaults(action=_show)
    one.add_argument("name", metavar="NAME")
    one.add_argument("--json", action="store_true", help="print it as JSON")
    one.add_argument("--size", type=int, help="side of the stack in pixels")
    one.add_argument("--channels", type=int, help="planes of the stack")
    one.add_argument("--classes", type=int, help="number of classes")
    one.add_argument("--head", help="head by name: covid-cxnet, pneumonia or linear")
    return parser


def _list(arguments: argparse.Namespace) -> int:
    from covidcxnet.models import MODELS

    known = [facts(name) for name in sorted(MODELS)]
    if arguments.json:
        print(json.dumps(known))
        return 0
    rows = [("name", "stack", "parameters", "GFLOPs", "pretrained weights", "licence of weights")]
    for one in known:
        origin = one["weights"].partition(",")[0] if one["licence"] else "-"
        terms = one["licence"].partition(";")[0] or "-"
        stack = " x ".join(map(str, one["stack"]))
        rows.append((one["name"], stack, f"{one['parameters']:,}", f"{one['flops'] / 1e9:.2f}", origin, terms))
    print(command_line.aligned(rows, right=(2, 3)))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    known = facts(arguments.name)
    given = {key: getattr(arguments, key) for key in ("size", "channels", "classes", "head")}
    if any(value is not None for value in given.values()):
        known |= _counted(arguments.name, **given)
    if arguments.json:
        print(json.dumps(known))
        return 0
    for key, value in known.items():
        if key == "stack":
            value = " x ".join(map(str, value))
        elif isinstance(value, int):
            value = f"{value:,}"
        elif isinstance(value, dict):
            value = json.dumps(value)
        if value:
            print(f"{key:<13} {value}" + (f"  ({FLOPS})" if key == "flops" else ""))
    return 0


def _counted(
    name: str, size: int | None, channels: int | None, classes: int | None, head: str | None
) -> dict[str, Any]:
    """Size of the model built with these settings."""
    from covidcxnet.models import counts, create
    from segmentation.backend import quiet_backend

    quiet_backend()
    if classes is not None and not 2 <= classes <= 100_000:
        raise InputError(f"--classes: {classes} given, 2 to 100000 expected")
    options: dict[str, Any] = {} if head is None else {"head": head}
    labels = None if classes is None else [str(number) for number in range(classes)]
    model = create(name, size=size, channels=channels, classes=labels, **options)
    everything, learned = counts.parameters(model)
    found = {"stack": list(model.input_shape[1:]), "parameters": everything, "learned": learned}
    return {**found, "flops": counts.flops(model), "outputs": model.output_shape[-1]}
