"""The grammar, exit codes and one-line errors that all commands share."""

import subprocess
import sys

import pytest

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


def test_underscores_in_values_and_after_two_dashes_stay_and_a_short_flag_comes_before_an_alias():
    parser = Parser(prog="x")
    parser.add_argument("--size", type=int)
    parser.add_argument("--input.size", type=int)
    assert parser.parse_args(["--size", "3"]).size == 3
    parser.add_argument("--out")
    parser.add_argument("files", nargs="*")
    values = parser.parse_args(["--out=a_b", "--", "--my_file.png"])
    assert values.out == "a_b" and values.files == ["--my_file.png"]


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
        (
            ["train", "--schedule", "cosin"],
            "--schedule: 'cosin' given, one of cosine, constant expected; did you mean cos",
        ),
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


def test_an_error_of_the_input_is_one_line_and_debug_adds_the_traceback(capsys):
    @command("x")
    def main(argv, prog):
        assert not argv
        raise InputError("key: 3 given,\n4 expected")

    assert main([]) == 2
    assert capsys.readouterr().err == "x: error: key: 3 given, 4 expected\n"
    assert main(["--debug"], prog="y") == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.endswith("y: error: key: 3 given, 4 expected\n")


def test_a_folder_that_the_system_refuses_is_one_line(tmp_path, capsys):
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
