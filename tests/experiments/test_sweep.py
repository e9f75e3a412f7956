"""Sweeps and data groups: which trainings, one split for all, resumed and not repeated, means and intervals."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli.sweep import groups as groups_command
from covidcxnet.cli.sweep import main
from covidcxnet.datasets import make_phantoms
from covidcxnet.experiments import sweep as module
from covidcxnet.experiments import sweep_table
from covidcxnet.experiments.compare import Comparison, compare
from covidcxnet.experiments.compared_runs import Row
from covidcxnet.experiments.sweep import STUDY_AUGMENT, group_recipes, sweep, train_groups
from covidcxnet.experiments.sweep_page import draw
from covidcxnet.experiments.sweep_plan import parse_values, plan
from covidcxnet.experiments.sweep_table import Sweep, row_of, t_interval
from covidcxnet.reporting.table import Estimate
from covidcxnet.settings import InputSettings
from covidcxnet.training import AugmentSettings, Recipe, Run
from covidcxnet.training.recipe import save_recipe
from enhancement.errors import InputError
from enhancement.progress import ProgressBar

pytestmark = pytest.mark.usefixtures("eager", "blank")
RATES = {"learning_rate": [0.1, 0.2]}


@pytest.fixture
def table(tmp_path):
    """A CSV of 40 images that no test here opens."""
    rows = [f"images/{k}.png,{('normal', 'covid19')[k % 2]},p{k // 2}" for k in range(40)]
    path = tmp_path / "table.csv"
    (tmp_path / "images").mkdir()
    for k in range(40):
        (tmp_path / f"images/{k}.png").touch()
    path.write_text("path,label,patient\n" + "\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def calls(monkeypatch):
    """`train` that only writes a run's files, and the list of its calls; AUROC is 0.5 + learning rate + seed / 100."""
    recorded: list[tuple[str, Recipe | str]] = []

    def train(recipe=None, *, resume=None, engine=None):
        recorded.append(("resume", str(resume)) if resume else ("train", recipe))
        folder = Path(resume or recipe.out)
        if recipe is None:
            recipe = Run(folder).recipe
        elif recipe.learning_rate == 0.3:
            raise InputError("learning_rate: the loss is not a finite number")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            save_recipe(recipe, folder / "recipe.yaml")
        (folder / "log.csv").write_text("epoch,val_auroc,seconds\n1,0.6,2\n")
        best = {"val_auroc": 0.4 + recipe.learning_rate}
        (folder / "run.json").write_text(json.dumps({"status": "finished", "best_epoch": 1, "epoch": 1, "best": best}))
        return Run(folder)

    def report(run, **options):
        rate, seed = run.recipe.learning_rate, run.recipe.seed
        value = 0.5 + rate + seed / 100
        overall = dict.fromkeys(("macro_f1", "accuracy", "auroc"), Estimate(value, value - 0.1, value + 0.1).to_dict())
        by_class = {"normal": {"f1": {"value": 0.5}}, "covid19": {"f1": {"value": 0.5 * (rate != 0.2)}}}
        missed = [{"class": "covid19", "missed": seed, "images": 6}]
        rows = [(True, value), (True, value - 0.2), (False, value - 0.3), (None, 0.99)]
        places = [
            {"kind": "within", "seen": seen, "comparisons": [{"auroc": {"value": v}, "statistics": {"value": 0.7}}]}
            for seen, v in rows
        ]
        written = {"overall": overall, "by_class": by_class, "bootstrap": {"resamples": 9}, "called_normal": missed}
        return written | {"places": {"rows": [{"kind": "held-out", "seen": False, "comparisons": []}, *places]}}, None

    row = Row("raw", "small-cnn", f1=Estimate(0.5, 0.4, 0.6), f1_by_class={"normal": Estimate(0.5)})
    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "compare", lambda runs, **options: Comparison((), (row, row, row)))
    monkeypatch.setattr(sweep_table, "report_of", report)
    monkeypatch.setattr(module, "check_model", lambda recipe, classes: None)
    # there is no network whose memory could be freed
    monkeypatch.setattr(module, "_free_memory", lambda: None)
    return recorded


def test_every_combination_is_trained_with_every_seed_and_nested_keys_change_their_part_alone():
    trials = plan(Recipe(seed=7), {"learning_rate": [0.1, 0.01], "options.dropout": [0.0, 0.5]}, 3, "out")
    settings = {(t.recipe.learning_rate, t.recipe.options["dropout"], t.recipe.seed) for t in trials}
    assert settings == {(rate, drop, seed) for rate in (0.1, 0.01) for drop in (0.0, 0.5) for seed in (7, 8, 9)}
    assert len(trials) == len({t.folder for t in trials}) == 12
    assert [t.seed for t in trials] == [7] * 4 + [8] * 4 + [9] * 4
    repeats = plan(Recipe(), {}, 10, "out")
    assert [t.seed for t in repeats] == list(range(10)) and len({t.cell for t in repeats}) == 1
    base = Recipe(options={"dropout": 0.3})
    first, second = (trial.recipe for trial in plan(base, {"input.size": [96, 128]}, 1, "out"))
    assert (first.input.size, second.input.size, base.input.size) == (96, 128, 128)
    assert first.options == {"dropout": 0.3} and first.input.channels == base.input.channels
    # folders follow from the values alone and differ where names cannot show it
    short = plan(Recipe(), {"learning_rate": [1e-3, 1 / 3]}, 1, "out")
    longer = plan(Recipe(), {"learning_rate": [0.7, 1 / 3, 1e-3]}, 2, "out")
    assert {t.folder for t in short} < {t.folder for t in longer}
    trials = plan(Recipe(), {"where": [{"source": "a/b"}, {"source": "a b"}]}, 1, "out")
    assert len({t.folder for t in trials}) == 2
    assert all(len(part) < 110 and "/" not in part for t in trials for part in t.folder.parts)


def test_values_are_yaml_and_numbers_are_numbers():
    for text, values in {
        "learning_rate=1e-3,0.005": [1e-3, 0.005],
        "init=random,imagenet": ["random", "imagenet"],
        "input.channels=[raw],[clahe, raw]": [["raw"], ["clahe", "raw"]],
        "augment.flip_horizontal=true,false": [True, False],
        "where={source: nih},{source: [a, b]}": [{"source": "nih"}, {"source": ["a", "b"]}],
    }.items():
        assert parse_values(text)[1] == values


@pytest.mark.parametrize(
    "over, repeats, message",
    [
        ({"learnin_rate": [1, 2]}, 1, "unknown key learnin_rate; did you mean learning_rate?"),
        ({"input.sise": [1, 2]}, 1, "unknown key input.sise; did you mean size?"),
        ({"epochs.x": [1, 2]}, 1, "unknown key epochs.x; epochs has no parts"),
        ({"augment": [{}, {}]}, 1, "augment is a group; name a part"),
        ({"seed": [1, 2]}, 1, "seed cannot be swept; give --seed for the first and --repeats"),
        ({"out": ["a", "b"]}, 1, "out cannot be swept"),
        ({"options.depth": [1, 2]}, 1, "small-cnn has no option 'depth'; it takes normalization, "),
        ({"learning_rate": [0.1, 20]}, 1, "learning_rate: 20 given.*in the sweep's learning_rate 20"),
        ({"learning_rate": [0.1, 0.1000000001]}, 1, "learning_rate has the value 0.1 twice"),
        ({"epochs": [1]}, 1, "one training is no sweep"),
        ({"epochs": []}, 2, "epochs has no values"),
        ({"epochs": [1, 2]}, 0, "repeats: 0 given"),
        ({"model": ["small-cnn", "nope"]}, 1, "model: 'nope' is unknown"),
        ({"model": ["small-cnn", "resnet34"]}, 1, "resnet34 has no option 'filters'"),
        ({"input.size": [96, 128]}, 1, "store: one store cannot hold several inputs"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_any_work(over, repeats, message):
    recipe = Recipe(options={"filters": [4]}, store="a.h5" if "store" in message else "")
    with pytest.raises(InputError, match=message):
        plan(recipe, over, repeats, "out")


@pytest.mark.parametrize(
    "command, arguments, message",
    [
        (main, [], "RECIPE: a packaged recipe's name or a YAML file expected first"),
        (main, ["no-recipe", "--repeats", "2"], "'no-recipe' is neither a file nor"),
        (main, ["phantom", "--over", "learning_rate=abc,1"], "learning_rate: 'abc' given, a finite number expected"),
        (main, ["phantom", "--over", "epochs"], "over: 'epochs' given, KEY=a,b,c expected"),
        (main, ["phantom", "--over", "epochs=1,2", "--over", "epochs=3"], "epochs is given twice"),
        (main, ["phantom", "--repeats", "2", "--resume", "x"], "--resume: is not for a sweep"),
        (main, ["phantom", "--over", "where={a", "--repeats", "2"], "is not a list of YAML values"),
        (groups_command, ["--class-weights=none"], "the groups decide it"),
        (groups_command, ["--balance", "smote"], "balance"),
        (groups_command, ["--resume", "x"], "same command"),
    ],
)
def test_a_command_that_cannot_be_used_ends_in_one_line(command, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_repeats_share_one_split_and_differ_in_their_seed(table, calls, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["phantom", "--over", "learning_rate=1e-3,0.01", "--repeats", "2", "--epochs", "3", "--dry-run"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "learning_rate 0.001, seed 1" in printed and printed.count("to train") == 4
    assert "4 trainings, 4 left to do; swept: learning_rate" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "images"} and not calls
    result = sweep(Recipe(data=table, seed=3), RATES, repeats=2, out=tmp_path / "s")
    recipes = [recipe for _, recipe in calls]
    assert {recipe.split for recipe in recipes} == {str(tmp_path / "s" / "split.csv")}
    assert sorted(recipe.seed for recipe in recipes) == [3, 3, 4, 4]
    split = pd.read_csv(tmp_path / "s" / "split.csv")
    assert set(split["split"]) == {"train", "validation", "test"} and len(split) == 40
    assert result.path.is_file() and not result.failed
    # a sweep over the data has a split for each
    calls.clear()
    sweep(Recipe(data=table), {"fractions": [[0.7, 0.15, 0.15], [0.5, 0.25, 0.25]]}, out=tmp_path / "d")
    shares = [(pd.read_csv(recipe.split)["split"] == "train").mean() for _, recipe in calls]
    assert shares[1] < shares[0]
    assert "Test images differ" in (tmp_path / "d" / "sweep.md").read_text()
    # and a learning curve one for all of its points
    calls.clear()
    sweep(Recipe(data=table), {"train_images": [10, 20]}, out=tmp_path / "n")
    splits = {recipe.split for _, recipe in calls}
    assert [recipe.train_images for _, recipe in calls] == [10, 20] and len(splits) == 1
    assert set(pd.read_csv(splits.pop())["split"]) == {"train", "validation", "test"}
    assert (
        "bootstrap over patients (over images where patients are unknown)" in (tmp_path / "n" / "sweep.md").read_text()
    )


@pytest.mark.parametrize(("flags", "hidden"), [([], False), (["--no-progress"], True), (["--quiet"], True)])
def test_bars_of_the_trainings_follow_the_switch_of_the_sweep(table, calls, tmp_path, monkeypatch, flags, hidden):
    seen, original = [], module.train
    monkeypatch.setattr(module, "train", lambda *a, **k: seen.append(ProgressBar.hidden) or original(*a, **k))
    assert main(["phantom", "--data", table, "--repeats", "2", "--out", str(tmp_path / "s"), *flags]) == 0
    assert seen == [hidden, hidden] and not ProgressBar.hidden


def test_the_engine_of_the_lung_network_reaches_the_trainings_and_is_no_part_of_the_recipe(
    table, calls, tmp_path, monkeypatch
):
    engines, original = [], module.train
    monkeypatch.setattr(module, "train", lambda *a, **k: engines.append(k["engine"]) or original(*a, **k))
    for command, repeats in ((main, ["--repeats", "2"]), (groups_command, [])):
        engines.clear()
        flags = ["phantom", "--data", table, "--out", str(tmp_path / command.__name__), *repeats]
        assert command([*flags, "--engine", "keras"]) == 0
        assert set(engines) == {"keras"}
        # the same work on another engine: nothing to train again
        engines.clear()
        assert command([*flags, "--engine", "openvino"]) == 0 and not engines


def test_finished_runs_are_not_trained_again_and_unfinished_ones_are_resumed(table, calls, tmp_path):
    recipe = Recipe(data=table)
    first = sweep(recipe, RATES, out=tmp_path / "s")
    split = (tmp_path / "s" / "split.csv").read_bytes()
    stopped = first.trials[1].folder
    (stopped / "run.json").write_text(json.dumps({"status": "interrupted", "epoch": 1}))
    (stopped / "state.h5").touch()
    calls.clear()
    again = sweep(recipe, {"learning_rate": [0.1, 0.2, 0.05]}, out=tmp_path / "s")
    assert [kind for kind, _ in calls] == ["resume", "train"]
    assert calls[0][1] == str(stopped) and calls[1][1].learning_rate == 0.05
    assert len(again.trials) == 3 and (tmp_path / "s" / "split.csv").read_bytes() == split


@pytest.mark.parametrize("kind", ["a sweep", "groups"])
def test_a_folder_of_other_work_is_refused_and_one_whose_first_training_was_refused_is_not(
    table, calls, tmp_path, monkeypatch, kind
):
    def run(out="out", **changes):
        recipe = Recipe(data=table, **{"epochs": 4, **changes})
        return sweep(recipe, RATES, out=tmp_path / out) if kind == "a sweep" else train_groups(recipe, tmp_path / out)

    run()
    calls.clear()
    with pytest.raises(InputError, match=f"holds {kind} with epochs 4, not 5; name another folder"):
        run(epochs=5)
    with pytest.raises(InputError, match=r"input\.size 128, not 96"):
        run(input=InputSettings(size=96))
    run(jobs=2)
    assert not calls, "jobs do not matter"
    (tmp_path / "out" / ("sweep.json" if kind == "a sweep" else "groups.json")).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        run()
    with pytest.raises(InputError, match=f"not empty and does not hold {kind}"):
        run(".")
    with pytest.raises(InputError, match="is a file"):
        run("table.csv")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "train", _stopped)
        run("new")
    run("new", epochs=3, fractions=(0.5, 0.25, 0.25))
    assert {recipe.epochs for _, recipe in calls} == {3}
    assert (pd.read_csv(tmp_path / "new" / "split.csv")["split"] == "train").mean() < 0.6


def _stopped(*_, **__):
    raise KeyboardInterrupt


def test_a_training_that_fails_has_its_reason_in_the_table_and_after_a_stop_the_message_says_how_to_go_on(
    table, calls, tmp_path, monkeypatch
):
    result = sweep(Recipe(data=table), {"learning_rate": [0.3, 0.1]}, repeats=2, out=tmp_path / "s")
    assert [bool(reason) for reason in result.runs["failed"]] == [True, False, True, False]
    runs = pd.read_csv(tmp_path / "s" / "runs.csv")
    assert runs["failed"].dropna().tolist() == ["learning_rate: the loss is not a finite number"] * 2
    cells = pd.read_csv(tmp_path / "s" / "sweep.csv")
    assert cells["finished"].tolist() == [0, 2] and math.isnan(cells["auroc"][0])
    text = (tmp_path / "s" / "sweep.md").read_text()
    assert "2 trainings failed" in text and "2 of 2: failed: learning_rate: the loss is not" in text
    # the tables of a sweep that is stopped hold what there is
    original, numbers = module.train, iter(range(9))
    monkeypatch.setattr(module, "train", lambda *a, **k: _stopped() if next(numbers) == 1 else original(*a, **k))
    with pytest.raises(KeyboardInterrupt, match="stopped after 1 of 2 trainings; the same command goes on"):
        sweep(Recipe(data=table), RATES, out=tmp_path / "stopped")
    assert len(pd.read_csv(tmp_path / "stopped" / "runs.csv")) == 1


def test_means_and_intervals_are_those_of_student_and_classes_never_found_are_named(
    table, calls, tmp_path, monkeypatch
):
    sweep(Recipe(data=table), RATES, repeats=3, out=tmp_path / "s")
    row = pd.read_csv(tmp_path / "s" / "sweep.csv").iloc[0]
    # 0.60, 0.61, 0.62: deviation 0.01, t(0.975, 2) = 4.3027
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert row[["auroc", "auroc_sd"]].tolist() == pytest.approx([0.61, 0.01])
    assert row[["auroc_low", "auroc_high"]].tolist() == pytest.approx([0.61 - half, 0.61 + half], abs=1e-5)
    assert row["val_auroc"] == pytest.approx(0.5) and row["covid19_called_normal"] == pytest.approx(1.0)
    # means within seen and held-out sources, whose AUROCs are 0 and 0.2, and 0.3 lower
    assert row[["auroc_seen", "auroc_held_out"]].tolist() == pytest.approx([0.51, 0.31])
    assert row[["probe_seen", "probe_held_out"]].tolist() == pytest.approx([0.7, 0.7])
    text = (tmp_path / "s" / "sweep.md").read_text()
    assert "| AUROC within held-out sources |" in text
    assert "Intensity probe" in text and "within seen sources 0.700, within held-out sources 0.700." in text
    assert "learning_rate 0.2 (3 of 3: F1 0 for covid19)" in text and "learning_rate 0.1 (" not in text
    # one training has no interval over trainings
    assert math.isnan(t_interval(np.array([0.8])).low) and t_interval(np.array([0.8])).value == 0.8
    assert math.isnan(t_interval(np.array([])).value)
    wide = t_interval(np.array([0.2, 0.99]))
    assert (wide.low, wide.high) == (0.0, 1.0)
    # without test figures the test set stays closed
    monkeypatch.setattr(sweep_table, "report_of", lambda run, **options: pytest.fail("the test set was opened"))
    sweep(Recipe(data=table), RATES, out=tmp_path / "closed", test=False)
    text = (tmp_path / "closed" / "sweep.md").read_text()
    assert "AUROC, validation" in text and "| AUROC |" not in text


@pytest.mark.parametrize(
    "over, scale, ticks",
    [
        ({"learning_rate": [0.001, 0.01, 0.1]}, "log", ["0.001", "0.01", "0.1"]),
        ({"init": ["random", "chexnet"]}, "linear", ["random", "chexnet"]),
        ({"init": ["random", "chexnet"], "learning_rate": [0.001, 0.1]}, "log", ["0.001", "0.1"]),
    ],
)
def test_learning_rates_are_drawn_on_a_log_axis_words_on_places_and_each_training_is_a_dot(over, scale, ticks):
    trials = plan(Recipe(), over, 2, "out")
    figures = {"f1": 0.6, "accuracy": 0.6, "zero_f1_classes": "", "failed": ""}
    rows = [row_of(trial, Path("out")) | figures | {"auroc": 0.7 + 0.01 * k} for k, trial in enumerate(trials)]
    axes = draw(Sweep(Path("out"), tuple(over), tuple(trials), pd.DataFrame(rows), 2, True, Recipe())).axes[2]
    assert axes.get_xscale() == scale and axes.get_title() == "AUROC"
    assert [label.get_text() for label in axes.get_xticklabels()] == ticks
    dots = sorted(y for line in axes.lines if line.get_markersize() == 4 for y in line.get_ydata())
    assert dots == pytest.approx([row["auroc"] for row in rows])


def test_the_groups_differ_in_augmentation_and_sampling_alone():
    recipe = Recipe(augment=AugmentSettings(rotation=7), class_weights="balanced", sampling="undersample")
    groups = group_recipes(recipe)
    assert list(groups) == ["raw", "augmented", "balanced"]
    assert [g.augment for g in groups.values()] == [AugmentSettings.none(), recipe.augment, recipe.augment]
    assert [g.sampling for g in groups.values()] == ["none", "none", "oversample"]
    same = [dataclasses.replace(g, augment=recipe.augment, sampling="none") for g in groups.values()]
    assert same == [dataclasses.replace(recipe, class_weights="none", sampling="none")] * 3
    assert group_recipes(Recipe(), sampling="undersample")["balanced"].sampling == "undersample"
    with pytest.raises(InputError, match="sampling"):
        group_recipes(Recipe(), sampling="none")
    # a recipe without augmentation gets the study's
    groups = group_recipes(Recipe(augment=AugmentSettings.none()))
    assert groups["raw"].augment == AugmentSettings.none()
    assert groups["augmented"].augment == groups["balanced"].augment == STUDY_AUGMENT
    assert (STUDY_AUGMENT.rotation, STUDY_AUGMENT.zoom, STUDY_AUGMENT.shift) == (10, (0.9, 1.1), 0.1)
    assert STUDY_AUGMENT.brightness == (1, 1) and not STUDY_AUGMENT.flip_horizontal


def test_all_groups_have_one_split_and_the_same_call_goes_on(table, calls, tmp_path):
    recipe, out = Recipe(data=table), tmp_path / "out"
    train_groups(recipe, out)
    assert [Path(group.out).name for _, group in calls] == ["raw", "augmented", "balanced"]
    assert {group.split for _, group in calls} == {str(out / "split.csv")}
    # the second was stopped within an epoch, the third before its first
    (out / "augmented" / "run.json").write_text(json.dumps({"status": "interrupted"}))
    (out / "augmented" / "state.h5").write_bytes(b"")
    (out / "balanced" / "run.json").unlink()
    before = (out / "split.csv").read_bytes()
    calls.clear()
    groups = train_groups(recipe, out)
    assert calls[0] == ("resume", str(out / "augmented")) and calls[1][1].sampling == "oversample" and len(calls) == 2
    assert (out / "split.csv").read_bytes() == before
    assert groups.picture == out / "groups.png" and groups.path.is_file()


def test_a_sweep_trains_evaluates_and_is_compared(tmp_path):
    make_phantoms(tmp_path / "data", 24, seed=1, size=32, classes=("normal", "covid19"), progress=False)
    recipe = Recipe(
        data=str(tmp_path / "data" / "phantom.csv"),
        fractions=(0.5, 0.25, 0.25),
        epochs=1,
        jobs=1,
        options={"filters": [2], "hidden": [2]},
        input=InputSettings(size=32, channels=("raw",)),
        store=str(tmp_path / "store.h5"),
    )
    options = {"out": tmp_path / "sweep", "bootstrap": 20, "progress": False}
    with pytest.raises(InputError, match=r"expected.*in the sweep's options.pool nothing"):
        sweep(recipe, {"options.pool": ["flatten", "nothing"]}, **options)
    assert not (tmp_path / "sweep").exists()
    result = sweep(recipe, {"learning_rate": [0.01, 0.001]}, **options)
    assert not result.failed
    weights = [trial.folder / "best.weights.h5" for trial in result.trials]
    before = [path.stat().st_mtime_ns for path in weights]
    again = sweep(recipe, {"learning_rate": [0.01, 0.001]}, **options)
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert again.runs["auroc"].tolist() == result.runs["auroc"].tolist()
    compared = compare([path.parent for path in weights], bootstrap=20, progress=False)
    assert compared.rows[1].difference is not None and compared.rows[0].flops > 0
    assert len(json.loads((weights[0].parent / "test_opened.json").read_text())) == 1
