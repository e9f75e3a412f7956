"""One result for each input, of the input's own size, whatever the input."""

import itertools

import cv2
import h5py
import numpy as np
import pytest

from enhancement.errors import InputError
from enhancement.parallel import sha256
from segmentation.evaluation import dice
from segmentation.segmenter import LungSegmenter


@pytest.fixture(scope="module")
def segmenter(chest_weights):
    return LungSegmenter(chest_weights, batch_size=4)


def test_masks_have_the_size_of_their_radiographs_find_the_lungs_and_do_not_depend_on_the_batch(
    segmenter, chest_weights, chest
):
    shapes = [(96, 80), (100, 100), (200, 150), (96, 80), (60, 90)]
    chests = [chest(i, *shape) for i, shape in enumerate(shapes)]
    results = segmenter.predict([image for image, _ in chests])
    alone = LungSegmenter(chest_weights, batch_size=1)
    assert alone.name == "tiny" and alone.sha256 == sha256(chest_weights) and alone.metadata["kind"] == "segmenter"
    for result, (image, lungs) in zip(results, chests, strict=True):
        assert result.mask.shape == result.probability.shape == image.shape
        assert result.mask.dtype == bool and result.probability.dtype == np.float32
        assert result.probability.min() >= 0 and result.probability.max() <= 1
        assert dice(result.mask, lungs) > 0.85 and result.error is None
        np.testing.assert_allclose(alone.predict(image)[0].probability, result.probability, atol=1e-5)
        top, left, bottom, right = result.box
        assert result.mask[top:bottom, left:right].sum() == result.mask.sum()


def test_files_and_arrays_give_the_same_and_what_cannot_be_read_gets_an_error(
    segmenter, chest_weights, pair_folder, tmp_path
):
    (tmp_path / "bad.png").write_bytes(b"no image")
    path = pair_folder / "images" / "chest03.png"
    array = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    by_file, bad, missing, by_array = segmenter.predict([str(path), tmp_path / "bad.png", tmp_path / "none.png", array])
    assert by_file.mask.any() and by_file.path == str(path) and by_array.path is None
    np.testing.assert_array_equal(by_file.mask, by_array.mask)
    for result in (bad, missing):
        assert result.error and result.mask is None and result.probability is None
        assert result.box is None and result.verdict is None and result.probability_of("lung_field") is None
    assert LungSegmenter(chest_weights).predict([tmp_path / "none.png"])[0].error  # without building the network
    others = [np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)]
    assert all("uint8 [H, W] expected" in result.error for result in segmenter.predict(others))
    assert segmenter.predict([]) == []
    stream = segmenter.stream(itertools.repeat(path))  # gives results before its input ends
    assert next(stream).mask.any() and next(stream).mask.any()
    stream.close()


def test_an_image_without_lungs_never_raises_and_an_empty_mask_has_no_box_and_is_not_trusted(
    segmenter, chest_weights, monkeypatch
):
    for shape in ((64, 64), (1, 1), (1, 500)):
        for result in segmenter.predict([np.full(shape, level, np.uint8) for level in (0, 128, 255)]):
            assert result.mask.shape == shape and result.verdict is not None
    blind = LungSegmenter(chest_weights)
    monkeypatch.setattr(blind, "_maps", lambda squares: np.zeros((len(squares), 48, 48, 2), np.float32))
    result = blind.predict(np.zeros((64, 64), np.uint8))[0]
    assert result.box is None and not result.mask.any()
    assert not result.verdict.trusted and result.verdict.reasons == ("no lungs found",)


def test_the_other_convention_is_there_too_and_dilation_grows_mask_and_box(segmenter, chest_weights, chest):
    image, _ = chest(2, 100, 100)
    field = segmenter.predict(image)[0]
    whole = segmenter.following("lung_incl_retrocardiac").predict(image)[0]
    np.testing.assert_array_equal(field.probability_of("lung_incl_retrocardiac"), whole.probability)
    np.testing.assert_array_equal(whole.probability_of("lung_field"), field.probability)
    with pytest.raises(InputError, match="lung_field"):
        field.probability_of("ribs")
    assert segmenter.convention == "lung_field" and (whole.probability != field.probability).any()
    grown = LungSegmenter(chest_weights, dilation=0.05).predict(image)[0]
    assert (field.mask & ~grown.mask).sum() == 0
    assert grown.box[0] == field.box[0] - 5 and grown.box[3] == field.box[3] + 5


WRONG = [{"convention": "ribs"}, {"threshold": 0}, {"threshold": 1.0}, {"batch_size": 0}, {"dilation": 0.5}]


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_outside_their_range_and_unknown_names_are_refused(chest_weights, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        LungSegmenter(chest_weights, **wrong)
    with pytest.raises(InputError, match="no-such-lungs"):
        LungSegmenter("no-such-lungs")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"segmenter"', '"classifier"', "classifier"),
        ('"conventions"', '"convention_names"', "conventions"),
        ('"unet"', '"vit"', "vit"),
        ('"width"', '"depth"', "depth"),
        ('"width": 4', '"width": 6', "do not fit"),
    ],
)
def test_weights_of_another_kind_or_damaged_are_refused(chest_weights, tmp_path, old, new, message):
    path = tmp_path / "x.weights.h5"
    path.write_bytes(chest_weights.read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["covidcxnet"] = file.attrs["covidcxnet"].replace(old, new)
    with pytest.raises(InputError, match=message):
        LungSegmenter(path).predict(np.zeros((8, 8), np.uint8))
