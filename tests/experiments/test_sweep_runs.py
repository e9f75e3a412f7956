"""Trainings of a sweep: one split for all, resumed and not repeated, failures in their own row, means and intervals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from covidcxnet.experiments import outcome as outcomes
from covidcxnet.experiments import sweep as module
from covidcxnet.experiments import sweep_page
from covidcxnet.experiments.compare import compare
from covidcxnet.experiments.grid import plan
from covidcxnet.experiments.outcome import Outcome, Sweep, t_interval
from covidcxnet.experiments.sweep import sweep
from covidcxnet.experiments.sweep_page import draw
from covidcxnet.reporting.table import Estimate
from covidcxnet.settings import InputSettings
from covidcxnet.training import Recipe, Run
from covidcxnet.training.recipe import save_recipe
from enhancement.errors import InputError


@pytest.fixture
def table(tmp_path):
    """A CSV of 40 images that no test here opens."""
    rows = [f"images/{k}.png,{('normal', 'covid19')[k % 2]},p{k // 2}" for k in range(40)]
    path = tmp_path / "table.csv"
    path.write_text("path,label,patient\n" + "\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def calls(monkeypatch):
    """`train` that only writes a run's files, and the list of its calls; AUROC is 0.5 + learning rate + seed / 100."""
    made: list[tuple[str, Recipe | str]] = []

    def train(recipe=None, *, resume=None, epochs=None):
        made.append(("resume", str(resume)) if resume else ("train", recipe))
        folder = Path(resume or recipe.out)
        if recipe is not None:
            if recipe.learning_rate == 0.3:
                raise InputError("learning_rate: the loss is not a finite number")
            folder.mkdir(parents=True)
            save_recipe(recipe, folder / "recipe.yaml")
        recipe = Run(folder).recipe if recipe is None and (folder / "run.json").exists() else recipe
        (folder / "log.csv").write_text("epoch,val_auroc,seconds\n1,0.6,2\n")
        best = {"val_auroc": 0.4 + recipe.learning_rate}
        (folder / "run.json").write_text(json.dumps({"status": "finished", "best_epoch": 1, "epoch": 1, "best": best}))
        return Run(folder)

    def report(run, **options):
        value = 0.5 + run.recipe.learning_rate + run.recipe.seed / 100
        figure = {"value": value, "low": value - 0.1, "high": value + 0.1}
        overall = {"macro_f1": figure, "accuracy": figure, "auroc": figure}
        lost = run.recipe.learning_rate == 0.2
        by_class = {"normal": {"f1": {"value": 0.5}}, "covid19": {"f1": {"value": 0.0 if lost else 0.5}}}
        missed = [{"class": "covid19", "missed": run.recipe.seed, "images": 6}]
        return {"overall": overall, "by_class": by_class, "bootstrap": {"resamples": 9}, "called_normal": missed}, None

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(outcomes, "report_of", report)
    monkeypatch.setattr(module, "check_model", lambda recipe, classes: None)
    monkeypatch.setattr(sweep_page, "draw", lambda found: None)  # the plot has tests of its own
    return made


def test_repeats_share_one_split_and_differ_in_their_seed(table, calls, tmp_path):
    found = sweep(Recipe(data=table, seed=3), {"learning_rate": [0.1, 0.2]}, repeats=2, out=tmp_path / "s")
    recipes = [recipe for _, recipe in calls]
    assert {recipe.split for recipe in recipes} == {str(tmp_path / "s" / "split.csv")}
    assert sorted(recipe.seed for recipe in recipes) == [3, 3, 4, 4]
    split = pd.read_csv(tmp_path / "s" / "split.csv")
    assert set(split["split"]) == {"train", "validation", "test"} and len(split) == 40
    assert found.path.is_file() and not found.failed


def test_a_sweep_over_the_data_has_a_split_for_each(table, calls, tmp_path):
    sweep(Recipe(data=table), {"fractions": [[0.7, 0.15, 0.15], [0.5, 0.25, 0.25]]}, out=tmp_path / "s")
    paths = [recipe.split for _, recipe in calls]
    assert len(set(paths)) == 2
    assert (pd.read_csv(paths[1])["split"] == "train").mean() < (pd.read_csv(paths[0])["split"] == "train").mean()
    assert "Test images differ" in (tmp_path / "s" / "sweep.md").read_text()


def test_finished_runs_are_not_trained_again_and_unfinished_ones_are_resumed(table, calls, tmp_path):
    recipe, over = Recipe(data=table), {"learning_rate": [0.1, 0.2]}
    first = sweep(recipe, over, out=tmp_path / "s")
    split = (tmp_path / "s" / "split.csv").read_bytes()
    stopped = first.outcomes[1].trial.folder
    (stopped / "run.json").write_text(json.dumps({"status": "interrupted", "epoch": 1}))
    (stopped / "state.h5").touch()
    calls.clear()
    again = sweep(recipe, {"learning_rate": [0.1, 0.2, 0.05]}, out=tmp_path / "s")
    assert [kind for kind, _ in calls] == ["resume", "train"]
    assert calls[0][1] == str(stopped) and calls[1][1].learning_rate == 0.05
    assert len(again.outcomes) == 3 and (tmp_path / "s" / "split.csv").read_bytes() == split


def test_a_folder_of_another_sweep_is_refused(table, calls, tmp_path):
    over = {"learning_rate": [0.1, 0.2]}
    sweep(Recipe(data=table, epochs=4), over, out=tmp_path / "s")
    with pytest.raises(InputError, match="holds a sweep with epochs 4, not 5; name another folder"):
        sweep(Recipe(data=table, epochs=5), over, out=tmp_path / "s")
    with pytest.raises(InputError, match=r"input\.size 128, not 96"):
        sweep(Recipe(data=table, epochs=4, input=InputSettings(size=96)), over, out=tmp_path / "s")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(InputError, match="not empty and does not hold a sweep"):
        sweep(Recipe(data=table), over, out=tmp_path / "full")


def test_a_training_that_fails_has_its_reason_in_the_table_and_the_others_go_on(table, calls, tmp_path):
    found = sweep(Recipe(data=table), {"learning_rate": [0.3, 0.1]}, repeats=2, out=tmp_path / "s")
    assert [bool(o.reason) for o in found.outcomes] == [True, False, True, False]
    runs = pd.read_csv(tmp_path / "s" / "runs.csv")
    assert runs["failed"].dropna().tolist() == ["learning_rate: the loss is not a finite number"] * 2
    cells = pd.read_csv(tmp_path / "s" / "sweep.csv")
    assert cells["finished"].tolist() == [0, 2] and math.isnan(cells["auroc"][0])
    text = (tmp_path / "s" / "sweep.md").read_text()
    assert "2 trainings failed" in text and "2 of 2: failed: learning_rate: the loss is not" in text


def test_after_a_stop_the_tables_hold_what_there_is_and_the_message_says_how_to_go_on(
    table, calls, tmp_path, monkeypatch
):
    original, count = module.train, iter(range(9))

    def train(*given, **named):
        if next(count) == 1:
            raise KeyboardInterrupt("stopped")
        return original(*given, **named)

    monkeypatch.setattr(module, "train", train)
    with pytest.raises(KeyboardInterrupt, match="stopped after 1 of 3 trainings; the same command goes on"):
        sweep(Recipe(data=table), {"learning_rate": [0.1, 0.2, 0.05]}, out=tmp_path / "s")
    assert len(pd.read_csv(tmp_path / "s" / "runs.csv")) == 1


def test_means_and_intervals_are_those_of_student(table, calls, tmp_path):
    sweep(Recipe(data=table), {"learning_rate": [0.1, 0.2]}, repeats=3, out=tmp_path / "s")
    row = pd.read_csv(tmp_path / "s" / "sweep.csv").iloc[0]
    # 0.60, 0.61, 0.62: deviation 0.01, t(0.975, 2) = 4.3027
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert row[["auroc", "auroc_sd"]].tolist() == pytest.approx([0.61, 0.01])
    assert row[["auroc_low", "auroc_high"]].tolist() == pytest.approx([0.61 - half, 0.61 + half], abs=1e-5)
    assert row["val_auroc"] == pytest.approx(0.5) and row["covid19_called_normal"] == pytest.approx(1.0)


def test_one_training_has_no_interval_over_trainings():
    assert math.isnan(t_interval(np.array([0.8])).low) and t_interval(np.array([0.8])).value == 0.8
    assert math.isnan(t_interval(np.array([])).value)
    wide = t_interval(np.array([0.2, 0.99]))
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_a_class_that_is_never_found_is_named_by_cell(table, calls, tmp_path):
    sweep(Recipe(data=table), {"learning_rate": [0.1, 0.2]}, repeats=2, out=tmp_path / "s")
    text = (tmp_path / "s" / "sweep.md").read_text()
    assert "learning_rate 0.2 (2 of 2: F1 0 for covid19)" in text
    assert "learning_rate 0.1 (" not in text


def test_without_test_figures_the_test_set_stays_closed(table, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(outcomes, "report_of", lambda run, **options: pytest.fail("the test set was opened"))
    sweep(Recipe(data=table), {"learning_rate": [0.1, 0.2]}, out=tmp_path / "s", test=False)
    text = (tmp_path / "s" / "sweep.md").read_text()
    assert "AUROC, validation" in text and "| AUROC |" not in text


def _sweep(over, repeats=2) -> Sweep:
    made = [
        Outcome(trial, {"auroc": Estimate(0.7 + 0.01 * k), "f1": Estimate(0.6), "accuracy": Estimate(0.6)})
        for k, trial in enumerate(plan(Recipe(), over, repeats, "out"))
    ]
    return Sweep(Path("out"), tuple(over), tuple(made), repeats, True, Recipe())


@pytest.mark.parametrize(
    "over, scale, ticks",
    [
        ({"learning_rate": [0.001, 0.01, 0.1]}, "log", ["0.001", "0.01", "0.1"]),
        ({"options.dropout": [0.0, 0.2, 0.5]}, "linear", ["0", "0.2", "0.5"]),
        ({"init": ["random", "chexnet"]}, "linear", ["random", "chexnet"]),
        ({"init": ["random", "chexnet"], "learning_rate": [0.001, 0.1]}, "log", ["0.001", "0.1"]),
    ],
)
def test_learning_rates_are_drawn_on_a_log_axis_and_words_on_places(over, scale, ticks):
    axes = draw(_sweep(over)).axes[2]
    assert axes.get_xscale() == scale and axes.get_title() == "AUROC"
    assert [label.get_text() for label in axes.get_xticklabels()] == ticks


def test_each_training_is_a_dot_of_the_plot():
    found = _sweep({"learning_rate": [0.001, 0.1]}, repeats=3)
    axes = draw(found).axes[2]
    dots = sorted(y for line in axes.lines if line.get_markersize() == 4 for y in line.get_ydata())
    assert dots == pytest.approx(sorted(o.figures["auroc"].value for o in found.outcomes))
    assert len(found.cells) == 2


def test_a_sweep_trains_evaluates_and_is_compared(tmp_path):
    from covidcxnet.datasets import make_phantoms

    make_phantoms(tmp_path / "data", 36, seed=1, size=32, classes=("normal", "covid19"), progress=False)
    recipe = Recipe(
        data=str(tmp_path / "data" / "phantom.csv"), fractions=(0.5, 0.25, 0.25), epochs=1, batch_size=9, jobs=1,
        options={"filters": [4, 4], "hidden": [4]}, input=InputSettings(size=32, channels=("raw",)),
        store=str(tmp_path / "store.h5"),
    )  # fmt: skip
    options = {"out": tmp_path / "sweep", "bootstrap": 20, "progress": False}
    with pytest.raises(InputError, match=r"expected.*in the sweep's options.pool nothing"):
        sweep(recipe, {"options.pool": ["flatten", "nothing"]}, **options)
    assert not (tmp_path / "sweep").exists()
    found = sweep(recipe, {"learning_rate": [0.01, 0.001]}, **options)
    assert not found.failed
    weights = [o.trial.folder / "best.weights.h5" for o in found.outcomes]
    before = [path.stat().st_mtime_ns for path in weights]
    again = sweep(recipe, {"learning_rate": [0.01, 0.001]}, **options)
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert [o.figures["auroc"] for o in again.outcomes] == [o.figures["auroc"] for o in found.outcomes]
    compared = compare([path.parent for path in weights], bootstrap=20, progress=False)
    assert compared.rows[1].difference is not None and compared.rows[0].flops > 0
    assert len(json.loads((weights[0].parent / "test_opened.json").read_text())) == 1
