"""The package as a whole: light imports, commands that answer, imports that only point down, words that are avoided."""

import ast
import configparser
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import covidcxnet
import weights
from covidcxnet.cli import COMMANDS, main
from covidcxnet.requirements import MODULES, installed
from enhancement.errors import InputError

REPOSITORY = Path(__file__).parents[1]
HEAVY = {"tensorflow", "keras", "torch", "jax", "sklearn", "matplotlib", "lime"}
NETWORKS = {"tensorflow", "keras", "torch", "jax"}

# Imports point down this list only; modules of one line may import each other.
ORDER = (
    ("train", "evaluate", "covidcxnet.__main__"),
    ("covidcxnet.cli",),
    ("covidcxnet",),  # the public names, each imported when it is asked for
    ("covidcxnet.experiments",),
    ("covidcxnet.evaluation",),
    ("covidcxnet.training",),
    ("covidcxnet.export", "covidcxnet.export_formats"),
    ("covidcxnet.pretrained",),
    ("covidcxnet.legacy", "covidcxnet.torch_weights"),
    ("covidcxnet.classifier",),
    ("covidcxnet.prediction",),
    ("covidcxnet.explain",),
    ("covidcxnet.models",),
    ("covidcxnet.preparation",),
    ("covidcxnet.datasets",),
    ("covidcxnet.reporting",),
    ("covidcxnet.settings", "covidcxnet.backend", "covidcxnet.cluster", "covidcxnet.recipes"),
    ("segmentation",),
    ("weights",),
    ("enhancement",),
    ("covidcxnet.requirements",),
)
FLOORS = {name: floor for floor, names in enumerate(reversed(ORDER)) for name in names}

# Models are built of Keras' own layers and functions. These modules hold the few lines that name TensorFlow: compiled
# functions and determinism, batch norm as its fused operation, and the writers of its file formats.
NAME_A_BACKEND = {
    "covidcxnet.backend",
    "covidcxnet.export_formats",
    "segmentation.backend",
    "covidcxnet.training.distributed",
}
NAME_A_BACKEND |= {"weights.torch_pickle"}  # names in files of PyTorch, compared and never imported

# Words that say nothing of what a value is; a noun of the field does.
BANNED = {"said", "told", "found", "own", "made", "one"}


TOPS = [
    REPOSITORY / name for name in ("train.py", "evaluate.py", "covidcxnet", "segmentation", "weights", "enhancement")
]
PATHS = [file for top in TOPS for file in ([top] if top.is_file() else sorted(top.rglob("*.py")))]
# Modules of the product by dotted name.
FILES = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path for path in PATHS}
TREES = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in FILES.items()}


def _imports(module: str, tree: ast.AST) -> Iterator[str]:
    """Names of what a module imports: at the top, in functions, for type checkers, or by a string with its path."""
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            # `from package import x` imports the module x where there is one, otherwise a name of the package.
            yield from (f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            yield node.value


def _floor(module: str) -> int | None:
    """Place of a module in the order: that of the longest name there that it is, or lies below."""
    if module in FLOORS:
        return FLOORS[module]
    above = [name for name in FLOORS if name != "covidcxnet" and module.startswith(f"{name}.")]
    return FLOORS[max(above, key=len)] if above else None


# Imports the packages, then asks every command and script for help; prints which top-level modules each step adds.
LIGHT = """
import contextlib, importlib, io, json, runpy, sys

def added():
    global held
    before, held = held, {name.split(".")[0] for name in sys.modules}
    return sorted(held - before)

held, steps = set(), {}
for name in ("enhancement.__main__", "enhancement", "weights", "segmentation", "covidcxnet", "covidcxnet.evaluation"):
    importlib.import_module(name)
    steps[name] = added()

from covidcxnet.cli import COMMANDS, main
from covidcxnet.requirements import MODULES, installed

helps = {f"covidcxnet {name}": lambda name=name: main([name, "--help"]) for name in COMMANDS}
for script in ("train.py", "evaluate.py"):
    helps[script] = lambda script=script: runpy.run_path(script, run_name="__main__")
for name, run in helps.items():
    sys.argv, out = [name, "--help"], io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            run()
        except SystemExit as end:
            assert not end.code, (name, end.code)
    assert name in out.getvalue(), (name, out.getvalue())
    steps[f"{name} --help"] = added()
with contextlib.redirect_stderr(io.StringIO()):
    for wrong in (["--weights", "nope"], ["--weights", "base-cnn", "--segmenter", "nope"]):
        assert main(["predict", "docs/report.png", *wrong]) == 2
steps["predict with weights of no such name"] = added()
print(json.dumps(steps))
"""


@pytest.fixture(scope="module")
def loaded():
    """Top-level modules by the import or command that loads them first, in one fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return {step: set(modules) for step, modules in json.loads(done.stdout.splitlines()[-1]).items()}


def test_imports_only_point_down_and_in_no_circle():
    """Imports inside functions and for type checkers count: hiding an import does not turn the arrow."""
    graph = {module: {name for name in _imports(module, tree) if name in FILES} for module, tree in TREES.items()}
    assert not [module for module in FILES if _floor(module) is None], "no place in the order"
    assert not [f"{a} -> {b}" for a in sorted(graph) for b in sorted(graph[a]) if _floor(b) > _floor(a)]
    # raises CycleError with the modules of a circle
    TopologicalSorter({module: imports - {module} for module, imports in graph.items()}).prepare()


def test_only_named_modules_name_a_backend():
    for package in ("enhancement", "weights", "segmentation", "covidcxnet"):
        refused = NETWORKS if package == "enhancement" else NETWORKS - {"keras"}
        modules = [module for module in FILES if module.split(".")[0] == package and module not in NAME_A_BACKEND]
        assert not [m for m in modules if {name.split(".")[0] for name in _imports(m, TREES[m])} & refused]


def test_names_say_what_a_value_is_and_independent_labels_are_a_task_and_no_module_or_class():
    nodes = [(module, node) for module, tree in TREES.items() for node in ast.walk(tree)]
    defined = [(m, n.name) for m, n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    variables = [(m, n.id) for m, n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    arguments = [(m, n.arg) for m, n in nodes if isinstance(n, ast.arg)]
    assert not [f"{m}: {name}" for m, name in (*defined, *variables, *arguments) if name in BANNED]
    classes = [node.name for _, node in nodes if isinstance(node, ast.ClassDef)]
    assert not [name for name in [*FILES, *classes] if "multilabel" in name.rpartition(".")[2].lower()]


def test_imports_the_help_of_any_command_and_refused_weights_load_no_network(loaded):
    assert {f"covidcxnet {name} --help" for name in COMMANDS} | {"train.py --help", "evaluate.py --help"} <= set(loaded)
    assert not {step: modules & HEAVY for step, modules in loaded.items() if modules & HEAVY}
    assert not {"Any", "TYPE_CHECKING", "import_module"} & set(dir(covidcxnet)) and "train" in dir(covidcxnet)
    assert not loaded["enhancement.__main__"] & {"covidcxnet", "segmentation", "weights", "pandas", "h5py"}


def test_no_command_prints_the_help_and_says_research_only_and_unknown_weights_are_refused_by_name(capsys):
    assert main([]) == 2
    assert "Not a medical device" in capsys.readouterr().out
    with pytest.raises(InputError, match="no-such-weights"):
        weights.released("no-such-weights")


@pytest.mark.parametrize("script", [["train.py"], ["evaluate.py", "--help"], ["-m", "covidcxnet", "train"]])
def test_a_script_outside_the_environment_says_what_is_missing_and_how_to_install_it(script):
    # -S: without the folders that packages are installed into
    done = subprocess.run([sys.executable, "-S", "-E", *script], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert "has no module lazy_loader" in line
    install = re.search(r"install: (.+) && (pip install .+)", line)
    assert all(command in (REPOSITORY / "README.md").read_text("utf-8") for command in install.groups())


def test_every_requirement_is_known_by_its_import_and_other_missing_modules_stay_errors():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    required = re.findall(r"^[\w-]+", setup["options"]["install_requires"], re.M)
    given = {name: {d.lower().replace("_", "-") for d in names} for name, names in packages_distributions().items()}
    provided = {distribution for name in MODULES for distribution in given[name]}
    assert {name.lower() for name in required} == provided
    for name in ("covidcxnet.nothing", "keras.nothing", "nothing"):
        with pytest.raises(ModuleNotFoundError), installed("train.py"):
            raise ModuleNotFoundError(name=name)
