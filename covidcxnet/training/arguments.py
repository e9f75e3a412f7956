"""Recipes from flags and YAML: jsonargparse reads the fields of `Recipe`, so that flag, key and Python name are one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from covidcxnet import recipes
from covidcxnet.models import MODELS
from enhancement.command_line import did_you_mean, one_line, spelling
from enhancement.errors import InputError

from .recipe import NEW_SPLIT, Recipe, checked_keys

SUMMARY = """Train a classifier on chest radiographs. Without arguments: a small CNN on the built-in phantom.

Every setting is a flag and, under the same name, a key of a recipe file; flags win over the recipe. The run folder
records everything that happened. A research tool, not a medical device."""

# What jsonargparse calls by the name of a class, in words.
_KINDS = {
    "dict": "COLUMN=VALUE[,VALUE] or {COLUMN: VALUE}, with a space after the colon,",
    "float": "a finite number",
    "int": "a whole number",
    "bool": "true or false",
}


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file; a name without ending is looked up among the packaged recipes.

    Raises
    ------
    InputError
        If there is no such file, it is not YAML, or a key or value is not a recipe's.
    """
    # As a flag, since jsonargparse turns YAML into the fields' types: 3e-5 without a point is text to PyYAML.
    return parse_recipe(["--recipe", str(path)])


def parse_recipe(
    argv: Sequence[str], prog: str = "train.py", summary: str = SUMMARY, refused: Mapping[str, str] | None = None
) -> Recipe:
    """Recipe from flags such as ``--epochs 3`` or ``--input.size=64``.

    ``--recipe`` takes a YAML file or the name of a packaged recipe. Dashes in names count as underscores, lists may be
    written with commas. `refused` are flags of train that the command has no use for, each with the reason: not in its
    help, an error when given. `InputError` names an unknown or refused flag, an unknown key, or a value of the wrong
    kind or range.
    """
    refused = refused or {}
    given = {argument.partition("=")[0].replace("-", "_").lstrip("_") for argument in argv if argument.startswith("--")}
    for name, why in refused.items():
        if name in given:
            raise InputError(f"--{name.replace('_', '-')}: {why}")
    arguments = list(_spelt(argv))
    parser = build_parser(prog, summary, hidden=refused)
    # A recipe brings its own input. Without one the model does, or base-cnn would see 128 pixels in three planes.
    if "recipe" not in given and (spec := MODELS.get(_last(arguments, "--model"))):
        parser.set_defaults({f"input.{key}": value for key, value in spec.input.items()})
    try:
        values = parser.parse_args(arguments).as_dict()
    except (argparse.ArgumentError, TypeError, RecursionError) as error:
        raise InputError(_readable(error)) from error
    settings = {field.name: values[field.name] for field in dataclasses.fields(Recipe)}
    # What works under one schedule or optimizer only goes with it, unless it is given too and so refused.
    for name, (choice, needed) in {"warmup": ("schedule", "cosine"), "weight_decay": ("optimizer", "adamw")}.items():
        if choice in given and name not in given and settings[choice] != needed:
            settings[name] = 0.0
    # Fractions of a packaged recipe do not replace the split that the folders of the user's data stand for.
    if "fractions" in given and not settings["split"] and Path(settings["data"]).is_dir():
        settings["split"] = NEW_SPLIT
    return Recipe.from_dict(settings)


def build_parser(prog: str, summary: str = SUMMARY, hidden: Collection[str] = ()):
    """The jsonargparse parser: one flag for each field of `Recipe`, `InputSettings` and `AugmentSettings`.

    Those that `hidden` names are parsed, as a recipe may have their keys, and left out of the help.
    """
    from jsonargparse import ArgumentParser

    class Parser(ArgumentParser):
        def format_help(self, *args: Any, **options: Any) -> str:
            # jsonargparse names flags as Python does; the commands' grammar has dashes.
            return re.sub(
                r"--[a-z][\w.]*", lambda flag: flag[0].replace("_", "-"), super().format_help(*args, **options)
            )

    parser = Parser(prog=prog, description=summary, exit_on_error=False, print_config=None, allow_abbrev=False)
    parser.add_argument("--recipe", action="config", help="YAML file, or a name that `covidcxnet recipes list` shows")
    parser.add_argument(
        "--resume",
        help="run folder to resume after its last complete epoch; it takes --epochs (not under cosine), --devices and "
        "--engine",
    )
    parser.add_argument("--print_config", action="store_true", help="print the resolved recipe as YAML and stop")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_class_arguments(Recipe)
    help_of = {key: field.metadata["help"] for key, (field, _) in _settings().items() if field.metadata}
    for action in parser._actions:
        action.help = argparse.SUPPRESS if action.dest in hidden else help_of.get(action.dest, action.help)
    return parser


def named_first(argv: Sequence[str]) -> list[str]:
    """Arguments in which a recipe given as the first word, without a flag, is ``--recipe``."""
    arguments = list(argv)
    return ["--recipe", *arguments] if arguments and not arguments[0].startswith("-") else arguments


def _spelt(argv: Sequence[str]) -> Iterator[str]:
    """Arguments as jsonargparse wants them: underscores in names, brackets round lists, a value after each switch."""
    kinds = {name: type(default) for name, (_, default) in _settings().items()}
    flags, rest = _flags(), list(argv)
    while rest:
        argument = spelling(rest.pop(0), flags)
        if not argument.startswith("--"):
            yield argument
            continue
        flag, equals, value = argument.partition("=")
        name = flag[2:].replace("-", "_")
        kind = kinds.get(name)
        if kind is bool and not equals and (not rest or rest[0].lower() not in ("true", "false")):
            equals, value = "=", "true"
        elif not equals and rest and (kind is tuple or name in ("where", "holdout", "recipe")):
            equals, value = "=", rest.pop(0)
        text = value if equals else (rest or [""])[0]
        # jsonargparse takes 1:30 for ninety, as YAML 1.1 did.
        if kind in (int, float) and recipes.BASE_60.fullmatch(text):
            raise InputError(f"{name}: {text!r} given, a number expected")
        if not equals:
            yield f"--{name}"
            continue
        if kind is tuple and not value.lstrip().startswith("["):
            value = f"[{value}]"
        if name in ("where", "holdout"):
            # source=nih,armiro as the YAML that jsonargparse reads; YAML stays as it is.
            column, given, values = value.partition("=")
            value = f"{{{column}: [{values}]}}" if given and column.isidentifier() else value
        if name in recipes.TEXTS:
            texts = recipes.load_texts(value)
            # {source:x} is a key without a value, which jsonargparse refuses.
            complete = isinstance(texts, list) or (isinstance(texts, dict) and "" not in texts.values())
            value = json.dumps(texts) if complete else value
        elif name == "recipe":
            value = _recipe_file(value)
        yield f"--{name}={value}"


def _last(arguments: Sequence[str], flag: str) -> str:
    """The value that a flag has last, spelt ``--flag=value`` or ``--flag value``; empty where it is not given."""
    value = ""
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, inside = argument.partition("=")
        if name == flag:
            value = inside if equals else following
    return value


def _recipe_file(name: str) -> str:
    """The keys of a recipe by path or name, its bases' among them, as YAML; checked here so that errors name it."""
    import yaml

    # In quotes, or jsonargparse would take a class or folder named 1e5 for a number; 3e-5 as a rate shall be one.
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    tag = yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG
    Dumper.add_representer(_Word, lambda dumper, word: dumper.represent_scalar(tag, word, style='"'))
    file = recipes.read(name)
    words = {name for name, (_, default) in _settings().items() if isinstance(default, str)} | {*recipes.TEXTS}
    try:
        return yaml.dump(_with_words(checked_keys(file.values, str(file.path)), words), Dumper=Dumper)
    except InputError as error:
        raise InputError(f"{file.path}: {str(error).removeprefix(f'{file.path}: ')}") from error


class _Word(str):
    """Text that YAML shall not take for anything else."""


def _with_words(value: Any, words: Collection[str], name: str = "") -> Any:
    """Values of a recipe in which those of the settings `words`, and all below them, are `_Word`."""
    if isinstance(value, dict):
        inside = name in words
        return {k: _with_words(v, words, name if inside else f"{name}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_words(item, words, name) for item in value]
    if isinstance(value, str) and name not in words and recipes.BASE_60.fullmatch(value):
        raise InputError(f"{name}: {value!r} given, a number expected")
    return _Word(value) if isinstance(value, str) and name in words else value


def _settings() -> dict[str, tuple[dataclasses.Field, Any]]:
    """Every setting with its field and default, nested ones by their full name: ``input.size``."""
    recipe = Recipe()
    settings: dict[str, tuple[dataclasses.Field, Any]] = {}
    for prefix, part in (("", recipe), ("input.", recipe.input), ("augment.", recipe.augment)):
        settings |= {prefix + field.name: (field, getattr(part, field.name)) for field in dataclasses.fields(part)}
    return settings


def _flags() -> set[str]:
    names = {*_settings(), "recipe", "resume", "print_config", "debug"}
    return {f"--{name.replace('_', '-')}" for name in names}


def _readable(error: Exception) -> str:
    """jsonargparse's message as one line that begins with the key; of an unknown flag with the one that is near."""
    text = one_line(error).removeprefix("Parser key ").replace('"', "", 2)
    if wrong := re.search(r"Expected a <class '(\w+)'>\. Got value: (.*)", text):
        text = f"{text[: wrong.start()]}{wrong[2]!r} given, {_KINDS.get(wrong[1], wrong[1])} expected"
    if wrong := re.search(r"Expected a tuple with (\d+) elements\. Got value: (.*)", text):
        text = f"{text[: wrong.start()]}{wrong[2]} given, {wrong[1]} values separated by commas expected"
    if wrong := re.search(r"Expected a typing\.Literal\[(.*)\]\. Got value: (.*)", text):
        choices = wrong[1].replace("'", "")
        text = f"{text[: wrong.start()]}{wrong[2]!r} given, one of {choices} expected"
    stray = re.search(r"--([\w.]+)", text) if text.lower().startswith("unrecognized arguments") else None
    if stray is None:
        return text
    flag = f"--{stray[1].replace('_', '-')}"
    return f"unknown flag {flag}{did_you_mean(flag, _flags())} (--help lists all)"
