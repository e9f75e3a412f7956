"""The command `covidcxnet recipes`: which published experiments can be repeated, and which parts of them cannot.

`recipes draw` shows what one does to images and classes before any training.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import replace
from functools import partial
from typing import Any

from covidcxnet.cli._common import add_action
from covidcxnet.recipes import STUDIES, names, read
from enhancement.command_line import Parser, at_least, command
from enhancement.errors import InputError
from enhancement.files import check_output, find_images

# What the list shows of the published ones. The pneumonia study prints an AUC of decisions, which is no AUROC.
FIGURES = ("accuracy", "f1", "f1_covid19", "auroc", "auc_of_decisions")

DRAW = """Show what a recipe does before any training: radiographs with versions of them by its augmentation, scaled as
the network sees them, and images by class of its training split, before and after its sampling. usage: covidcxnet
recipes draw RECIPE [--images FILE ...] [--versions 5] [--rows 3] [flags of train].

Writes augmentation.png and sampling.png to --out (by default recipe-figures). With --images, files or folders, only the
first of the two; otherwise radiographs of --data, one of each class in turn."""
# Flags of train that have no use here.
_REFUSED = {"resume": "give the recipe", "print_config": "train --print-config shows the recipe"}


@command("covidcxnet recipes")
def main(argv: list[str], prog: str) -> int:
    """Run one action on the packaged recipes."""
    if argv[:1] == ["draw"]:  # takes the flags of train, which are the recipe parser's
        return _draw(argv[1:], f"{prog} draw")
    parser = Parser(
        prog=prog,
        description="Experiments by name, for train.py --recipe NAME --data ...",
        epilog="Published figures are the papers' own, on their own splits; read each with its split.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = add_action(actions, "list", _list, "list all: paper, model, classes, input, published figures")
    text = "show what a recipe reproduces of its paper, what it does not, and its YAML"
    showing = add_action(actions, "show", _show, text)
    showing.add_argument("names", metavar="NAME", nargs="*", help="a recipe, by name or as a file")
    actions.add_parser("draw", help="draw its augmentation and its sampling; flags of train change the recipe")
    for action in (listing, showing):
        action.add_argument("--paper", choices=tuple(STUDIES), help="all recipes of one paper")
        action.add_argument("--json", action="store_true", help="print all that is known as JSON")
    arguments = parser.parse_args(argv)
    return arguments.action(arguments)


def facts(name: str) -> dict[str, Any]:
    """What a recipe is, ready for JSON: place in a paper, model, classes, input, published figures, and its keys."""
    from covidcxnet.training.recipe import Recipe, checked_keys

    file = read(name)
    recipe, about = Recipe.from_dict(checked_keys(file.values, str(file.path))), file.about
    return {
        "name": file.name,
        **vars(about),
        "title": about.title,
        "data": about.data or (recipe.data if recipe.data == "phantom" and not about.study else ""),
        "model": recipe.model,
        "init": recipe.init,
        "classes": recipe.classes,
        "stack": [recipe.input.size, recipe.input.size, len(recipe.input.channels)],
        "channels": recipe.input.channels,
        "region": recipe.input.region,
        "values": file.values,
    }


def _packaged(paper: str | None) -> list[dict[str, Any]]:
    """Packaged recipes, paper by paper, those without a paper last."""
    # The order of the papers, not of the alphabet.
    order = [*STUDIES, ""]
    recipes = sorted(map(facts, names()), key=lambda recipe: order.index(recipe["study"]))
    return [recipe for recipe in recipes if paper in (None, recipe["study"])]


def _list(arguments: argparse.Namespace) -> int:
    from covidcxnet.reporting.table import Table

    recipes = _packaged(arguments.paper)
    if arguments.json:
        print(json.dumps(recipes))
        return 0
    rows = []
    for recipe in recipes:
        head, init = recipe["values"].get("options", {}).get("head"), recipe["init"]
        model = recipe["model"] + (f" ({head} head)" if head else "")
        model += "" if init == "random" else f" from {'CheXNet' if 'chexnet' in init else init}"
        lungs = "" if recipe["region"] == "none" else ", lungs"
        stack = f"{recipe['stack'][0]} {'+'.join(dict.fromkeys(recipe['channels']))}{lungs}"
        published = ", ".join(f"{key} {recipe['published'][key]:g}" for key in FIGURES if key in recipe["published"])
        classes = str(len(recipe["classes"]) or "any")
        place = textwrap.shorten(recipe["place"], 60, placeholder=" ...")
        cells = (recipe["name"], recipe["study"], model, classes, stack, published, place)
        rows.append([cell or "-" for cell in cells])
    print(Table(("name", "paper", "model", "classes", "input", "published", "place"), rows).text())
    return 0


def _show(arguments: argparse.Namespace) -> int:
    # One of the two: a name may be of another paper.
    if bool(arguments.names) == (arguments.paper is not None):
        raise InputError("show: names of recipes or --paper expected; covidcxnet recipes list shows both")
    recipes = list(map(facts, arguments.names)) or _packaged(arguments.paper)
    if arguments.json:
        print(json.dumps(recipes if len(recipes) > 1 else recipes[0]))
    else:
        print("\n\n".join(map(_text, recipes)))
    return 0


def _draw(argv: list[str], prog: str) -> int:
    from covidcxnet.training.arguments import named_first, parse_recipe

    parser = Parser(prog=prog, add_help=False)
    parser.add_argument("--images", nargs="+")
    parser.add_argument("--versions", type=at_least(1, 12), default=5)
    parser.add_argument("--rows", type=at_least(1, 12), default=3)
    values, others = parser.parse_known_args(named_first(argv))
    if not others:
        raise InputError("draw: the name of a recipe expected; covidcxnet recipes list shows all")
    recipe = parse_recipe(others, prog, DRAW, _REFUSED)
    out = check_output(recipe.out or "recipe-figures", folder=True)
    images = None if values.images is None else find_images(values.images)[: values.rows]

    from covidcxnet.experiments import recipe_figures as figures
    from covidcxnet.experiments.figure_inputs import choose, from_dataset, from_files
    from covidcxnet.reporting import plots
    from covidcxnet.training import AugmentSettings, Recipe, data
    from covidcxnet.training.statistics import with_histogram

    if recipe.data == "phantom" and recipe.phantom_images == Recipe.phantom_images:
        recipe = replace(recipe, phantom_images=60)  # to render 900 takes minutes
    segmenter = data.segmenter_of(recipe)
    if images is None:
        dataset = data.dataset_of(recipe)
        split = data.split_of(recipe, dataset)
        counts = figures.class_counts(recipe, dataset, split)
        print(plots.save(figures.draw_counts(counts, recipe.sampling), out / "sampling.png"))
        recipe = with_histogram(recipe, dataset, split, segmenter)
        training = replace(dataset, table=dataset.table[(split["split"] == "train").to_numpy()])
        shown = choose(from_dataset(training), values.rows, recipe.seed)
    else:
        shown = from_files(images)
    if recipe.trainable == "head" and recipe.cache_features:
        print("augmentation: none is used; the recipe trains the head alone, on features computed once")
        recipe, values.versions = replace(recipe, augment=AugmentSettings.none()), 1
    rows, unread = figures.augmented(recipe, shown, values.versions, segmenter=segmenter)
    for path, reason in unread.items():
        print(f"not read: {path}: {reason}")
    print(plots.save(figures.draw_augmented(recipe, rows), out / "augmentation.png"))
    return 1 if unread else 0


def _text(recipe: dict[str, Any]) -> str:
    import yaml

    wrapped = partial(textwrap.wrap, width=110, break_on_hyphens=False, break_long_words=False)
    lines = [recipe["name"]]
    published = ", ".join(f"{key} {value:g}" for key, value in recipe["published"].items())
    data = f"--data {recipe['data']}" if recipe["data"] else ""
    head = {"paper": recipe["title"], "place": recipe["place"], "published": published, "data": data}
    for key in filter(head.get, head):
        lines += wrapped(f"{key:<10} {head[key]}", subsequent_indent=" " * 11)
    headings = ("Reproduced", "Not reproduced", "Not stated in the paper, chosen here", "Next steps")
    for key, heading in zip(("reproduced", "not_reproduced", "chosen", "notes"), headings, strict=True):
        lines += ["", f"{heading}:"] if recipe[key] else []
        for sentence in recipe[key]:
            lines += wrapped(f"- {sentence}", subsequent_indent="  ")
    text = yaml.safe_dump(recipe["values"], sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    # A comment, so that all below the text can be saved as a recipe as it is.
    rest = f"# every other key keeps its default: train.py --recipe {recipe['name']} --print-config"
    return "\n".join([*lines, "", text.rstrip(), rest])
