"""The command `covidcxnet`: each sub-command is a module here, imported when it is called; nothing imports them.

The grammar of flags and exit codes is that of `enhancement.command_line`, which the other packages use too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from covidcxnet import __version__
from enhancement import command_line
from enhancement.command_line import did_you_mean
from enhancement.errors import InputError

# As text: importing a command here would load what it needs, and --help of all others would be slow for it.
COMMANDS = {
    "train": ("covidcxnet.cli.train:main", "train a classifier from a folder or CSV of radiographs"),
    "launch": ("covidcxnet.cli.launch:main", "start processes on this machine that train together"),
    "find-lr": ("covidcxnet.cli.find_lr:main", "find a learning rate by a range test, with its plot"),
    "groups": ("covidcxnet.cli.sweep:groups", "train on raw, augmented and balanced data, and compare"),
    "evaluate": ("covidcxnet.cli.evaluate:main", "write the report of a run or of weights on new data"),
    "compare": ("covidcxnet.cli.compare:main", "compare runs on their test images: one table, one page, curves"),
    "sweep": ("covidcxnet.cli.sweep:main", "train a recipe over values and repeats: one table, one plot"),
    "predict": ("covidcxnet.cli.predict:main", "predict radiographs with trained weights"),
    "explain": ("covidcxnet.cli.predict:explain", "draw Grad-CAM or LIME of a prediction on the radiograph"),
    "recipes": ("covidcxnet.cli.recipes:main", "recipes by name: the experiments of four papers, and our own"),
    "prepare": ("covidcxnet.cli.prepare:main", "turn radiographs into a store of model-ready stacks"),
    "datasets": ("covidcxnet.cli.datasets:main", "public sets by name: check, duplicates, bias, convert"),
    "explore": ("covidcxnet.cli.explore:main", "look at a data set: samples, mean images, sizes; one page"),
    "figures": ("covidcxnet.cli.figures:main", "t-SNE, feature maps, CAM and Grad-CAM of models side by side"),
    "models": ("covidcxnet.cli.models:main", "classifiers by name: size, parameters, operations, weights"),
    "benchmark": ("covidcxnet.cli.benchmark:main", "time a network by engine, precision and batch size"),
    "export": ("covidcxnet.cli.export:main", "write weights for ONNX, OpenVINO, TFLite or TensorFlow Serving"),
    "segment": ("segmentation.__main__:main", "find lungs: train, predict, evaluate"),
    "weights": ("covidcxnet.cli.weights:main", "released weights: list, fetch, verify, convert, calibrate"),
    "enhance": ("enhancement.__main__:main", "BEASF, CLAHE and other enhancements on files"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command: 0 done, 1 done but for unreadable files, 2 unusable input, 130 and 143 stopped."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        return command_line.run(_answer, arguments, prog="covidcxnet")
    module, function = COMMANDS[arguments[0]][0].split(":")
    return getattr(import_module(module), function)(arguments[1:], prog=f"covidcxnet {arguments[0]}")


def _answer(arguments: list[str]) -> int:
    """The help, the version, or the commands nearest to one that does not exist."""
    if arguments[:1] == ["--version"]:
        print(f"covidcxnet {__version__}")
    elif not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
        print("usage: covidcxnet COMMAND [arguments]     (covidcxnet COMMAND --help says more)", "", *lines, sep="\n")
        print("\nA research tool for chest radiographs. Not a medical device.")
    else:
        near = did_you_mean(arguments[0], COMMANDS)
        raise InputError(f"unknown command {arguments[0]!r}, one of {', '.join(COMMANDS)} expected{near}")
    # As argparse ends where arguments are missing: nothing was done that a script could count on.
    return 0 if arguments else 2
