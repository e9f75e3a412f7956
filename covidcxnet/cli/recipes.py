"""The command `covidcxnet recipes`: which experiments can be repeated, from which paper, and what of them cannot."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any

from covidcxnet.recipes import STUDIES, names, read
from enhancement import command_line
from enhancement.errors import InputError

SHARES = ("accuracy", "f1", "f1_covid19", "auroc")
"""Published figures that the list shows."""


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet recipes") -> int:
    """Run one action on the packaged recipes.

    Returns
    -------
    int
        0 done; 2 the input cannot be used; 130 interrupted.
    """
    return command_line.run(partial(_run, prog=prog), argv, prog=prog)


def facts(name: str) -> dict[str, Any]:
    """What a recipe is, ready for JSON: where it stands, model, classes, input, published figures, and its keys.

    Raises
    ------
    InputError
        If there is no such recipe, or it is none.
    """
    from covidcxnet.training.recipe import Recipe, refuse_unknown_keys

    file = read(name)
    refuse_unknown_keys(file.values, str(file.path))
    recipe, about = Recipe.from_dict(file.values), file.about
    return {
        "name": file.name,
        "study": about.study,
        "title": about.title,
        "place": about.place,
        "data": about.data or (recipe.data if recipe.data == "phantom" and not about.study else ""),
        "model": recipe.model,
        "init": recipe.init,
        "classes": list(recipe.classes),
        "stack": [recipe.input.size, recipe.input.size, len(recipe.input.channels)],
        "channels": list(recipe.input.channels),
        "region": recipe.input.region,
        "published": about.published,
        "reproduced": list(about.reproduced),
        "not_reproduced": list(about.not_reproduced),
        "chosen": list(about.chosen),
        "notes": list(about.notes),
        "values": file.values,
    }


def _run(argv: list[str], prog: str) -> int:
    arguments = _parser(prog).parse_args(argv)
    return arguments.action(arguments)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = command_line.Parser(
        prog=prog,
        description="Experiments by name, for train.py --recipe NAME --data ...",
        epilog="Published figures are the papers' own, on their own splits; read each with its split.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    text = "what there is: paper, place in it, model, classes, input, published figure"
    one = actions.add_parser("list", help=text, description=text)
    one.set_defaults(action=_list)
    _add_paper(one)
    one.add_argument("--json", action="store_true", help="print all that is known as JSON")
    text = "what a recipe reproduces of its paper and what not, then its YAML"
    one = actions.add_parser("show", help=text, description=text)
    one.set_defaults(action=_show)
    one.add_argument("names", metavar="NAME", nargs="*", help="a recipe, by name or as a file")
    _add_paper(one)
    one.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


def _add_paper(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--paper", metavar="PAPER", help=f"all recipes of one paper: {', '.join(STUDIES)}")


def _of(paper: str | None) -> list[dict[str, Any]]:
    """Packaged recipes, paper by paper, our own last."""
    if paper is not None and paper not in STUDIES:
        raise InputError(f"--paper: {paper!r} given, one of {', '.join(STUDIES)} expected")
    order = [*STUDIES, ""]
    found = sorted((facts(name) for name in names()), key=lambda one: order.index(one["study"]))
    return [one for one in found if paper in (None, one["study"])]


def _list(arguments: argparse.Namespace) -> int:
    found = _of(arguments.paper)
    if arguments.json:
        print(json.dumps(found))
        return 0
    rows = [("name", "paper", "model", "classes", "input", "published", "place")]
    for one in found:
        place = textwrap.shorten(one["place"], 60, placeholder=" ...")
        classes = str(len(one["classes"])) if one["classes"] else "any"
        model = one["model"] + _head(one["values"]) + _start(one["init"])
        cells = (model, classes, _stack(one), _published(one["published"]), place)
        rows.append((one["name"], one["study"] or "-", *(cell or "-" for cell in cells)))
    print(command_line.aligned(rows))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    if bool(arguments.names) == (arguments.paper is not None):
        raise InputError("show: names of recipes or --paper expected; covidcxnet recipes list shows both")
    found = [facts(name) for name in arguments.names] or _of(arguments.paper)
    if arguments.json:
        print(json.dumps(found if len(found) > 1 else found[0]))
        return 0
    print("\n\n".join(_text(one) for one in found))
    return 0


def _text(one: dict[str, Any]) -> str:
    import yaml

    lines = [one["name"]]
    told = {
        "paper": one["title"],
        "place": one["place"],
        "published": ", ".join(f"{key} {value:g}" for key, value in one["published"].items()),
        "data": f"--data {one['data']}" if one["data"] else "",
    }
    for key, value in told.items():
        if value:
            lines += _wrapped(f"{key:<10} {value}", " " * 11)
    headings = {
        "reproduced": "Reproduced",
        "not_reproduced": "Not reproduced",
        "chosen": "Left out by the paper, chosen here",
        "notes": "How to go on",
    }
    for key, heading in headings.items():
        if one[key]:
            lines += ["", f"{heading}:"]
            for sentence in one[key]:
                lines += _wrapped(f"- {sentence}", "  ")
    text = yaml.safe_dump(one["values"], sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    rest = f"# what is not named keeps its default: train.py --recipe {one['name']} --print-config"
    return "\n".join([*lines, "", text.rstrip(), rest])


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 110, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def _head(values: dict[str, Any]) -> str:
    head = values.get("options", {}).get("head")
    return f" ({head} head)" if head else ""


def _start(init: str) -> str:
    return "" if init == "random" else f" from {'CheXNet' if 'chexnet' in init else init}"


def _stack(one: dict[str, Any]) -> str:
    kinds = list(dict.fromkeys(one["channels"]))
    lungs = "" if one["region"] == "none" else ", lungs"
    return f"{one['stack'][0]} {'+'.join(kinds)}{lungs}"


def _published(figures: dict[str, float]) -> str:
    return ", ".join(f"{key} {figures[key]:g}" for key in SHARES if key in figures)
