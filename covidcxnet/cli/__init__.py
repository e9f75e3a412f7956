"""The command `covidcxnet`: hands each sub-command to the room that owns it, importing nothing of the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from covidcxnet import __version__

COMMANDS = {
    "train": ("covidcxnet.cli.train:main", "train a classifier from a folder or CSV of radiographs"),
    "find-lr": ("covidcxnet.cli.find_lr:main", "find a learning rate by a range test, with its plot"),
    "groups": ("covidcxnet.cli.groups:main", "train on raw, augmented and balanced data, and compare"),
    "evaluate": ("covidcxnet.cli.evaluate:main", "write the report of a run or of weights on new data"),
    "compare": ("covidcxnet.cli.compare:main", "set runs against each other: one table, one page, curves"),
    "sweep": ("covidcxnet.cli.sweep:main", "train a recipe over values and repeats: one table, one plot"),
    "predict": ("covidcxnet.cli.predict:main_predict", "predict radiographs with trained weights"),
    "explain": ("covidcxnet.cli.predict:main_explain", "draw Grad-CAM or LIME of a prediction on the radiograph"),
    "recipes": ("covidcxnet.cli.recipes:main", "recipes by name: the experiments of four papers, and our own"),
    "prepare": ("covidcxnet.cli.prepare:main", "turn radiographs into a store of model-ready stacks"),
    "datasets": ("covidcxnet.cli.datasets:main", "public sets by name: check, duplicates, bias, convert"),
    "explore": ("covidcxnet.cli.explore:main", "look at a data set: samples, mean images, sizes; one page"),
    "figures": ("covidcxnet.cli.figures:main", "t-SNE, feature maps, CAM and Grad-CAM of models side by side"),
    "models": ("covidcxnet.cli.models:main", "classifiers by name: size, parameters, operations, weights"),
    "export": ("covidcxnet.cli.export:main", "write weights for ONNX, OpenVINO, TFLite or TensorFlow Serving"),
    "segment": ("segmentation.__main__:main", "find lungs: train, predict, evaluate"),
    "weights": ("covidcxnet.cli.weights:main", "released weights: list, show, verify, fetch, path"),
    "enhance": ("enhancement.__main__:main", "BEASF, CLAHE and other enhancements on files"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; `sys.argv` by default.

    Returns
    -------
    int
        Exit code: 0 done, 1 done but some files could not be read, 2 the input cannot be used, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"covidcxnet {__version__}")
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        print(f"covidcxnet: {command!r} is not a command; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module, function = COMMANDS[command][0].split(":")
    return getattr(import_module(module), function)(arguments[1:], prog=f"covidcxnet {command}")


def _help() -> str:
    lines = [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: covidcxnet COMMAND [arguments]     (covidcxnet COMMAND --help says more)",
            "",
            *lines,
            "",
            "A research tool for chest radiographs. Not a medical device.",
        ]
    )
