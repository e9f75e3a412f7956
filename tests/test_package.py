"""The package as a whole: light imports, commands that answer, floors that are kept."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import weights
from covidcxnet.cli import COMMANDS, main
from enhancement.errors import InputError

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("tensorflow", "keras", "torch", "jax", "sklearn", "matplotlib", "lime")


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", ["covidcxnet", "segmentation", "enhancement", "weights"])
def test_import_is_light(package):
    assert not loaded_after(f"import {package}") & set(HEAVY)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_answers_without_loading_a_network(command):
    code = (
        "import contextlib, io\nfrom covidcxnet.cli import main\nout = io.StringIO()\n"
        f"with contextlib.redirect_stdout(out):\n    try:\n        main([{command!r}, '--help'])\n"
        "    except SystemExit as end:\n        assert not end.code, end.code\n"
        f"assert 'covidcxnet {command}' in out.getvalue(), out.getvalue()"
    )
    assert not loaded_after(code) & {"tensorflow", "keras", "torch", "jax"}


def test_unknown_command_is_refused_with_the_list_of_commands(capsys):
    assert main(["trian"]) == 2
    assert "trian" in capsys.readouterr().err


def test_no_command_prints_the_help_and_says_research_only(capsys):
    assert main([]) == 2
    assert "Not a medical device" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("weights", {"segmentation", "covidcxnet", "tensorflow"}),
        ("enhancement", {"segmentation", "covidcxnet", "weights", "keras", "tensorflow"}),
        ("segmentation", {"covidcxnet", "tensorflow"}),
        ("covidcxnet", {"tensorflow"}),
    ],
)
def test_arrows_only_point_down(room, forbidden):
    """A lower floor never imports a higher one; only modules that hold per-backend lines may name one.

    They are Grad-CAM's gradients, determinism, batch norm as TensorFlow's fused operation (models are built of Keras'
    own layer, and other backends compute that), and the writers of TensorFlow's own file formats.
    """
    for file in (REPOSITORY / room).rglob("*.py"):
        if file.name in ("backend.py", "export_formats.py"):
            continue
        found = {name.split(".")[0] for name in _imports(file)} & forbidden
        assert not found, f"{file.relative_to(REPOSITORY)} imports {found}"


def test_unknown_released_weights_are_refused_by_name():
    with pytest.raises(InputError, match="no-such-weights"):
        weights.released("no-such-weights")


def _imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names
