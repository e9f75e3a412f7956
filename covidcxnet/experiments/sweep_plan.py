"""The grid of a sweep: which recipe is trained with which values and seeds, in which folder; nothing is run."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from covidcxnet.models import MODELS
from covidcxnet.recipes import TEXTS, load_yaml
from covidcxnet.training.arguments import parse_recipe
from covidcxnet.training.recipe import Recipe, checked_keys
from enhancement.command_line import one_line
from enhancement.errors import InputError

# What decides which images there are and on which side each stands: where it differs, so does the split.
_IMAGES = ("data", "phantom_images", "root", "verdicts", "where", "classes", "multilabel")
DATA_KEYS = (*_IMAGES, "split", "split_by", "fractions", "holdout")
_REFUSED = {
    "seed": "give --seed for the first and --repeats for how many",
    "out": "--out names the folder of the sweep, and each run has one in it",
    "store": "each setting of the input gets a store of its own",
}
_LONGEST = 90  # characters of a folder's name
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Trial:
    """One training of a sweep."""

    values: Mapping[str, Any]  # swept keys and their values here
    seed: int  # of weights, order, augmentation and dropout; the split is the same for all
    recipe: Recipe  # without its split file and folder
    folder: Path

    @property
    def cell(self) -> str:
        """What all repeats of these values are called: ``learning_rate 0.001, init imagenet``."""
        return cell_name(self.values)

    @property
    def name(self) -> str:
        """The cell and the seed, for messages."""
        return f"{self.cell}, seed {self.seed}"


def plan(recipe: Recipe, over: Mapping[str, Sequence[Any]], repeats: int, out: str | Path) -> list[Trial]:
    """Every training of a sweep, in the order in which it is run: all values with the first seed, then the next seed.

    `InputError` if a key cannot be swept, or the recipe refuses a value or a combination.
    """
    if repeats < 1:
        raise InputError(f"repeats: {repeats} given, 1 or more expected")
    if repeats == 1 and not any(len(values) > 1 for values in over.values()):
        raise InputError("over: one training is no sweep; give --over KEY=a,b,c or --repeats N above 1")
    for key, values in over.items():
        check_key(key, recipe, models_differ="model" in over)
        if not values:
            raise InputError(f"over: {key} has no values")
        texts = [text_of(value) for value in values]
        if len(set(texts)) < len(texts):
            raise InputError(f"over: {key} has the value {max(texts, key=texts.count)} twice")
    if recipe.store and any(key.startswith("input.") or key in DATA_KEYS for key in over):
        raise InputError("store: one store cannot hold several inputs; leave it out, and each gets its own")
    combinations = [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]
    recipes = [_recipe(recipe, values) for values in combinations]
    last = recipe.seed + repeats - 1
    if last >= 2**31:
        raise InputError(f"seed: the last repeat would have {last}, at most {2**31 - 1} possible")
    return [
        Trial(values, seed, replace(combined, seed=seed), Path(out) / _folder(values) / f"seed-{seed}")
        for seed in range(recipe.seed, recipe.seed + repeats)
        for values, combined in zip(combinations, recipes, strict=True)
    ]


def check_key(key: str, recipe: Recipe, *, models_differ: bool = False) -> None:
    """`InputError` if `key` is not a recipe's, or cannot be swept; options are looked up in the recipe's model."""
    first, *rest = key.split(".")
    if first in _REFUSED:
        raise InputError(f"over: {first} cannot be swept; {_REFUSED[first]}")
    known = recipe.to_dict()
    if first not in known:
        checked_keys({first: None}, "over")
    if rest and not isinstance(known[first], dict):
        raise InputError(f"over: unknown key {key}; {first} has no parts")
    if first in ("input", "augment"):
        if not rest:
            raise InputError(f"over: {first} is a group; name a part of it, as in {first}.{next(iter(known[first]))}")
        checked_keys({first: {".".join(rest): None}}, "over")
    if first == "options" and rest and not models_differ:
        _check_option(rest[0], recipe.model)


def _check_option(name: str, model: str) -> None:
    options = ["normalization", *MODELS[model].options]
    if name not in options:
        raise InputError(f"over: {model} has no option {name!r}; it takes {', '.join(options)}")


def parse_values(text: str) -> tuple[str, list[Any]]:
    """``KEY=a,b,c`` as key and values; each value is YAML, so ``input.channels=[raw],[clahe,raw]`` are two lists."""
    key, equals, values = text.partition("=")
    key = key.strip().replace("-", "_")
    if not equals or not key or not values.strip():
        raise InputError(f"over: {text!r} given, KEY=a,b,c expected")
    try:
        parsed = load_yaml(f"[{values}]", texts=key in TEXTS)
    except InputError as error:
        raise InputError(f"over: {key}: {values!r} is not a list of YAML values ({error})") from error
    if not isinstance(parsed, list) or any(value is None for value in parsed):
        raise InputError(f"over: {key}: {values!r} given, values separated by commas expected")
    # YAML 1.1 reads 1e-3 as a word
    return key, [float(v) if isinstance(v, str) and _NUMBER.fullmatch(v) else v for v in parsed]


def read_over(
    name: str, arguments: Sequence[str], texts: Sequence[str], prog: str
) -> tuple[Recipe, dict[str, list[Any]]]:
    """The recipe of a command line (its name or file, other flags of train), and the swept values of ``KEY=a,b,c``."""
    for flag in (argument.partition("=")[0].replace("_", "-") for argument in arguments):
        if flag in ("--resume", "--print-config", "--recipe"):
            raise InputError(f"{flag}: is not for a sweep; give the recipe as the first argument")
    base = ["--recipe", name, *arguments]
    recipe = parse_recipe(base, prog)
    over: dict[str, list[Any]] = {}
    for text in texts:
        key, values = parse_values(text)
        if key in over:
            raise InputError(f"over: {key} is given twice; write all of its values after one --over")
        check_key(key, recipe, models_differ=True)
        over[key] = []
        # Through the recipe's own parser: 1e-3 is a number, and "yes" is refused where a number is expected.
        for value in values:
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("...").strip()
            shown = value if isinstance(value, str) else text
            typed = parse_recipe([*base, f"--{key}={shown}"], prog)
            over[key].append(_value_of(typed, key))
    return recipe, over


def _value_of(recipe: Recipe, key: str) -> Any:
    """The value of ``input.size`` or ``options.head``; `to_dict` leaves out some keys at their default."""
    value: Any = recipe
    for name in key.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return list(value) if isinstance(value, tuple) else value


def text_of(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)


def cell_name(values: Mapping[str, Any]) -> str:
    """``learning_rate 0.001, init imagenet``."""
    return ", ".join(f"{key} {text_of(value)}" for key, value in values.items()) or "as in the recipe"


def data_key(recipe: Recipe) -> str:
    """Equal for recipes that split the same images in the same way."""
    values = recipe.to_dict()
    return json.dumps({name: values.get(name) for name in DATA_KEYS}, sort_keys=True, default=str)


def _recipe(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    nested = deepcopy(recipe.to_dict())
    for key, value in values.items():
        *groups, last = key.split(".")
        part = reduce(lambda outer, group: outer.setdefault(group, {}), groups, nested)
        part[last] = value
    try:
        combined = Recipe.from_dict(nested)
    except InputError as error:
        raise InputError(f"{error} (in the sweep's {cell_name(values)})") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"over: {cell_name(values)} is not a recipe: {one_line(error)}") from error
    for name in combined.options if "model" in values else ():
        _check_option(name, combined.model)
    return combined


def _folder(values: Mapping[str, Any]) -> str:
    """A name from the values and nothing else, so that a longer sweep finds the runs of a shorter one again."""
    plain = "_".join(f"{key}={text_of(value)}" for key, value in values.items()) or "recipe"
    name = re.sub(r"[^\w.=+-]+", "-", plain)
    # %g shortens a float: only one that it keeps whole may go without the hash
    whole = all(float(text_of(value)) == value for value in values.values() if isinstance(value, float))
    if name == plain and len(name) <= _LONGEST and whole:
        return name
    exact = json.dumps(values, sort_keys=True, default=str)
    return f"{name[:_LONGEST].rstrip('-')}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
