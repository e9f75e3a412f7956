"""`covidcxnet recipes`: what it lists and shows, and how it answers what it cannot."""

import json
import subprocess
import sys

import pytest
import yaml

from covidcxnet import recipes
from covidcxnet.cli.recipes import facts, main


def test_the_list_has_a_line_for_each_recipe(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == recipes.names()
    line = next(line for line in lines if line.startswith("pneumonia-xception-balanced "))
    for word in ("pneumonia", "xception (pneumonia head) from imagenet", "128 raw", "accuracy 0.9519", "table 3"):
        assert word in line
    assert "320 clahe+beasf+raw, lungs" in next(line for line in lines if line.startswith("covid-cxnet-v2 "))


def test_the_list_can_be_kept_to_one_paper(capsys):
    assert main(["list", "--paper", "group-q", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 12 and {one["study"] for one in found} == {"group-q"}


def test_show_says_what_is_reproduced_and_what_not_and_ends_with_yaml_that_is_the_recipe(capsys):
    assert main(["show", "covid-cxnet-multiclass"]) == 0
    text = capsys.readouterr().out
    assert "Reproduced:" in text and "Not reproduced:" in text and "base image" in text and "accuracy 0.942" in text
    assert yaml.safe_load(text[text.index("\nclasses:") :]) == recipes.read("covid-cxnet-multiclass").values


def test_show_takes_a_file_of_ones_own(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("base: phantom\nseed: 4\nabout: {study: ours, place: desk}\n")
    assert main(["show", str(path)]) == 0
    assert "seed: 4" in capsys.readouterr().out and facts(str(path))["title"] == "ours"


def test_show_takes_all_of_a_paper(capsys):
    assert main(["show", "--paper", "radiography"]) == 0
    assert capsys.readouterr().out.count("Not reproduced:") == 8


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["show", "covid-cxnet-v3"], "did you mean covid-cxnet-v2"),
        (["show"], "--paper"),
        (["show", "phantom", "--paper", "group-q"], "--paper"),
        (["list", "--paper", "lancet"], "one of covid-cxnet, pneumonia, radiography, group-q"),
        (["draw"], "draw"),
    ],
)
def test_what_cannot_be_is_answered_by_one_line(arguments, word, capsys):
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert word in errors and errors.count("\n") == 1


def test_the_list_loads_no_keras():
    code = "import sys; from covidcxnet.cli.recipes import main; main(['list']);"
    code += "print({'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
