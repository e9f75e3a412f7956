"""The range test: where it suggests a rate, when it stops, what it leaves behind, and input that is refused."""

import dataclasses

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli.find_lr import main
from covidcxnet.datasets import make_phantoms
from covidcxnet.settings import InputSettings
from covidcxnet.training import Recipe
from covidcxnet.training.lr_finder import RangeTest, draw_range_test, range_test, save_range_test, smooth, suggest
from enhancement.errors import InputError

RATES = np.geomspace(1e-7, 1, 200)


def losses(noise=0.02, seed=0, fall=0.6):
    """Flat at 0.7, falling about 1e-4, running away above 0.1."""
    decades = np.log10(RATES)
    clean = 0.7 - fall / (1 + np.exp(-4 * (decades + 4))) + np.where(decades > -1, 10 ** (3 * (decades + 1)) - 1, 0)
    return clean + np.random.default_rng(seed).normal(0, noise, len(RATES))


@pytest.mark.parametrize("seed", range(4))
def test_the_steepest_fall_is_suggested_and_nothing_where_the_loss_only_scatters_or_grows(seed):
    falling = losses(noise=0.05, seed=seed)
    away = losses(seed=seed)
    away[150:] = np.linspace(100, 1e6, 50)  # does not reach into the fall before it
    for values in (falling, away):
        assert 4e-5 < suggest(RATES, values, smooth(values)) < 2.5e-4
    assert smooth(away).max() < 3
    scattered = losses(noise=0.3, seed=seed, fall=0)
    scattered[140:] = scattered[:60]
    for values in (scattered, 0.7 + np.linspace(0, 1, 200)):
        assert suggest(RATES, values, smooth(values)) is None


def test_smoothing_lags_behind_in_neither_direction_and_needs_no_memory_of_all_pairs():
    values = 10 + losses(noise=0)[:140]  # far from the limit on what runs away
    np.testing.assert_allclose(smooth(values), smooth(values[::-1])[::-1], atol=0.02)
    assert len(smooth(np.ones(20_000))) == 20_000  # of all pairs: 3 GB


def test_the_rate_grows_exponentially_until_the_loss_runs_away_and_nothing_is_saved(
    base, compiled, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for changes, word in (
        ({"lowest": 1.0, "highest": 0.1}, "lowest, highest"),
        ({"lowest": 0.0}, "lowest, highest"),
        ({"highest": 1e9}, "lowest, highest"),
        ({"steps": 3}, "steps"),
    ):
        with pytest.raises(InputError, match=word):
            range_test(base, **changes)
    recipe = dataclasses.replace(base, schedule="cosine")
    result = range_test(recipe, lowest=1e-4, highest=100, steps=40, progress=False)
    assert len(result.losses) == len(result.rates) == len(result.smoothed) <= 40
    assert result.diverged == (len(result.losses) < 40)
    np.testing.assert_allclose(result.rates[1:] / result.rates[:-1], 1e6 ** (1 / 39), rtol=1e-9)
    assert np.isfinite(result.losses).all() and len(set(result.losses)) > 5
    assert list(tmp_path.iterdir()) == []


def test_plot_and_table_are_written(tmp_path):
    made = losses()
    result = RangeTest(RATES, made, smooth(made), 1e-4, False)
    picture = matplotlib.image.imread(draw_range_test(result, tmp_path / "a.png", title="tiny"))
    without = draw_range_test(dataclasses.replace(result, suggested=None), tmp_path / "b.png")
    assert picture[..., :3].std() > 0.05 and without.read_bytes() != (tmp_path / "a.png").read_bytes()
    table = pd.read_csv(save_range_test(result, tmp_path / "a.csv"))
    assert list(table) == ["step", "learning_rate", "loss", "smoothed"] and len(table) == 200


def test_the_command_refuses_what_the_recipe_refuses_in_one_line(tmp_path, capsys):
    assert main(["--lowest", "high"]) == 2
    assert main(["no-such-recipe"]) == 2
    assert main(["--resume", "runs/x"]) == 2
    assert main(["--trainable", "conv99", "--phantom_images", "0"]) == 2
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 5 and "is a file" in lines[-1]


def test_a_stack_too_small_for_the_network_is_refused_before_images_are_prepared(tmp_path, monkeypatch):
    make_phantoms(tmp_path / "data", 24, seed=1, size=32, classes=("normal", "covid19"), progress=False)
    settings = InputSettings(size=8, channels=("raw",))
    recipe = Recipe(data=str(tmp_path / "data" / "phantom.csv"), store=str(tmp_path / "stacks.h5"), input=settings)
    with pytest.raises(InputError, match="a stack of 8 pixels given, 94 or more expected"):
        range_test(recipe, steps=20, progress=False)
    assert not (tmp_path / "stacks.h5").exists()


def test_the_engine_given_runs_the_lung_network(monkeypatch, capsys):
    monkeypatch.delenv("COVIDCXNET_ENGINE", raising=False)
    engines = []

    def segmenter(weights, *, engine):
        engines.append(engine)
        raise InputError("stop here")

    monkeypatch.setattr("covidcxnet.training.data.LungSegmenter", segmenter)
    assert main(["transfer", "--data", "phantom", "--engine", "keras"]) == 2
    assert engines == ["keras"] and "stop here" in capsys.readouterr().err


def test_the_command_writes_and_tells_the_rate(tmp_path, capsys, monkeypatch):
    values = losses()
    result = RangeTest(RATES, values, smooth(values), suggest(RATES, values, smooth(values)), False)
    monkeypatch.setattr("covidcxnet.training.lr_finder.range_test", lambda recipe, **_: result)
    assert main(["phantom", "--out", str(tmp_path / "lr"), "--steps", "50"]) == 0
    assert "--learning-rate 0.0" in capsys.readouterr().out.splitlines()[-1]
    assert {path.name for path in (tmp_path / "lr").iterdir()} == {"learning_rate.png", "learning_rate.csv"}
    nothing = dataclasses.replace(result, suggested=None)
    monkeypatch.setattr("covidcxnet.training.lr_finder.range_test", lambda recipe, **_: nothing)
    assert main(["--out", str(tmp_path / "lr")]) == 1
    assert "no rate suggested" in capsys.readouterr().err
