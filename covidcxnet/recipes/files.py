"""Recipe files: found by name or path, with the keys of their bases, apart from what they say about themselves."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enhancement.command_line import did_you_mean, one_line
from enhancement.errors import InputError

from .safe_yaml import load_yaml

FOLDER = Path(__file__).parent

STUDIES = {
    "covid-cxnet": "Haghanifar, Molahasani Majdabadi and Ko, COVID-CXNet: detecting COVID-19 in frontal chest X-ray "
    "images using deep learning (2020; preprint of 2022)",
    "pneumonia": "Nam, Pneumonia detection in chest X-ray images using deep convolutional neural network, Ryerson "
    "University (2022)",
    "radiography": "Yang, Wang and Park, Detection of lung diseases through image classification, University of "
    "Wisconsin (2021)",
    "group-q": "Group-Q, Lung disease classification, Applied AI final report, COMP 6721 (2022)",
}
"""The papers whose experiments are recipes, by the name that `about.study` gives."""


@dataclass(frozen=True)
class About:
    """The key `about` of a recipe file; none of it changes a training.

    Parameters
    ----------
    study : str
        A name of `STUDIES`; empty for a recipe of no paper.
    place : str
        Where in the paper the experiment stands: sections, tables, figures.
    data : str
        What to give as ``--data`` to train on the paper's own data set.
    published : dict
        Figures that the paper prints, name to number; shares are between 0 and 1.
    reproduced, not_reproduced, chosen, notes : tuple of str
        What of the experiment the recipe holds and what it cannot, settings that the paper leaves out, how to go on.

    Raises
    ------
    InputError
        If a value is of the wrong kind; the message names the key.
    """

    study: str = ""
    place: str = ""
    data: str = ""
    published: dict[str, float] = field(default_factory=dict)
    reproduced: tuple[str, ...] = ()
    not_reproduced: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        for name, value in list(vars(self).items()):
            if name in LISTS:
                ok = isinstance(value, list | tuple) and all(isinstance(line, str) for line in value)
                expected = "a list of sentences"
            elif name == "published":
                ok = isinstance(value, Mapping) and all(
                    isinstance(key, str) and isinstance(number, int | float) for key, number in value.items()
                )
                expected = "names of figures and numbers"
            else:
                ok, expected = isinstance(value, str), "one line of text"
            if not ok:
                raise InputError(f"about.{name}: {value!r} given, {expected} expected")
            if name in LISTS:
                # YAML gives lists; what is frozen must not change by them.
                object.__setattr__(self, name, tuple(value))

    @property
    def title(self) -> str:
        """The paper in full."""
        return STUDIES.get(self.study, self.study)


KEYS = tuple(f.name for f in dataclasses.fields(About))
TEXTS = ("classes", "where", "holdout")
"""Keys of a recipe whose values are words of a table: a class may be called no, and a source 007."""
LISTS = ("reproduced", "not_reproduced", "chosen", "notes")


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file as read: its name without ending, and its keys and those of its bases, plain and not checked."""

    name: str
    path: Path
    about: About
    values: dict[str, Any]


def names() -> list[str]:
    """Names of the packaged recipes."""
    # An underscore marks a base that several recipes share and that is none itself.
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith("_"))


def read(name: str | Path) -> RecipeFile:
    """Read a recipe file.

    Parameters
    ----------
    name : str or Path
        A file, or the name of a packaged recipe. What a recipe says replaces what its ``base`` says; ``input``,
        ``augment`` and ``about`` are replaced key by key, and the lists of ``about`` are added to. A base is a file
        beside the recipe or the name of a packaged one.

    Raises
    ------
    InputError
        If there is no such file or base, it is not YAML, bases go in a circle, or `about` has an unknown key.
    """
    path = _find(str(name))
    values = _with_bases(path, ())
    about = values.pop("about", {})
    if not isinstance(about, Mapping):
        raise InputError(f"{path}: about: {about!r} given, keys and values expected: {', '.join(KEYS)}")
    if unknown := [key for key in about if key not in KEYS]:
        hint = did_you_mean(str(unknown[0]), KEYS) or f"; there are {', '.join(KEYS)}"
        raise InputError(f"{path}: unknown key about.{unknown[0]}{hint}")
    try:
        return RecipeFile(path.stem, path, About(**about), values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def load_texts(text: str) -> Any:
    """YAML in which everything is text, also ``no``, ``0`` and ``007``; the text itself where it is no YAML."""
    try:
        return load_yaml(text, texts=True)
    except InputError:
        return text


# Many recipes share a base, and to read one takes 40 ms.
@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[Any, Any]:
    """The values of YAML, and its texts as `load_texts` gives them."""
    return load_yaml(text), load_texts(text)


def _find(name: str, folder: Path | None = None) -> Path:
    path = Path(name) if folder is None else folder / name
    if path.is_file():
        return path
    packaged = FOLDER / f"{name}.yaml"
    # A bare name only: no other can leave the folder of recipes.
    if Path(name).name == name and packaged.is_file():
        return packaged
    near = difflib.get_close_matches(name, names(), n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"recipe: {name!r} is neither a file nor a packaged recipe; {hint}covidcxnet recipes list shows all"
    )


def _with_bases(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Values of a file over those of its bases, `about` still among them."""
    try:
        # copied, as what the cache holds must not change
        values, texts = copy.deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except UnicodeError:
        raise InputError(f"{path}: not a recipe: not text in UTF-8; save it as UTF-8") from None
    except (OSError, InputError) as error:
        raise InputError(f"{path}: not a recipe: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a recipe: keys and values expected, as --print-config prints them")
    values |= {key: texts[key] for key in TEXTS if values.get(key) is not None and isinstance(texts[key], list | dict)}
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"{path}: base: {base!r} given, the name or file of one recipe expected")
    # Resolved, or a link or a detour could hide a circle.
    above = (*above, path.resolve())
    try:
        below = _find(base, path.parent)
    except InputError as error:
        raise InputError(f"{path}: base: {str(error).removeprefix('recipe: ')}") from error
    if below.resolve() in above:
        raise InputError(f"{path}: base: {base} leads back to this file; leave one base out")
    inherited = _with_bases(below, above)
    merged = inherited | values
    # `options` are replaced whole: those of another model would not fit.
    for part in ("input", "augment", "about"):
        old, new = inherited.get(part), values.get(part)
        if isinstance(old, dict) and isinstance(new, dict):
            merged[part] = old | new
            if part == "about":
                merged[part] |= {key: [*_lines(old, key), *_lines(new, key)] for key in LISTS if key in old | new}
    return merged


def _lines(about: dict[str, Any], key: str) -> list[Any]:
    lines = about.get(key, [])
    return lines if isinstance(lines, list) else [lines]
