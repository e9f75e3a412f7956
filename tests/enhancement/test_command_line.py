"""What all commands share: grammar, exit codes, one-line errors, and an import that loads nothing heavy."""

import re
import subprocess
import sys

import pytest

import enhancement
from enhancement.command_line import INTERRUPTED, Parser, add_progress, command, did_you_mean, run
from enhancement.errors import InputError


def _parser():
    parser = Parser(prog="x")
    train = parser.add_subparsers(dest="command", required=True).add_parser("train")
    train.add_argument("--batch-size", type=int, default=8, help="images in a step")
    train.add_argument("--learning-rate", type=float)
    train.add_argument("--schedule", choices=("cosine", "constant"))
    train.add_argument("files", nargs="*")
    add_progress(train)
    return parser


@pytest.mark.parametrize("flag", ["--batch-size", "--batch_size", "--batch"])
def test_a_flag_is_spelt_with_dashes_or_underscores_or_by_its_usual_short_name(flag):
    assert _parser().parse_args(["train", flag, "3"]).batch_size == 3
    assert _parser().parse_args(["train", f"{flag}=4"]).batch_size == 4


def test_a_short_flag_comes_before_an_alias_and_underscores_in_values_and_after_two_dashes_stay():
    parser = Parser(prog="x")
    for flag in ("--size", "--input.size", "--out"):
        parser.add_argument(flag)
    parser.add_argument("files", nargs="*")
    values = parser.parse_args(["--size", "3", "--out=a_b", "--", "--my_file.png"])
    assert values.size == "3" and values.out == "a_b" and values.files == ["--my_file.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "required: command (see x --help)"),
        (["trian"], "unknown command 'trian', one of train expected; did you mean train? (see x --help)"),
        (["train", "--batchsize", "3"], "unknown flag --batchsize; did you mean --batch-size? (see x train --help)"),
        (["train", "--learn_rate=3"], "unknown flag --learn-rate; did you mean --learning-rate? (see x train --help)"),
        (["train", "--s"], "unknown flag --s; did you mean --schedule?"),
        (["train", "--lr", "fast"], "--learning-rate: 'fast' given, a number expected"),
        (["train", "--batch", "2.5"], "--batch-size: '2.5' given, a whole number expected"),
        (["train", "--schedule", "cosin"], "'cosin' given, one of cosine, constant expected; did you mean cosine?"),
        (["train", "--xyz"], "unknown flag --xyz (see x train --help)"),
    ],
)
def test_wrong_usage_is_one_line_that_names_what_is_nearest_and_code_two(arguments, message, capsys):
    assert run(lambda argv: _parser().parse_args(argv), arguments, prog="x") == 2
    error = capsys.readouterr().err
    assert error.startswith("x: error: ") and message in error and len(error.splitlines()) == 1


def test_of_ambiguous_names_at_most_three_are_named_and_nested_ones_by_their_last_part():
    flags = ["--seed", "--size", "--split", "--store", "--augment.rotation"]
    assert did_you_mean("--s", flags) == "; did you mean --seed, --size or --split?"
    assert did_you_mean("--rotations", flags) == "; did you mean --augment.rotation?"


def test_help_names_defaults_and_quiet_is_no_progress(capsys):
    with pytest.raises(SystemExit):
        _parser().parse_args(["train", "--help"])
    assert [_parser().parse_args(["train", *f]).progress for f in ([], ["--quiet"], ["--no-progress"])] == [1, 0, 0]
    text = " ".join(capsys.readouterr().out.split())
    assert "images in a step (default: 8)" in text and "show progress bars (default: yes)" in text and "--debug" in text


def test_an_error_of_the_input_or_the_system_is_one_line_and_debug_adds_the_traceback(tmp_path, capsys):
    @command("x")
    def main(argv, prog):
        assert not argv
        raise InputError("key: 3 given,\n4 expected")

    assert main([]) == 2
    assert capsys.readouterr().err == "x: error: key: 3 given, 4 expected\n"
    assert main(["--debug"], prog="y") == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.endswith("y: error: key: 3 given, 4 expected\n")
    (tmp_path / "file").touch()
    assert run(lambda argv: (tmp_path / "file" / "below").mkdir(), [], prog="x") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"x: error: {tmp_path / 'file' / 'below'}: ") and len(error.splitlines()) == 1


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(capsys):
    def work(argv):
        raise KeyboardInterrupt("resume with --resume")

    with pytest.raises(ZeroDivisionError):  # an error of the program is not hidden
        run(lambda argv: 1 // 0, [], prog="x")
    assert run(work, [], prog="x") == INTERRUPTED
    assert "resume with --resume" in capsys.readouterr().err


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_goes_is_no_error(lines):
    code = f"import sys; from enhancement.command_line import run; work = lambda _: print('a\\n' * {lines})\n"
    code += "sys.exit(run(work, [], prog='x'))"
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    program.stdout.close()
    assert program.stderr.read() == b"" and program.wait() == 0
    program.stderr.close()


HEAVY = {"skimage", "matplotlib", "pydicom", "cv2", "numpy"}


def loaded(statement: str, names: set[str]) -> list[str]:
    report = f"\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}} & {names!r}))"
    command = [sys.executable, "-c", statement + report]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


USE = """
import numpy as np, enhancement
for name in enhancement.__all__:
    getattr(enhancement, name)
enhancement.stack(np.zeros((9, 9), np.uint8), enhancement.CHANNELS)
import enhancement.dicom, enhancement.raster, enhancement.batch, enhancement.sheet, enhancement.__main__
"""


def test_using_every_function_loads_no_keras_and_no_other_package():
    assert loaded(USE, {"tensorflow", "keras", "torch", "jax", "segmentation", "covidcxnet", "sklearn", "pandas"}) == []


def test_help_and_import_load_no_heavy_library_and_the_module_runs_as_a_program():
    help = "import enhancement.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass"
    *text, last = loaded(f"import enhancement\n{help}\nprint(end='|')", {"tensorflow", "keras", *HEAVY})
    assert last.endswith("|")
    assert {"beasf", "clahe", "equalize", "blur", "match", "stack"} <= set(re.findall(r"\w+", " ".join(text)))
    done = subprocess.run([sys.executable, "-m", "enhancement", "--help"], capture_output=True, text=True, check=True)
    assert "beasf" in done.stdout


def test_every_public_name_is_there_and_unknown_ones_are_attribute_errors():
    assert set(enhancement.__all__) <= set(dir(enhancement))
    assert all(getattr(enhancement, name) is not None for name in enhancement.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = enhancement.nothing
