"""The documentation: front page and cards of readable length and true, every public name in the API reference."""

import json
import re
import runpy
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import covidcxnet
import enhancement
import segmentation
import weights
from covidcxnet.cli import main as covidcxnet_main
from covidcxnet.recipes.files import names as recipe_names
from enhancement.__main__ import main as enhancement_main
from segmentation.__main__ import main as segmentation_main

ROOT = Path(__file__).parents[1]
MANIFEST = json.loads((ROOT / "weights" / "manifest.json").read_text(encoding="utf-8"))["weights"]
CARDS = {name: entry for name, entry in MANIFEST.items() if entry.get("card")}
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("package", [covidcxnet, enhancement, segmentation, weights], ids=lambda p: p.__name__)
def test_the_api_reference_names_every_public_name_once(package):
    page = (ROOT / "docs" / "api" / f"{package.__name__}.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: [\w.]+\.(\w+)$", page, re.MULTILINE) + re.findall(r"^`covidcxnet\.(\w+)` is", page)
    named += ["load_dataset"] if "`covidcxnet.load_dataset` is" in page else []
    assert sorted(set(package.__all__) - set(named)) == [] and len(named) == len(set(named))


def test_the_front_page_fits_its_limit_and_all_of_its_files_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120 and "not a medical device" in text
    assert "make demo" in text and "make test" in text and "pip install" in text
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)}
    assert not [target for target in targets if not (ROOT / target).exists()]
    assert not [name for name in CARDS if f"](weights/{name}.md)" not in text]


@pytest.mark.parametrize("name", CARDS)
def test_a_card_fits_two_screens_and_agrees_with_the_manifest(name):
    entry, text = CARDS[name], (ROOT / "weights" / CARDS[name]["card"]).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110 and max(map(len, text.splitlines())) <= 120
    head, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
    facts = yaml.safe_load(head)
    assert facts["license"] == "cc-by-nc-sa-4.0" and "CC BY-NC-SA 4.0" in entry["licence"]
    assert facts["library_name"] == "keras" and facts["model-index"][0]["name"] == name
    assert entry["sha256"] in body and f"{entry['size']:,} bytes" in body
    headings = re.findall(r"^## (.+)$", body, re.MULTILINE)
    expected = ["Intended use", "How to use", "Training data", "Evaluation", "Limitations", "Licence", "Citation"]
    assert [heading for heading in headings if heading in expected] == expected
    # Each figure of the header stands in the text, to the digits given there.
    for result in facts["model-index"][0]["results"]:
        assert all(f"{metric['value']:.3f}" in body for metric in result["metrics"])


ROWS = [line.split(" | ") for line in (ROOT / "docs" / "papers.md").read_text(encoding="utf-8").splitlines()]
ROWS = [row for row in ROWS if len(row) == 5 and row[1] in ("full", "partly")]


def test_the_papers_have_62_rows_and_at_least_55_are_reproduced_in_full():
    assert len(ROWS) == 62 and sum(row[1] == "full" for row in ROWS) >= 55
    assert not [row[0] for row in ROWS if row[1] == "partly" and len(row[4]) < 10]


def test_each_command_of_the_papers_exists_with_its_recipe_and_flags(capsys):
    def help_of(words):
        script, rest = (words[1], words[2:]) if words[0] == "python" else (words[0], words[1:])
        if script == "-m":
            main, prefix = (enhancement_main if rest[0] == "enhancement" else segmentation_main), [rest[1]]
        else:
            main = covidcxnet_main
            prefix = [script.removesuffix(".py")] if script != "covidcxnet" else rest[:1]
            prefix += rest[1:2] if prefix[0] in ("models", "recipes", "datasets", "weights") else []
        with pytest.raises(SystemExit) as end:
            main([*prefix, "--help"], *(["x"] if main is not covidcxnet_main else []))
        assert not end.value.code, words
        return capsys.readouterr().out

    helps = {}
    commands = [command for row in ROWS for command in re.findall(r"`((?:python|covidcxnet) [^`]+)`", row[2])]
    for command in commands:
        words = shlex.split(command)
        key = tuple(words[: 4 if words[:2] == ["python", "-m"] else 3])
        if key not in helps:
            helps[key] = help_of(words)
        # settings that are a dictionary take a key after a dot
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        known = set(re.findall(r"--[\w.-]+", helps[key]))
        assert not [f for f in flags if f not in known and f.partition(".")[0] not in known], command
        names = [b for a, b in pairwise(words) if a in ("--recipe", "find-lr", "sweep", "groups")]
        names += words[3:4] if words[1:3] == ["recipes", "draw"] else []
        assert set(names) <= {*recipe_names()}, command


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_draws_its_pictures(path):
    pytest.importorskip("nbclient")
    tutorials = runpy.run_path(str(ROOT / "tools" / "tutorials.py"))
    drawn = tutorials["pictures"](tutorials["execute"](path))
    stored = [sum("image/png" in output["data"] for output in cell.get("outputs", ())) for cell in _cells(path)]
    assert [len(pictures) for pictures in drawn] == stored and sum(stored) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_is_stored_small_with_pictures_only(path):
    assert path.stat().st_size < 400_000
    outputs = [output for cell in _cells(path) for output in cell.get("outputs", ())]
    assert all(output["output_type"] == "display_data" and list(output["data"]) == ["image/png"] for output in outputs)


def _cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]
