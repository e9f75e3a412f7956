"""What a command cannot do is answered by one line and exit code 2."""

from __future__ import annotations

import pytest

from covidcxnet.cli import main


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trian", "unknown command 'trian'; did you mean train?"),
        ("models show resnet", "did you mean resnet"),
        ("models show small-cnn --size 9", "94"),
        ("models show vgg16 --classes 1", "from 2 to 100000"),
        ("recipes show covid-cxnet-v3", "did you mean covid-cxnet-v2"),
        ("recipes show", "--paper"),
        ("recipes show phantom --paper group-q", "--paper"),
        ("recipes list --paper lancet", "one of covid-cxnet, pneumonia, radiography, group-q"),
        ("recipes draw", "draw"),
        ("datasets show nhi", "there are: covidcxnet"),
        ("prepare --data phantom --input.channels purple", "purple"),
    ],
)
def test_it_is_one_line_that_says_what_is_expected(command, words, capsys):
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in words.split("; ")) and error.count("\n") == 1 and "Traceback" not in error
