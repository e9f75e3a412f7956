"""What all commands share, and those of enhancement: files, folders, sheets, progress; failures that stop nothing."""

import io
import re
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

import enhancement
from enhancement import InputError, adaptive_equalize, beasf, clahe, equalize, gaussian_blur, match_histogram, stack
from enhancement.__main__ import main
from enhancement.command_line import INTERRUPTED, Parser, add_progress, command, run
from enhancement.progress import ProgressBar, announced
from enhancement.radiograph import read_radiograph
from enhancement.sheet import draw_sheet, save_sheet


def _parser():
    parser = Parser(prog="x")
    train = parser.add_subparsers(dest="command", required=True).add_parser("train")
    train.add_argument("--batch-size", type=int, default=8, help="images in a step")
    train.add_argument("--learning-rate", type=float)
    train.add_argument("--schedule", choices=("cosine", "constant"))
    train.add_argument("files", nargs="*")
    for flag in ("--seed", "--size", "--split", "--store", "--augment.rotation"):
        train.add_argument(flag)
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
        (["train", "--s"], "unknown flag --s; did you mean --schedule, --seed or --size? (see"),  # three at most
        (["train", "--rotations", "3"], "unknown flag --rotations; did you mean --augment.rotation?"),
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


def test_help_names_defaults_and_quiet_is_no_progress(capsys):
    with pytest.raises(SystemExit):
        _parser().parse_args(["train", "--help"])
    assert [_parser().parse_args(["train", *f]).progress for f in ([], ["--quiet"], ["--no-progress"])] == [1, 0, 0]
    text = " ".join(capsys.readouterr().out.split())
    assert "images in a step (default: 8)" in text and "show progress bars (default: yes)" in text and "--debug" in text


def test_an_error_of_the_input_or_the_system_is_one_line_and_debug_adds_the_traceback(tmp_path, capsys):
    @command("x")
    def fails(argv, prog):
        assert not argv
        raise InputError("key: 3 given,\n4 expected")

    assert fails([]) == 2
    assert capsys.readouterr().err == "x: error: key: 3 given, 4 expected\n"
    assert fails(["--debug"], prog="y") == 2
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


LIGHT = """
import runpy, sys

def loaded(*names):
    print("loaded", *sorted({name.split(".")[0] for name in sys.modules} & set(names)))

import enhancement
sys.argv[1:] = ["--help"]
try:
    runpy.run_module("enhancement", run_name="__main__")
except SystemExit:
    loaded("skimage", "matplotlib", "pydicom", "cv2", "numpy")
import numpy as np
for name in enhancement.__all__:
    assert name in dir(enhancement) and getattr(enhancement, name) is not None
enhancement.stack(np.zeros((9, 9), np.uint8), enhancement.CHANNELS)
import enhancement.dicom, enhancement.raster, enhancement.batch, enhancement.sheet
loaded("tensorflow", "keras", "torch", "jax", "segmentation", "covidcxnet", "sklearn", "pandas")
"""


def test_help_loads_no_heavy_library_and_using_every_function_no_keras_and_no_other_package():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert re.findall("^loaded.*", done.stdout, re.MULTILINE) == ["loaded", "loaded"]
    assert {"beasf", "clahe", "equalize", "blur", "match", "stack"} <= set(re.findall(r"\w+", done.stdout))
    with pytest.raises(AttributeError, match="nothing"):
        _ = enhancement.nothing


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


def enhance(*arguments) -> int:
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
    assert enhance(name, "in/a.png", "out.png", *options) == 0
    result = cv2.imread("out.png", cv2.IMREAD_UNCHANGED)
    assert ((result[..., ::-1] if result.ndim == 3 else result) == COMMANDS[command](image)).all()


def test_folders_and_patterns_keep_their_tree_and_the_input_is_not_written_over(folder, image, capsys):
    assert enhance("equalize", folder / "in", folder / "out", "--jobs", 2) == 0
    written = sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*.png"))
    assert written == ["a.png", "sub/b.png", "sub/c.png"]
    assert "3 of 3 written" in capsys.readouterr().out
    assert enhance("equalize", f"{folder}/in/**/*.png", folder / "some") == 0
    written = sorted(path.relative_to(folder / "some").as_posix() for path in (folder / "some").rglob("*.*"))
    assert written == ["a.png", "sub/b.png"]
    assert enhance("beasf", folder / "in", folder / "in") == 1
    assert (read_radiograph(folder / "in/a.png") == image).all()


def test_unreadable_files_are_listed_at_the_end_and_existing_ones_left_unless_told(folder, capsys):
    (folder / "in/broken.png").write_bytes((folder / "in/a.png").read_bytes()[:100])
    (folder / "in/empty.jpg").write_bytes(b"")
    assert enhance("beasf", folder / "in", folder / "out", "--jobs", 2) == 1
    assert len(list((folder / "out").rglob("*.png"))) == 3
    lines = capsys.readouterr().err.splitlines()[-3:]
    assert "2 not done" in lines[0] and "broken.png" in lines[1] and "truncated" in lines[1] and "empty.jpg" in lines[2]
    (folder / "out/a.png").write_text("precious")
    (folder / "out/sub/b.png").unlink()
    assert enhance("beasf", folder / "in", folder / "out") == 1
    assert (folder / "out/a.png").read_text() == "precious" and (folder / "out/sub/b.png").exists()
    assert "a.png: exists already" in capsys.readouterr().err
    assert enhance("beasf", folder / "in/a.png", folder / "out", "--overwrite") == 0
    assert read_radiograph(folder / "out/a.png").shape == (40, 50)


def test_names_that_meet_keep_their_endings_or_are_refused_and_results_are_not_taken_for_input(folder, image, capsys):
    for _ in range(2):
        assert enhance("equalize", folder / "in", folder / "in/out", "--overwrite") == 0
        assert len(list((folder / "in/out").rglob("*.png"))) == 3
    cv2.imwrite(str(folder / "in/a.bmp"), image)
    assert enhance("equalize", folder / "in", folder / "out") == 0
    assert (folder / "out/a.png.png").exists() and (folder / "out/a.bmp.png").exists()
    (folder / "other").mkdir()
    (folder / "other/a.png").write_bytes((folder / "in/a.png").read_bytes())
    assert enhance("equalize", folder / "in/a.png", folder / "other/a.png", folder / "out") == 2
    assert "several inputs" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
def test_the_ending_of_out_decides_on_the_format(folder, image, suffix):
    assert enhance("equalize", folder / "in/a.png", folder / f"out{suffix}") == 0
    difference = np.abs(read_radiograph(folder / f"out{suffix}").astype(int) - equalize(image))
    assert difference.max() <= (20 if suffix == ".jpg" else 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beasf", "nowhere", "out"], "no such file or folder"),
        (["beasf", "in", "out", "--gamma", "0"], "error: --gamma: 0.0 given"),
        (["clahe", "in", "out", "--clip-limit", "0"], "error: --clip-limit: 0.0 given, a finite number above 0"),
        (["clahe", "in", "out", "--tile-grid", "0", "8"], "error: --tile-grid: 0 given"),
        (["stack", "in", "out", "--clip-limit", "0"], "error: --clip-limit: 0.0 given"),
        (["blur", "in", "out", "--kernel", "4"], "error: --kernel: 4 given"),
        (["stack", "in", "out", "--channels", "raw,clahe"], "--channels"),
        (["stack", "in", "out", "--channels", "raw,clahe,best"], "best"),
        (["match", "in", "out", "--template", "nowhere.png"], "no such file"),
        (["beasf", "in/a.png", "out.xyz"], "cannot be written"),
        (["beasf", "in", "in/a.png"], "a folder expected"),
        (["beasf", "in", "new.png"], "radiographs are to be written; give the name of a folder"),
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
    assert enhance("stack", folder / "deep.png", folder / "out.png", "--channels", "raw", "--window=-100,10000") == 0
    assert (read_radiograph(folder / "out.png") == read_radiograph(folder / "deep.png", window=(-100, 10000))).all()


def test_compare_draws_a_sheet_once(folder, capsys):
    sheet = folder / "sheet.png"
    (folder / "in/empty.png").write_bytes(b"")
    arguments = ("beasf", folder / "in", folder / "out", "--compare", sheet, "--compare-count", 2, "--gammas", "1,2")
    assert enhance(*arguments) == 1
    assert "2 of 4 radiographs drawn" in capsys.readouterr().out
    before = sheet.read_bytes()
    assert enhance(*arguments) == 2
    assert "sheet.png: exists already" in capsys.readouterr().err and sheet.read_bytes() == before


def test_every_variant_has_a_picture_and_a_histogram_and_the_ending_of_a_sheet_decides_on_its_format(tmp_path, image):
    figure = draw_sheet([image], ["\udcff $\\x$"], gammas=(0.5, 1.5))  # no text, and no formula
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    equalized = ("histogram equalisation", "local equalisation, disk 40", "CLAHE, clip 2")
    variants = ("original", *equalized, "BEASF, γ = 0.5", "BEASF, γ = 1.5")
    assert titles == [f"({letter}) {name}" for letter, name in zip("abcdef", variants, strict=True)]
    assert len(figure.axes) == 12
    for suffix, head in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        (tmp_path / f"sheet{suffix}").write_text("precious")
        with pytest.raises(InputError, match="exists already"):
            save_sheet(figure, tmp_path / f"sheet{suffix}")
        assert (tmp_path / f"sheet{suffix}").read_text() == "precious"
        assert save_sheet(figure, tmp_path / f"sheet{suffix}", overwrite=True).read_bytes().startswith(head)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_first_step_that_compiles_says_so_once_and_is_left_out_of_the_time_left(monkeypatch, terminal):
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr("enhancement.progress.PATIENCE", 0.05)
    with ProgressBar(total=4, desc="epoch 1/2", unit="image", compiles=True, mininterval=0) as bar:
        time.sleep(0.2)
        waiting = screen.getvalue()
        bar.update()
        assert bar.format_dict["elapsed"] < 0.1
        bar.update(3)
    assert waiting.count("first step, compiling the network") == 1
    written = screen.getvalue()[len(waiting) :]
    assert written.count("epoch 1/2: first step 0 s, with compiling; the others are shorter\n") == 1
    assert "compiling the network" not in written
    with ProgressBar(total=4, compiles=True, disable=True) as bar:
        bar.update()


def test_without_a_terminal_progress_is_whole_lines_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr("enhancement.progress.FIRST", 0.0)
    with ProgressBar(total=4, desc="epoch 1/2", unit="image") as bar:
        for _ in range(4):
            bar.set_postfix_str("loss 0.500", refresh=False)
            bar.update()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("epoch 1/2: 1 of 4 images, 00:00 so far") and line.endswith("loss 0.500")
    assert "left" not in line  # the first step tells nothing of the others
    monkeypatch.setattr("enhancement.progress.EVERY", 0.0)
    with ProgressBar(total=9) as bar:
        for _ in range(9):
            bar.update()
    assert "00:00 left" in capsys.readouterr().err.splitlines()[-1]
    with ProgressBar(desc="pairs") as bar:
        for _ in range(9):
            bar.update()
    assert capsys.readouterr().err.splitlines()[-1] == "pairs: 9 steps, 00:00 so far", "no total, no time left"
    # The interval grows after the first line; no step is counted twice for that.
    monkeypatch.setattr("enhancement.progress.EVERY", 60.0)
    bar = ProgressBar(range(9))
    assert list(bar) == list(range(9)) and bar.n == 9
    capsys.readouterr()
    with ProgressBar(total=4, disable=True) as bar:
        bar.update()
    monkeypatch.setattr("enhancement.progress.FIRST", 60.0)
    with ProgressBar(total=4) as bar:
        bar.update(4)
    assert not capsys.readouterr().err, "short work needs no line"
    with announced("loading", after=0):
        pass
    assert not capsys.readouterr().err, "nobody waits"
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    with announced("loading", after=0), announced("predicting", after=60):
        pass
    assert capsys.readouterr().err == "loading ...\n"
