"""`normalization: training` and `match_to`: found once at the start, from the right images, kept with the weights."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from covidcxnet.pretrained import load_model
from covidcxnet.settings import InputSettings
from covidcxnet.training import Run, load_recipe, train
from covidcxnet.training.run import write_json
from covidcxnet.training.statistics import base_histogram, channel_statistics, with_histogram
from enhancement import match_histogram
from enhancement.errors import InputError
from weights.format import read_metadata


@pytest.fixture(autouse=True)
def quick_curves(monkeypatch):
    monkeypatch.setattr("covidcxnet.training.fitting.draw_curves", lambda history, path, **_: path.write_bytes(b""))


@pytest.fixture(scope="module")
def scaled_run(base, tmp_path_factory):
    """A finished run of one epoch that scales by its training images."""
    options = base.options | {"normalization": "training"}
    folder = tmp_path_factory.mktemp("scaled") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("covidcxnet.training.fitting.draw_curves", lambda history, path, **_: path.write_bytes(b""))
        return train(dataclasses.replace(base, options=options, epochs=1, out=str(folder)))


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_statistics_are_those_of_all_pixels_at_once(trained, batch):
    rows = trained.rows("train")
    found = channel_statistics(trained.store, rows, batch=batch, progress=False)
    pixels = trained.store.read(rows) / 255
    np.testing.assert_allclose(found["mean"], pixels.mean(axis=(0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(found["std"], pixels.std(axis=(0, 1, 2)), atol=1e-6)


def test_statistics_of_nothing_or_of_one_grey_level_are_refused(trained):
    with pytest.raises(InputError, match="no training image"):
        channel_statistics(trained.store, np.array([], np.int64))
    store = type(
        "S", (), {"settings": trained.store.settings, "read": lambda self, rows: np.full((1, 4, 4, 2), 9, "u1")}
    )
    with pytest.raises(InputError, match="channel raw have one value"):
        channel_statistics(store(), np.array([0]), progress=False)


def test_weights_hold_the_statistics_of_the_training_images_as_numbers(scaled_run):
    expected = channel_statistics(scaled_run.store, scaled_run.rows("train"), progress=False)
    for path in (scaled_run.best_weights, scaled_run.last_weights):
        assert read_metadata(path)["architecture"]["options"]["normalization"] == expected
    assert scaled_run.status["options"]["normalization"] == expected
    everything = channel_statistics(scaled_run.store, np.arange(len(scaled_run.store)), progress=False)
    assert expected != everything  # other rows would have given other numbers
    assert scaled_run.recipe.options["normalization"] == "training"


def test_the_start_is_the_same_whatever_the_normalization(scaled_run, trained):
    # both from one seed: only the scaling and what follows from it may differ
    assert scaled_run.log["loss"][0] != trained.log["loss"][0]
    assert (
        load_model(scaled_run.best_weights).model.count_params()
        == load_model(trained.best_weights).model.count_params()
    )


def test_prediction_and_resumption_scale_as_the_training_did(scaled_run, tmp_path):
    import shutil

    classifier = load_model(scaled_run.best_weights)
    stacks = scaled_run.store.read(scaled_run.rows("validation"))
    statistics = scaled_run.status["options"]["normalization"]
    assert classifier.metadata["architecture"]["options"]["normalization"] == statistics
    probabilities = classifier.predict_stacks(stacks)[:, 1]
    targets = scaled_run.store.table["label"].to_numpy()[scaled_run.rows("validation")] == "covid19"
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(targets, np.log(clipped), np.log(1 - clipped)))
    assert loss == pytest.approx(scaled_run.log["val_loss"][0], rel=1e-4)

    shutil.copytree(scaled_run.path, tmp_path / "run")
    copied = Run(tmp_path / "run")
    facts = json.loads((copied.path / "run.json").read_text())
    write_json(copied.path / "run.json", facts | {"store": str(scaled_run.store.path)})
    more = train(resume=copied.path, epochs=2)
    assert more.status["options"]["normalization"] == statistics and len(more.log) == 2


def test_a_network_bound_to_its_own_scaling_refuses_before_a_folder_is_made(tiny, tmp_path):
    with pytest.raises(InputError, match=r"options.normalization: 'zscore'"):
        tiny(options={"normalization": "zscore"})
    with pytest.raises(InputError, match=r"2 numbers given|1 numbers given"):
        tiny(options={"normalization": {"mean": [0.5], "std": [0.2]}})


@pytest.fixture(scope="module")
def radiograph(phantoms):
    """One phantom's file."""
    return sorted(phantoms.parent.rglob("*.png"))[0]


def test_the_base_histogram_is_that_of_the_pixels_which_are_matched(radiograph):
    # not square, so that the stack has padding, which must not be counted
    image = cv2.imread(str(radiograph), cv2.IMREAD_GRAYSCALE)[4:20]
    settings = InputSettings(size=24, channels=("clahe",))
    path = radiograph.parent / "part.png"
    cv2.imwrite(str(path), image)
    counts = base_histogram(path, settings)
    path.unlink()
    assert sum(counts) == 24 * 12
    # an image matched to its own histogram does not change
    from covidcxnet.preparation import prepare_image

    plain = dataclasses.replace(settings, channels=("raw",))
    own = prepare_image(image, None, None, plain).stack
    matched = prepare_image(image, None, None, dataclasses.replace(plain, histogram=counts)).stack
    np.testing.assert_array_equal(own, matched)
    np.testing.assert_array_equal(match_histogram(own[6:18, :, 0], np.array(counts)), own[6:18, :, 0])


@pytest.mark.parametrize("region", ["crop", "crop+mask", "mask"])
def test_the_region_of_the_base_radiograph_is_cut_as_the_others_are(radiograph, region):
    image = cv2.imread(str(radiograph), cv2.IMREAD_GRAYSCALE)

    class Halves:
        """Finds the lungs in the left half."""

        def predict(self, images):
            mask = np.zeros(images[0].shape, bool)
            mask[:, : images[0].shape[1] // 2] = True
            box = (0, 0, mask.shape[0], mask.shape[1] // 2)
            verdict = type("V", (), {"trusted": True, "reasons": ()})
            return [type("M", (), {"mask": mask, "box": box, "verdict": verdict, "error": None})]

    settings = InputSettings(size=32, margin=0, region=region)
    counts = base_histogram(radiograph, settings, Halves() if "crop" in region else None)
    expected = image[:, :16] if "crop" in region else image
    assert sum(counts) == expected.size
    np.testing.assert_array_equal(counts, np.bincount(expected.ravel(), minlength=256))


def test_lungs_that_are_not_found_are_said_before_any_work(radiograph):
    class Nothing:
        def predict(self, images):
            verdict = type("V", (), {"trusted": False, "reasons": ("the mask is empty",)})
            return [
                type("M", (), {"mask": np.zeros(images[0].shape, bool), "box": None, "verdict": verdict, "error": None})
            ]

    with pytest.raises(InputError, match=r"match_to: .*lungs are not found \(the mask is empty\).*input.region none"):
        base_histogram(radiograph, InputSettings(size=32, region="crop"), Nothing())


def test_a_base_that_is_no_radiograph_is_refused(tmp_path, tiny):
    settings = InputSettings(size=32)
    with pytest.raises(InputError, match=r"match_to: .*no such file"):
        base_histogram(tmp_path / "none.png", settings)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"match_to: .*text.png"):
        base_histogram(tmp_path / "text.png", settings)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((40, 40), 77, np.uint8))
    with pytest.raises(InputError, match="one grey level"):
        base_histogram(tmp_path / "grey.png", settings)
    with pytest.raises(InputError, match=r"match_to: .*not both"):
        tiny(match_to="a.png", input=InputSettings(size=32, histogram=tuple(range(256))))
    with pytest.raises(InputError, match="no such file"):
        train(tiny(match_to=str(tmp_path / "none.png")))
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_the_histogram_and_does_not_need_the_file_again(base, radiograph):
    recipe = with_histogram(dataclasses.replace(base, match_to=str(radiograph)), None, None)
    assert recipe.match_to == "" and len(recipe.input.histogram) == 256
    assert with_histogram(recipe, None, None) == recipe
    again = load_recipe_of(recipe, radiograph.parent)
    assert again == recipe


def load_recipe_of(recipe, folder):
    from covidcxnet.training import save_recipe

    path = save_recipe(recipe, folder / "matched.yaml")
    try:
        return load_recipe(path)
    finally:
        path.unlink()
