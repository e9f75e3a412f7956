"""The command line: files, folders, patterns, comparison sheets; what fails is listed and stops nothing."""

import cv2
import numpy as np
import pytest

from enhancement import InputError, adaptive_equalize, beasf, clahe, equalize, gaussian_blur, match_histogram, stack
from enhancement.__main__ import main
from enhancement.radiograph import read_radiograph
from enhancement.sheet import GAMMAS, draw_sheet, save_sheet


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
    "adaptive --radius 5": lambda image: adaptive_equalize(image, 5),
    "match --template template.png": lambda image: match_histogram(image, image // 2),
    "stack --channels raw,beasf,clahe": lambda image: stack(image, ("raw", "beasf", "clahe")),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_one_file_goes_to_one_file_and_channels_are_red_green_blue(folder, image, command, monkeypatch):
    monkeypatch.chdir(folder)
    cv2.imwrite("template.png", image // 2)
    name, *options = command.split()
    assert run(name, "in/a.png", "out.png", *options) == 0
    result = cv2.imread("out.png", cv2.IMREAD_UNCHANGED)
    assert ((result[..., ::-1] if result.ndim == 3 else result) == COMMANDS[command](image)).all()


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


def test_unreadable_files_are_listed_at_the_end_and_existing_ones_left_unless_told(folder, capsys):
    (folder / "in/broken.png").write_bytes((folder / "in/a.png").read_bytes()[:100])
    (folder / "in/empty.jpg").write_bytes(b"")
    assert run("beasf", folder / "in", folder / "out", "--jobs", 2) == 1
    assert len(list((folder / "out").rglob("*.png"))) == 3
    lines = capsys.readouterr().err.splitlines()[-3:]
    assert "2 not done" in lines[0] and "broken.png" in lines[1] and "truncated" in lines[1] and "empty.jpg" in lines[2]
    (folder / "out/a.png").write_text("precious")
    (folder / "out/sub/b.png").unlink()
    assert run("beasf", folder / "in", folder / "out") == 1
    assert (folder / "out/a.png").read_text() == "precious" and (folder / "out/sub/b.png").exists()
    assert "a.png: exists already" in capsys.readouterr().err
    assert run("beasf", folder / "in/a.png", folder / "out", "--overwrite") == 0
    assert read_radiograph(folder / "out/a.png").shape == (40, 50)


def test_names_that_meet_keep_their_endings_or_are_refused_and_results_are_not_taken_for_input(folder, image, capsys):
    for _ in range(2):
        assert run("equalize", folder / "in", folder / "in/out", "--overwrite") == 0
        assert len(list((folder / "in/out").rglob("*.png"))) == 3
    cv2.imwrite(str(folder / "in/a.bmp"), image)
    assert run("equalize", folder / "in", folder / "out") == 0
    assert (folder / "out/a.png.png").exists() and (folder / "out/a.bmp.png").exists()
    (folder / "other").mkdir()
    (folder / "other/a.png").write_bytes((folder / "in/a.png").read_bytes())
    assert run("equalize", folder / "in/a.png", folder / "other/a.png", folder / "out") == 2
    assert "several inputs" in capsys.readouterr().err


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


@pytest.fixture(scope="module")
def images():
    y, x = np.mgrid[:60, :80]
    return [(40 + y + x).astype(np.uint8), np.zeros((90, 30), np.uint8), np.full((1, 1), 255, np.uint8)]


@pytest.fixture(scope="module")
def figure(images):
    return draw_sheet(images[:1], ["chest"], gammas=(0.5, 1.5))


def test_every_variant_has_a_picture_and_a_histogram(figure):
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    variants = ("original", "histogram equalization", "CLAHE, clip 2", "BEASF, γ = 0.5", "BEASF, γ = 1.5")
    assert titles == [f"({letter}) {name}" for letter, name in zip("abcde", variants, strict=True)]
    assert len(figure.axes) == 10


def test_nothing_lies_on_anything_else(images):
    figure = draw_sheet(images, ["a", "b", "c"])
    assert len(figure.axes) == 2 * len(images) * (3 + len(GAMMAS))
    boxes = [axes.get_position() for axes in figure.axes]
    for index, box in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1
        for other in boxes[:index]:
            assert box.x1 <= other.x0 or other.x1 <= box.x0 or box.y1 <= other.y0 or other.y1 <= box.y0


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_ending_of_a_sheet_decides_on_its_format_and_an_existing_one_is_left_unless_told(figure, tmp_path, suffix):
    path = tmp_path / f"sheet{suffix}"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        save_sheet(figure, path)
    assert path.read_text() == "precious"
    assert save_sheet(figure, path, overwrite=True).stat().st_size > 1000
