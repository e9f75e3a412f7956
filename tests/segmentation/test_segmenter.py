"""One result for each input, of the input's own size; scores equal their definitions, intervals are over patients."""

import itertools
import re
from dataclasses import replace

import cv2
import h5py
import numpy as np
import pytest

import weights
from enhancement.errors import InputError
from enhancement.parallel import sha256
from segmentation import frontal
from segmentation.evaluation import dice, hausdorff95, iou, score_pairs, split_by_knowledge, summarize
from segmentation.pairs import pairs_from_csv, split_pairs
from segmentation.segmenter import LungSegmenter

pytestmark = pytest.mark.usefixtures("eager")


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
    assert repr(alone) == "LungSegmenter('tiny.weights.h5', size=48, convention='lung_field')"
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
    (by_glob,) = segmenter.predict(str(path.with_name("chest03*.png")))
    np.testing.assert_array_equal(segmenter.predict(np.stack([array, array]) / 255)[1].mask, by_glob.mask)
    picture = cv2.imdecode(np.frombuffer(by_array._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert len({tuple(pixel) for row in picture for pixel in row if pixel[0] < pixel[2]}) >= 1  # an orange outline
    assert repr(bad).startswith("LungMask('bad.png', error=") and bad._repr_png_() is None
    assert segmenter.predict([path, missing.path]).to_frame()["error"].isna().tolist() == [True, False]
    for result in (bad, missing):
        assert result.error and result.mask is None and result.probability is None
        assert result.box is None and result.verdict is None and result.probability_of("lung_field") is None
    assert LungSegmenter(chest_weights).predict([tmp_path / "none.png"])[0].error  # without building the network
    with pytest.raises(InputError, match="image 2: shape"):
        segmenter.predict([array, array[:0]])
    with pytest.raises(InputError, match="no such file"):
        segmenter.predict(tmp_path / "none.png")
    with pytest.raises(InputError, match="no radiographs given"):
        segmenter.predict([])
    stream = segmenter.stream(itertools.repeat(path))  # gives results before its input ends
    assert next(stream).mask.any() and next(stream).mask.any()
    stream.close()


def test_an_image_without_lungs_never_raises_and_an_empty_mask_has_no_box_and_is_not_trusted(
    segmenter, chest_weights, tmp_path, monkeypatch
):
    for shape in ((64, 64), (16, 16), (16, 500)):
        files = [tmp_path / f"{level}.png" for level in (0, 128, 255)]
        for file in files:
            cv2.imwrite(str(file), np.full(shape, int(file.stem), np.uint8))
        for result in segmenter.predict(files):
            assert result.mask.shape == shape and result.verdict is not None
    blind = LungSegmenter(chest_weights)
    monkeypatch.setattr(blind, "outputs_of", lambda squares: [(np.zeros((48, 48, 2), np.float32), None)] * len(squares))
    result = blind.predict(np.zeros((64, 64), np.uint8))[0]
    assert result.box is None and not result.mask.any()
    assert not result.verdict.trusted and result.verdict.reasons == ("no lungs found",)


def test_a_rule_for_frontal_views_holds_for_just_its_file_and_sees_neither_padding_nor_changes_masks(
    segmenter, chest_weights, chest, tmp_path, monkeypatch
):
    monkeypatch.setattr(frontal, "FOLDER", tmp_path)
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(0.5, 1, 128).astype(np.float16) for name in ("mean", "scale", "weights")}

    def write(sha):
        np.savez(tmp_path / "tiny.frontal.npz", **values, bias=0.25, layer="bottleneck_b", sha256=sha)
        return LungSegmenter(chest_weights)

    images = [chest(2, *shape)[0] for shape in ((96, 80), (48, 16))]
    plain = LungSegmenter(chest_weights).predict(images)
    ruled = write(segmenter.sha256)
    for with_rule, without in zip(ruled.predict(images), plain, strict=True):
        np.testing.assert_array_equal(with_rule.probability, without.probability)
        assert without.verdict.frontal is None and with_rule.verdict == replace(
            without.verdict, frontal=with_rule.verdict.frontal
        )
        assert with_rule.verdict.frontal != 0 and with_rule.verdict.to_dict()["frontal"] == with_rule.verdict.frontal
    frame = plain[1].frame  # but for its middle third, the square is padding
    features = rng.random((3, 3, 64))
    assert frame.inner[1] == slice(16, 32)
    expected = np.concatenate([features[:, 1].mean(0), features[:, 1].max(0)])
    np.testing.assert_allclose(frontal.pooled(features, frame), expected, rtol=1e-6)
    assert write("0" * 64).rule is None
    path = tmp_path / "tiny.frontal.npz"
    path.write_bytes(path.read_bytes()[:-99])
    with pytest.raises(InputError, match=re.escape(str(path))):
        _ = LungSegmenter(chest_weights).rule


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
        LungSegmenter(path).predict(np.zeros((16, 16), np.uint8))


def square(left=10):
    mask = np.zeros((100, 80), bool)
    mask[20:60, left : left + 30] = True
    return mask


EMPTY = np.zeros((100, 80), bool)


def test_scores_are_those_of_the_overlap_and_hausdorff_ignores_the_farthest_twentieth_only():
    expected = {
        (1, 1, 0): [(square(), square()), (EMPTY, EMPTY)],
        (20 / 30, 20 / 40, 10): [(square(10), square(20))],  # 10 of 100 pixels
        (0, 0, 100): [(square(), EMPTY)],
    }
    for scores, pairs in expected.items():
        for pair in pairs:
            assert (dice(*pair), iou(*pair), hausdorff95(*pair)) == pytest.approx(scores)
    spur = square()
    spur[40, 40:43] = True
    assert hausdorff95(square(), spur) < 1
    assert hausdorff95(square(), square() | square(45)) > 10


def rows(values, groups, source="east"):
    named = zip(values, groups, strict=True)
    return [
        {**dict.fromkeys(("dice", "iou", "hd95"), v), "trusted": True, "group": g, "source": source} for v, g in named
    ]


def test_intervals_hold_the_mean_and_grow_when_images_share_patients():
    values = np.random.default_rng(0).random(60)
    alone = summarize(rows(values, [f"p{i}" for i in range(60)]))["east"]
    values = np.sort(values)
    shared = summarize(rows(values, [f"p{i // 10}" for i in range(60)]))["east"]
    assert alone["pairs"] == 60 and alone["patients"] == 60 and shared["patients"] == 6
    for part in (alone, shared):
        mean, low, high = part["dice"]
        assert low < mean < high and mean == pytest.approx(values.mean())
    width = [part["dice"][2] - part["dice"][1] for part in (alone, shared)]
    assert width[1] > 1.5 * width[0]


@pytest.mark.parametrize("number", [1, 2, 7, 60])
def test_the_interval_of_the_median_is_that_of_drawn_patients(number):
    generator = np.random.default_rng(number)
    values, patients = generator.random(number), generator.integers(0, max(1, number // 2), number)
    found = summarize(rows(values, [f"p{p}" for p in patients]), samples=250)["east"]["median_dice"]
    names = list(dict.fromkeys(patients))
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), 250)
    times = [[sample[names.index(p)] for p in patients] for sample in drawn]
    medians = [np.median(np.repeat(values, n)) for n in times]
    interval = np.percentile(medians, [2.5, 97.5]) if len(names) > 1 else [None, None]
    assert found == [pytest.approx(np.median(values)), *interval]


def test_each_source_stands_beside_all_and_a_single_patient_has_no_interval():
    summary = summarize(rows([1, 1], "ab") + rows([0, 0], "cd", "west"))
    assert set(summary) == {"east", "west", "all"}
    assert summary["east"]["dice"] == [1, 1, 1] and summary["all"]["dice"][0] == 0.5
    part = summarize(rows([0.9, 0.7], "aa"))["east"]
    assert part["dice"] == [pytest.approx(0.8), None, None] and part["median_dice"][1:] == [None, None]
    part = summarize(rows([0.97] * 8 + [0.1, 0.2], "abcdefghij"))["east"]  # a few wrong masks do not move the median
    assert part["median_dice"][0] == 0.97 and part["dice"][0] == pytest.approx(0.806)


def test_pairs_are_scored_by_their_own_convention_and_an_unreadable_one_is_named(pair_folder, chest_weights, tmp_path):
    pairs = pairs_from_csv(pair_folder / "pairs.csv")
    segmenter = LungSegmenter(chest_weights, batch_size=4)
    scored = score_pairs(segmenter, pairs, stand_in="lung_field")
    assert all(r["output"] == r["convention"] for r in scored)  # nothing stands in for what is known
    assert [r["image"] for r in scored] == [str(p.image) for p in pairs]
    assert np.mean([r["dice"] for r in scored]) > 0.85
    assert {r["convention"] for r in scored} == {"lung_field", "lung_incl_retrocardiac"}
    (tmp_path / "bad.png").write_text("no")
    with pytest.raises(InputError, match=r"bad\.png"):
        score_pairs(segmenter, [replace(pairs[0], image=tmp_path / "bad.png")])


def test_pairs_of_an_unknown_convention_are_counted_and_another_stands_in_only_if_asked(given_split, field_weights):
    comparable, others = split_by_knowledge(["lung_field"], given_split)
    assert {p.source for p in comparable} == {"east"} and len(comparable) == 7
    (other,) = others
    assert (other["source"], other["convention"], other["pairs"]) == ("west", "lung_incl_retrocardiac", 5)
    assert other["reason"] == "masks are lung_incl_retrocardiac, the network knows lung_field"
    segmenter = LungSegmenter(field_weights, batch_size=4)
    with pytest.raises(InputError, match="lung_incl_retrocardiac"):
        score_pairs(segmenter, given_split)
    scored = score_pairs(segmenter, given_split, stand_in="lung_field")
    assert len(scored) == 12 and {r["output"] for r in scored} == {"lung_field"}
    assert {r["convention"] for r in scored} == {"lung_field", "lung_incl_retrocardiac"}


@pytest.mark.real
def test_the_released_network_finds_held_out_lungs_and_is_not_fooled_by_other_pictures(real_data):
    try:
        weights.locate("lung-unet")
    except ValueError as error:
        pytest.skip(str(error))
    segmenter, pairs = LungSegmenter(), pairs_from_csv(real_data / "segmentation" / "metadata.csv")
    held_out = [p for p, side in zip(pairs, split_pairs(pairs), strict=True) if side == "test"]
    scored = score_pairs(segmenter, held_out[::20])
    assert np.mean([row["dice"] for row in scored]) > 0.93 and np.mean([row["trusted"] for row in scored]) > 0.8
    kinds = ("ct", "lateral", "non_medical", "other_medical")
    others = [file for kind in kinds for file in sorted((real_data / "reject" / kind).iterdir())[::4]]
    verdicts = [result.verdict for result in segmenter.predict(others)]
    assert np.mean([verdict.trusted for verdict in verdicts]) < 0.1 and all(verdict.frontal < 0 for verdict in verdicts)
    frontal_views = segmenter.predict([pair.image for pair in pairs[::60]])
    assert sum(result.verdict.frontal < 0 for result in frontal_views) <= 1
