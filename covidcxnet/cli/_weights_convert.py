"""`covidcxnet weights convert`, `average` and `calibrate`, which write weights files of this project."""

from __future__ import annotations

import argparse
from typing import Any

from covidcxnet.cli._common import add_action
from enhancement.files import check_output


def add_convert(actions) -> None:
    """Add the action to those of `covidcxnet weights`."""
    text = "write a network of PyTorch, safetensors or old Keras as a weights file of this project"
    action = _add(actions, "convert", _convert, text)
    action.add_argument("source", metavar="FILE", help="a file (.pt, .pth, .safetensors, .h5), or a released name")
    action.add_argument("out", metavar="OUT", help="weights file to write; it must end in .weights.h5")
    action.add_argument("--classes", help="labels in order, as in normal,covid19, where they are not known")
    action.add_argument(
        "--multilabel", action="store_true", help="with --classes: findings that do not exclude each other"
    )


def _convert(arguments: argparse.Namespace) -> int:
    from covidcxnet.pretrained import load_model, resolve
    from covidcxnet.torch_weights import load_torch
    from weights import save_weights
    from weights.format import check_suffix
    from weights.torch_file import is_torch_file

    check_suffix(check_output(arguments.out, overwrite=arguments.overwrite))
    path = resolve(arguments.source)
    if is_torch_file(path):
        labels = arguments.classes.split(",") if arguments.classes else None
        classifier = load_torch(path, labels, multilabel=arguments.multilabel)
    else:
        classifier = load_model(arguments.source)
    out = save_weights(classifier.model, arguments.out, classifier.metadata)
    findings = ", ".join(classifier.classes[:20]) + (", ..." if len(classifier.classes) > 20 else "")
    print(f"{out}: {classifier.model.name} of {classifier.model.count_params():,} parameters; {findings}")
    return 0


def add_average(actions) -> None:
    """Add the action to those of `covidcxnet weights`."""
    text = "write the average of several networks' weights, such as a fine-tuned network and the one it started from"
    action = _add(actions, "average", _average, text)
    help = "two or more weights files, run folders or released names, of the same network, classes and input"
    action.add_argument("sources", nargs="+", metavar="FILE", help=help)
    action.add_argument("--shares", nargs="+", type=float, metavar="S", help="share of each, in order; default equal")
    action.add_argument("--out", required=True, help="weights file to write; it must end in .weights.h5")


def _average(arguments: argparse.Namespace) -> int:
    from covidcxnet.pretrained import average

    print(average(arguments.sources, arguments.out, arguments.shares, overwrite=arguments.overwrite))
    return 0


def add_calibrate(actions) -> None:
    """Add the action to those of `covidcxnet weights`."""
    text = "write a run's best weights with probabilities scaled on its validation images (temperature scaling)"
    action = _add(actions, "calibrate", _calibrate, text)
    action.add_argument("target", metavar="RUN|FILE", help="run folder, or a weights file that lies in one")
    help = "weights file to write, which must end in .weights.h5; default calibrated.weights.h5 in the run folder"
    action.add_argument("out", metavar="OUT", nargs="?", help=help)


def _calibrate(arguments: argparse.Namespace) -> int:
    from covidcxnet.evaluation.thresholds import calibrate

    path, facts = calibrate(arguments.target, arguments.out, overwrite=arguments.overwrite)
    before, after = facts["cross_entropy"]
    print(f"temperature {facts['temperature']:.3g} from {facts['images']} validation images")
    print(f"their cross-entropy: {before:.4f} before, {after:.4f} after")
    print(path)
    return 0


def _add(actions: Any, name: str, work: Any, text: str) -> argparse.ArgumentParser:
    action = add_action(actions, name, work, text)
    action.add_argument("--overwrite", action="store_true", help="replace a weights file that exists")
    return action
