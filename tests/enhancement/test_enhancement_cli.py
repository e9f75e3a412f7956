"""The command line: one file, folders, patterns; what fails is listed and stops nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from enhancement import beasf, clahe, equalize, gaussian_blur, match_histogram, read_radiograph, stack
from enhancement.__main__ import main


@pytest.fixture
def image():
    y, x = np.mgrid[:40, :50]
    return (60 + y * 2 + x + 20 * np.sin(x / 4)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, image):
    for name in ("in/a.png", "in/sub/b.png", "in/sub/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), image)
    return tmp_path


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


COMMANDS = {
    "beasf --gamma 3 --histogram range": lambda image: beasf(image, 3.0, "range"),
    "clahe --clip-limit 4 --tile-grid 2 3": lambda image: clahe(image, 4.0, (2, 3)),
    "equalize": equalize,
    "blur --kernel 7": lambda image: gaussian_blur(image, 7),
    "adaptive --radius 5": None,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_one_file_goes_to_one_file(folder, image, command):
    name, *options = command.split()
    assert run(name, folder / "in/a.png", folder / "out.png", *options) == 0
    result = read_radiograph(folder / "out.png")
    assert result.shape == image.shape
    if COMMANDS[command]:
        assert (result == COMMANDS[command](image)).all()


def test_match_takes_a_template_and_stack_writes_its_channels_as_red_green_blue(folder, image):
    template = (image // 2).astype(np.uint8)
    cv2.imwrite(str(folder / "template.png"), template)
    assert run("match", folder / "in/a.png", folder / "out.png", "--template", folder / "template.png") == 0
    assert (read_radiograph(folder / "out.png") == match_histogram(image, template)).all()
    assert run("stack", folder / "in/a.png", folder / "rgb.png", "--channels", "raw,beasf,clahe") == 0
    written = cv2.imread(str(folder / "rgb.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert (written == stack(image, ("raw", "beasf", "clahe"))).all()


def test_folders_and_patterns_keep_their_tree_and_the_input_is_not_written_over(folder, image, capsys):
    assert run("equalize", folder / "in", folder / "out", "--jobs", 2) == 0
    written = sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*.png"))
    assert written == ["a.png", "sub/b.png", "sub/c.png"]
    output = capsys.readouterr()
    assert "3 of 3 written" in output.out and "3/3" in output.err
    assert run("equalize", f"{folder}/in/**/*.png", folder / "some") == 0
    written = sorted(path.relative_to(folder / "some").as_posix() for path in (folder / "some").rglob("*.*"))
    assert written == ["a.png", "sub/b.png"]
    assert run("beasf", folder / "in", folder / "in") == 1
    assert (read_radiograph(folder / "in/a.png") == image).all()


def test_unreadable_files_are_listed_at_the_end_and_the_rest_is_done(folder, capsys):
    (folder / "in/broken.png").write_bytes((folder / "in/a.png").read_bytes()[:100])
    (folder / "in/empty.jpg").write_bytes(b"")
    assert run("beasf", folder / "in", folder / "out", "--jobs", 2) == 1
    assert len(list((folder / "out").rglob("*.png"))) == 3
    lines = capsys.readouterr().err.splitlines()[-3:]
    assert "2 not done" in lines[0] and "broken.png" in lines[1] and "truncated" in lines[1] and "empty.jpg" in lines[2]


def test_existing_files_are_left_unless_told(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out/a.png").write_text("precious")
    assert run("beasf", folder / "in", folder / "out") == 1
    assert (folder / "out/a.png").read_text() == "precious" and (folder / "out/sub/b.png").exists()
    assert "a.png: exists already" in capsys.readouterr().err
    assert run("beasf", folder / "in", folder / "out", "--overwrite") == 0
    assert read_radiograph(folder / "out/a.png").shape == (40, 50)


def test_names_that_meet_keep_their_endings(folder, image):
    cv2.imwrite(str(folder / "in/a.bmp"), image)
    assert run("equalize", folder / "in", folder / "out") == 0
    assert (folder / "out/a.png.png").exists() and (folder / "out/a.bmp.png").exists()


def test_inputs_that_would_meet_in_one_file_are_refused(folder, capsys):
    (folder / "other").mkdir()
    (folder / "other/a.png").write_bytes((folder / "in/a.png").read_bytes())
    assert run("equalize", folder / "in/a.png", folder / "other/a.png", folder / "out") == 2
    assert "several inputs" in capsys.readouterr().err


def test_results_below_the_input_are_not_taken_for_input(folder):
    assert run("equalize", folder / "in", folder / "in/out") == 0
    assert run("equalize", folder / "in", folder / "in/out", "--overwrite") == 0
    assert len(list((folder / "in/out").rglob("*.png"))) == 3


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
def test_the_ending_of_out_decides_on_the_format(folder, image, suffix):
    assert run("equalize", folder / "in/a.png", folder / f"out{suffix}") == 0
    difference = np.abs(read_radiograph(folder / f"out{suffix}").astype(int) - equalize(image))
    assert difference.max() <= (20 if suffix == ".jpg" else 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beasf", "nowhere", "out"], "no such file or folder"),
        (["beasf", "in", "out", "--gamma", "0"], "gamma"),
        (["clahe", "in", "out", "--tile-grid", "0", "8"], "tile_grid"),
        (["blur", "in", "out", "--kernel", "4"], "kernel"),
        (["stack", "in", "out", "--channels", "raw,clahe"], "--channels"),
        (["stack", "in", "out", "--channels", "raw,clahe,best"], "best"),
        (["match", "in", "out", "--template", "nowhere.png"], "no such file"),
        (["beasf", "in/a.png", "out.xyz"], "cannot be written"),
        (["beasf", "in", "in/a.png"], "a folder expected"),
        (["beasf", "in", "out", "--jobs", "0"], "--jobs"),
        (["beasf", "in", "out", "--compare", "sheet.docx"], "cannot be drawn"),
        *((["beasf", "in", "out", "--window", window], "LOW") for window in ("5,1", "wide", "1,2,3", "0", "named:")),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    assert main(arguments, prog="covidcxnet enhance") == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(("covidcxnet enhance: error: ", "covidcxnet enhance beasf: error: "))
    assert message in error and "\n" not in error and "Traceback" not in error
    assert not (folder / "out").exists()


def test_the_window_reaches_the_reader(folder):
    deep = np.arange(2000, dtype=np.uint16).reshape(40, 50) * 20
    cv2.imwrite(str(folder / "deep.png"), deep)
    assert run("stack", folder / "deep.png", folder / "out.png", "--channels", "raw", "--window=-100,10000") == 0
    assert (read_radiograph(folder / "out.png") == read_radiograph(folder / "deep.png", window=(-100, 10000))).all()


def test_compare_draws_a_sheet_once(folder, capsys):
    sheet = folder / "sheet.png"
    (folder / "in/empty.png").write_bytes(b"")
    arguments = ("beasf", folder / "in", folder / "out", "--compare", sheet, "--compare-count", 2, "--gammas", "1,2")
    assert run(*arguments) == 1
    assert "2 of 4 radiographs drawn" in capsys.readouterr().out
    before = sheet.read_bytes()
    assert run(*arguments) == 2
    assert "sheet.png: exists already" in capsys.readouterr().err and sheet.read_bytes() == before
