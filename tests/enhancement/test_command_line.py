"""Flags, exit codes and one-line errors that all commands share."""

import pytest

from enhancement.command_line import INTERRUPTED, Parser, run
from enhancement.errors import InputError


@pytest.mark.parametrize("flag", ["--batch-size", "--batch_size"])
def test_a_flag_may_be_spelt_with_dashes_or_underscores(flag):
    parser = Parser(prog="x")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("train").add_argument("--batch-size", type=int)
    assert parser.parse_args(["train", flag, "3"]).batch_size == 3
    assert parser.parse_args(["train", f"{flag}=4"]).batch_size == 4


def test_underscores_in_values_and_after_two_dashes_stay():
    parser = Parser(prog="x")
    parser.add_argument("--out")
    parser.add_argument("files", nargs="*")
    found = parser.parse_args(["--out=a_b", "--", "--my_file.png"])
    assert found.out == "a_b" and found.files == ["--my_file.png"]


def test_wrong_usage_is_one_line_and_code_two(capsys):
    assert run(lambda argv: Parser(prog="x").parse_args(argv), ["--nonsense"], prog="x") == 2
    error = capsys.readouterr().err
    assert error.startswith("x: error:") and "--nonsense" in error and len(error.splitlines()) == 1


def test_an_error_of_the_input_is_one_line_and_debug_adds_the_traceback(capsys):
    def command(argv):
        raise InputError("key: 3 given,\n4 expected")

    assert run(command, [], prog="x") == 2
    assert capsys.readouterr().err == "x: error: key: 3 given, 4 expected\n"
    assert run(command, ["--debug"], prog="x") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_place_that_the_system_refuses_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()

    def command(argv):
        (tmp_path / "file" / "below").mkdir()

    assert run(command, [], prog="x") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"x: error: {tmp_path / 'file' / 'below'}: ") and len(error.splitlines()) == 1


def test_an_error_of_the_program_is_not_hidden():
    def command(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(command, [], prog="x")


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(capsys):
    def command(argv):
        raise KeyboardInterrupt("go on with --resume")

    assert run(command, [], prog="x") == INTERRUPTED
    assert "go on with --resume" in capsys.readouterr().err
