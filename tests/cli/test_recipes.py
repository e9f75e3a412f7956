"""`covidcxnet recipes`: what it lists and shows."""

import json

import yaml

from covidcxnet import recipes
from covidcxnet.cli.recipes import main


def test_the_list_has_a_line_for_each_recipe(capsys):
    assert main(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert sorted(lines) == recipes.names()
    for words in ("pneumonia", "xception (pneumonia head) from imagenet", "128 raw", "accuracy 0.9519", "table 3"):
        assert words in lines["pneumonia-xception-balanced"]
    assert "320 clahe+beasf+raw, lungs" in lines["covid-cxnet-v2"]


def test_the_recipes_of_one_paper_can_be_listed_and_shown(capsys):
    assert main(["list", "--paper", "group-q", "--json"]) == 0
    assert [recipe["study"] for recipe in json.loads(capsys.readouterr().out)] == ["group-q"] * 12
    assert main(["show", "--paper", "radiography"]) == 0
    assert capsys.readouterr().out.count("Not reproduced:") == 8


def test_show_says_what_is_reproduced_and_what_not_and_ends_with_yaml_that_is_the_recipe(capsys):
    assert main(["show", "covid-cxnet-multiclass"]) == 0
    text = capsys.readouterr().out
    for words in ("Reproduced:", "Not reproduced:", "base image", "accuracy 0.942"):
        assert words in text
    assert yaml.safe_load(text[text.index("\nclasses:") :]) == recipes.read("covid-cxnet-multiclass").values


def test_show_takes_a_file(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("base: phantom\nseed: 4\nabout: {study: ours, place: desk}\n")
    assert main(["show", str(path)]) == 0
    text = capsys.readouterr().out
    assert "seed: 4" in text and "paper      ours" in text
