"""The commands do what their help says, and bad input costs one line."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from segmentation.__main__ import main
from segmentation.segmenter import LungSegmenter
from segmentation.training import read_run

FEW = ["--quiet", "--samples", "20"]
TINY = ["--width", "2", "--size", "32", "--epochs", "1", "--batch-size", "6", "--fractions", "0.5", "0.25", "0.25"]


def test_train_evaluate_and_predict_follow_on_each_other(pair_folder, tmp_path, capsys, request):
    """Trained compiled, as nowhere else here: tracing a network takes longer than its few steps."""
    run, out = tmp_path / "run", tmp_path / "out"
    longer = ["--width", "4", "--epochs", "10", "--batch-size", "2", "--learning-rate", "0.01", "--augment", "none"]
    assert main(["train", "--data", str(pair_folder / "pairs.csv"), "--out", str(run), "--quiet", *TINY, *longer]) == 0
    losses = [float(row["loss"]) for row in csv.DictReader((run / "log.csv").read_text().splitlines())]
    assert len(losses) == 10 and losses[-1] < 0.8 * losses[0]
    request.getfixturevalue("eager")
    assert main(["evaluate", str(run), *FEW]) == 0
    printed = capsys.readouterr().out
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    assert summary["part"] == "test" and "dice" in summary["summary"]["all"]
    median = "{:.3f} ({:.3f}-{:.3f})".format(*summary["summary"]["all"]["median_dice"])
    assert all(word in printed for word in ("Dice", "east", "median Dice", median))
    assert (run / "evaluation" / "scores.csv").is_file() and (run / "evaluation" / "sheet.png").is_file()
    weights = str(run / "best.weights.h5")
    assert main(["predict", str(pair_folder / "images"), "--out", str(out), "--weights", weights, "--quiet"]) == 0
    assert len(list(out.glob("masks/*.png"))) == 12


@pytest.fixture
def split_table(pair_folder, given_split, tmp_path):
    lines = (pair_folder / "pairs.csv").read_text().splitlines()
    table, sides = tmp_path / "split.csv", ["split", *(p.split for p in given_split)]
    table.write_text("\n".join(f"{line},{side}" for line, side in zip(lines, sides, strict=True)))
    return ["--data", str(table), "--root", str(pair_folder)]


def test_a_held_out_source_is_tested_whole_and_its_other_masks_are_counted(split_table, eager, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *split_table, "--out", str(run), "--holdout", "west", "--quiet", *TINY]) == 0
    assert "5 test pairs (west)" in capsys.readouterr().err
    segmenter = LungSegmenter(run / "best.weights.h5")
    assert segmenter.conventions == ("lung_field",) and segmenter.model.output_shape[-1] == 1
    assert segmenter.metadata["training"]["pairs"]["test"] == {"east": 1, "west": 5}
    assert main(["evaluate", str(run), *FEW]) == 0
    assert "not scored: pairs of west (5): masks are lung_incl_retrocardiac" in capsys.readouterr().out
    report = json.loads((run / "evaluation" / "summary.json").read_text())
    assert set(report["summary"]) == {"east"} and report["summary"]["east"]["pairs"] == 1
    (other,) = report["other_conventions"]
    assert other["pairs"] == 5 and other["source"] == "west" and other["scored_by"] is None
    assert main(["evaluate", str(run), *FEW, "--stand-in", "lung_field"]) == 0
    assert "scored by lung_field: pairs of west (5)" in capsys.readouterr().out
    report = json.loads((run / "evaluation" / "summary.json").read_text())
    assert report["summary"]["west"]["pairs"] == 5 and report["other_conventions"][0]["scored_by"] == "lung_field"


def test_pairs_that_cannot_be_scored_or_told_apart_cost_one_line(
    split_table, pair_folder, field_weights, eager, capsys
):
    whole, weights = pair_folder / "pairs.csv", ["--weights", str(field_weights)]
    assert main(["evaluate", "--data", str(whole), *weights, "--stand-in", "lung_field", *FEW]) == 0
    capsys.readouterr()
    table = Path(split_table[1])
    table.write_text("\n".join(line for line in table.read_text().splitlines() if "east" not in line))
    refused = {
        ("--data", str(whole), "--split", "test"): ("column named split",),  # needed to choose a part
        tuple(split_table): ("none of 5 pairs can be scored",),
        (*split_table, "--stand-in", "lung_incl_retrocardiac"): ("stand-in", "knows lung_field"),
    }
    for options, words in refused.items():
        assert main(["evaluate", *options, *weights, *FEW]) == 2
        error = capsys.readouterr().err
        assert all(word in error for word in words) and error.count("\n") == 1


def test_training_from_left_and_right_folders_resuming_and_ctrl_c(pair_folder, tmp_path, capsys, monkeypatch):
    images, *masks = (str(pair_folder / name) for name in ("images", "left", "right"))
    run, trained = tmp_path / "run", []
    monkeypatch.setattr("segmentation.training.train", lambda run, **_: trained.append(run) or run / "best.weights.h5")
    assert main(["train", "--images", images, "--masks", *masks, "--out", str(run), "--quiet", *TINY]) == 0
    assert {len(pair.masks) for pair in read_run(run)[0]} == {2}
    assert main(["train", "--resume", str(run), "--quiet"]) == 0 and trained == [run, run]
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "best.weights.h5")

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("segmentation.training.train", stopped)
    command = ["train", "--data", str(pair_folder / "pairs.csv"), "--out", str(tmp_path / "new"), *TINY]
    assert main(command, prog="covidcxnet segment") == 130
    assert f"covidcxnet segment train --resume {tmp_path / 'new'}" in capsys.readouterr().err


def test_predict_keeps_the_tree_lists_what_it_cannot_read_and_overwrites_only_if_told(
    pair_folder, chest_weights, eager, tmp_path, capsys
):
    tree, image = tmp_path / "in", (pair_folder / "images" / "chest00.png").read_bytes()
    (tree / "a" / "b").mkdir(parents=True)
    for name, content in (("one.png", image), ("a/b/one.png", image), ("a/bad.png", b"nothing")):
        (tree / name).write_bytes(content)
    cv2.imwrite(str(tree / "one.jpg"), cv2.imread(str(tree / "one.png")))
    out = tmp_path / "out"
    command = ["predict", str(tree), "--out", str(out), "--weights", str(chest_weights), "--overlays", "--quiet"]
    assert main(command) == 1
    assert "bad.png" in capsys.readouterr().err
    masks = {p.relative_to(out / "masks").as_posix() for p in out.glob("masks/**/*.png")}
    assert masks == {"one.png.png", "one.jpg.png", "a/b/one.png"}
    assert len(list(out.glob("overlays/**/*.png"))) == 3
    mask = cv2.imread(str(out / "masks" / "a" / "b" / "one.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (96, 80) and set(np.unique(mask)) == {0, 255}
    before = (out / "masks" / "one.jpg.png").stat().st_mtime_ns
    assert main(command) == 2 and "--overwrite" in capsys.readouterr().err
    assert (out / "masks" / "one.jpg.png").stat().st_mtime_ns == before
    assert main([*command, "--overwrite"]) == 1
    rows = {r["file"]: r for r in csv.DictReader((out / "verdicts.csv").read_text().splitlines())}
    assert len(rows) == 4 and rows[str(tree / "a" / "bad.png")]["error"]
    assert len(rows[str(tree / "one.png")]["box"].split()) == 4
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "enhancement.md").read_text(encoding="utf-8")
    assert not [column for column in rows[str(tree / "one.png")] if f"`{column}`" not in guide], "not explained"


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["train"], "--data"),
        (["train", "--images", "a"], "--masks"),
        (["train", "--data", "none.csv"], "none.csv"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["evaluate"], "run folder"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere.png", "--out", "x"], "nowhere.png"),
    ],
)
def test_what_cannot_be_used_costs_one_line_and_exit_code_2_and_debug_shows_the_traceback(
    command, word, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("\n") == 1
    assert main([*command, "--debug"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and word in error.splitlines()[-1]
