"""Recipe files: found by name or path, with the keys of their bases, apart from what they say about themselves."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enhancement.command_line import one_line
from enhancement.errors import InputError

from .about import LISTS, About

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file as read, its bases' keys among its own.

    Parameters
    ----------
    name : str
        Of the file, without ending.
    path : Path
    about : About
        What it says about itself.
    values : dict
        The recipe's keys, plain and nested as in YAML; they are not checked here.
    """

    name: str
    path: Path
    about: About
    values: dict[str, Any]


def names() -> list[str]:
    """Names of the packaged recipes."""
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
    path = _found(str(name))
    values = _with_bases(path, ())
    about = About.from_dict(values.pop("about", {}), str(path))
    return RecipeFile(path.stem, path, about, values)


def _found(name: str, folder: Path | None = None) -> Path:
    path = Path(name) if folder is None else folder / name
    if path.is_file():
        return path
    packaged = FOLDER / f"{name}.yaml"
    if Path(name).name == name and packaged.is_file():
        return packaged
    near = difflib.get_close_matches(name, names(), n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"recipe: {name!r} is neither a file nor a packaged recipe; {hint}covidcxnet recipes list shows all"
    )


def _with_bases(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Values of a file over those of its bases, `about` still among them."""
    values = _values(path)
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"{path}: base: {base!r} given, the name or file of one recipe expected")
    seen = (*seen, path.resolve())
    try:
        below = _found(base, path.parent)
    except InputError as error:
        raise InputError(f"{path}: base: {str(error).removeprefix('recipe: ')}") from error
    if below.resolve() in seen:
        raise InputError(f"{path}: base: {base} leads back to this file; leave one base out")
    return _over(_with_bases(below, seen), values)


def _over(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    made = base | values
    for part in ("input", "augment", "about"):
        old, new = base.get(part), values.get(part)
        if isinstance(old, dict) and isinstance(new, dict):
            made[part] = old | new
            if part == "about":
                made[part] |= {key: [*_lines(old, key), *_lines(new, key)] for key in LISTS if key in old | new}
    return made


def _lines(about: dict[str, Any], key: str) -> list[Any]:
    lines = about.get(key, [])
    return lines if isinstance(lines, list) else [lines]


def _values(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: not a recipe: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a recipe: keys and values expected, as --print-config prints them")
    return values
