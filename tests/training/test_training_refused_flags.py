"""Flags of train that another command has no use for: not offered, and refused with a reason."""

import pytest

from covidcxnet.cli import find_lr, prepare, sweep
from covidcxnet.training.arguments import parse_recipe
from enhancement.errors import InputError


@pytest.mark.parametrize(
    ("main", "reasons", "flags"),
    [
        (prepare.main, prepare.REFUSED, ["resume", "print_config"]),
        (find_lr.main, find_lr.REFUSED, ["resume", "print_config"]),
        (sweep.groups, sweep.REFUSED, ["resume", "print_config", "sampling", "class_weights"]),
    ],
)
def test_what_a_command_has_no_use_for_is_not_offered_and_refused(main, reasons, flags, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    offered = capsys.readouterr().out
    assert "--learning-rate" in offered
    for flag in flags:
        assert f"--{flag.replace('_', '-')}" not in offered
        for given in (f"--{flag}=x", f"--{flag.replace('_', '-')}"):
            assert main([given]) == 2
            assert f"--{flag.replace('_', '-')}: {reasons[flag]}" in capsys.readouterr().err


def test_a_recipe_may_have_the_keys_of_refused_flags(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("sampling: oversample\nepochs: 3\n", encoding="utf-8")
    assert parse_recipe(["--recipe", str(recipe)], refused={"sampling": "why"}).sampling == "oversample"
    with pytest.raises(InputError, match="--sampling: why"):
        parse_recipe(["--recipe", str(recipe), "--sampling", "none"], refused={"sampling": "why"})
