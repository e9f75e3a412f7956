"""From file to stack: what each step does to the pixels, and what a bad file does to the others."""

import dataclasses
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from covidcxnet.datasets.phantom import phantom
from covidcxnet.datasets.recognition import OTHER
from covidcxnet.preparation import prepare_files, prepare_image
from covidcxnet.preparation.pipeline import about_image
from covidcxnet.settings import InputSettings
from enhancement import InputError, equalize, gaussian_blur, stack
from segmentation.regions import Frame, box_of


@pytest.fixture
def stacked(settings):
    """``stacked(image, lungs, trusted=..., size=...)`` prepares an image with these changes of the settings."""

    def call(image, lungs=None, trusted=True, **changes):
        return prepare_image(image, lungs, None, dataclasses.replace(settings, **changes), trusted=trusted)

    return call


def test_a_stack_holds_the_channels_asked_for(settings, stacked, picture):
    image = picture(0, (32, 32))
    prepared = stacked(image)
    assert prepared.stack.shape == (32, 32, 3) and prepared.stack.dtype == np.uint8 and prepared.lungs is None
    np.testing.assert_array_equal(prepared.stack, stack(image, settings.channels, clahe_tile_grid=(2, 2)))
    np.testing.assert_array_equal(stacked(image, channels=("raw",)).stack[..., 0], image)
    for shape in ((1, 1), (1, 50), (3, 2)):
        assert stacked(np.full(shape, 7, np.uint8)).stack.shape == (32, 32, 3)


def test_planes_are_made_before_resizing_on_request_and_settings_without_it_are_those_of_before(
    settings, stacked, picture, ellipses
):
    image = picture(4, (90, 120))
    options = {"channels": ("equalize_blur", "raw") * 3, "stretch": True, "enhance_at": "radiograph"}
    made, enhanced = stacked(image, **options).stack, gaussian_blur(equalize(image))
    expected = cv2.resize(enhanced, (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(made[..., 0], expected)
    np.testing.assert_array_equal(made[..., 1], cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA))
    assert (made[..., 0] != stacked(image, **options | {"enhance_at": "stack"}).stack[..., 0]).any()
    lungs = ellipses((90, 120))
    top, left, bottom, right = stacked(image, lungs, region="crop", stretch=True).frame.box
    cropped = gaussian_blur(equalize(image[top:bottom, left:right]))
    made = stacked(image, lungs, region="crop", **options).stack
    np.testing.assert_array_equal(made[..., 0], cv2.resize(cropped, (32, 32), interpolation=cv2.INTER_AREA))
    # stores are found by the key, and weights hold the values: neither changes where the setting does nothing
    assert InputSettings().key == "c7ccc5b4cf5177d4" and "enhance_at" not in settings.to_dict()
    changed = dataclasses.replace(settings, enhance_at="radiograph")
    assert InputSettings.from_dict(changed.to_dict()) == changed and changed.key != settings.key
    with pytest.raises(InputError, match=r"input\.enhance_at.*stack, radiograph"):
        InputSettings(enhance_at="file")


def test_the_aspect_ratio_is_kept_by_black_padding_that_no_enhancement_has_seen(settings, stacked, picture):
    image = picture(1, (30, 60))
    prepared = stacked(image)
    assert (prepared.stack[:8] == 0).all() and (prepared.stack[24:] == 0).all()
    small = cv2.resize(image, (32, 16), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(prepared.stack[8:24], stack(small, settings.channels, clahe_tile_grid=(2, 2)))
    stretched = stacked(image, stretch=True)
    assert stretched.frame.inner_height == 32 and (stretched.stack[..., 2] > 0).all()


def test_resizing_stays_in_bytes_never_wraps_and_takes_only_sharp_sources_down_to_a_resolution(stacked):
    stripes, edge = np.zeros((40, 40), np.uint8), np.zeros((20, 20), np.uint8)
    stripes[::2], edge[:, 10:] = 255, 255
    assert all(stacked(stripes, size=size, channels=("raw",)).stack.dtype == np.uint8 for size in (13, 64, 100))
    big = stacked(edge, size=64, channels=("raw",)).stack[32, :, 0].astype(int)
    assert (np.diff(big) >= 0).all(), "an edge overshoots nowhere"
    sharp, raw = (
        np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8),
        {"size": 128, "channels": ("raw",)},
    )
    assert stacked(sharp, resolution=32, **raw).stack.std() < 0.5 * stacked(sharp, **raw).stack.std()
    small = sharp[:32, :32]
    np.testing.assert_array_equal(stacked(small, resolution=32, **raw).stack, stacked(small, **raw).stack)


@pytest.mark.parametrize("region", ["crop", "mask", "crop+mask"])
def test_a_region_is_cut_by_the_lungs(stacked, region, picture, ellipses):
    image = picture(2)
    lungs = ellipses(image.shape)
    prepared = stacked(image, lungs, region=region, margin=0.0)
    assert prepared.lungs.shape == (32, 32) and prepared.lungs.dtype == bool and prepared.lungs.any()
    box = (prepared.frame.top, prepared.frame.left, prepared.frame.bottom, prepared.frame.right)
    assert box == (box_of(lungs) if "crop" in region else (0, 0, 60, 80))
    outside = (prepared.stack == 0).all(axis=-1)
    assert not (outside & prepared.lungs).any()
    inner = prepared.frame.place(np.ones((prepared.frame.inner_height, prepared.frame.inner_width), bool))
    assert outside[inner].any() == ("mask" in region)


def test_the_whole_image_is_used_where_lungs_cannot_be_trusted(stacked, picture, ellipses):
    image = picture(3)
    lungs, whole = ellipses(image.shape), stacked(image).stack
    untrusted = stacked(image, lungs, trusted=False, region="crop+mask")
    for given in (untrusted, *(stacked(image, none, region="crop+mask") for none in (np.zeros_like(lungs), None))):
        np.testing.assert_array_equal(given.stack, whole)
    assert untrusted.lungs.any(), "still there to be looked at"


@pytest.mark.parametrize("resolution", [0, 64])
def test_the_frame_leads_back_to_the_radiograph(stacked, resolution):
    image, lungs = np.full((90, 120), 20, np.uint8), np.zeros((90, 120), bool)
    image[30:60, 40:100], lungs[20:80, 30:110] = 220, True
    prepared = stacked(image, lungs, size=64, region="crop", channels=("raw",), resolution=resolution)
    assert (prepared.frame.height, prepared.frame.width) == image.shape
    back = prepared.frame.to_radiograph((prepared.stack[..., 0] > 120).astype(np.float32))
    assert ((back > 0.5) != (image > 120)).mean() < 0.02
    assert Frame.from_array(prepared.frame.to_array()) == prepared.frame


def test_a_histogram_is_matched_before_enhancement(stacked, picture):
    counts = np.zeros(256, int)
    counts[[50, 100]] = 1
    planes = stacked(picture(4, (32, 32)), histogram=tuple(counts), channels=("raw", "equalize")).stack
    assert planes[..., 0].min() >= 50 and planes[..., 0].max() <= 100 and planes[..., 1].max() == 255


BAD = [np.zeros((4, 4), bool), np.zeros((2, 4, 8), np.uint8), np.zeros((0, 4), np.uint8), "x"]


def test_what_is_no_radiograph_and_a_call_without_lungs_masks_or_workers_are_refused_at_once(settings, picture):
    for bad in BAD:
        with pytest.raises(InputError, match=r"radiograph: .* given"):
            prepare_image(bad, None, None, settings)
    with pytest.raises(InputError, match="mask of shape"):
        prepare_image(picture(0), np.zeros((3, 3), bool), None, settings)
    with pytest.raises(InputError, match="needs lungs"):
        prepare_files([picture(0)], dataclasses.replace(settings, region="crop"))
    for options, word in (({"known_masks": []}, "known_masks"), ({"jobs": 0}, "jobs"), ({"batch": 0}, "batch")):
        with pytest.raises(InputError, match=word):
            prepare_files([picture(0)], settings, **options)


def test_a_bad_file_is_an_outcome_and_the_rest_goes_on(settings, tmp_path, picture):
    good, cut, empty = (tmp_path / f"{name}.png" for name in ("good", "cut", "empty"))
    cv2.imwrite(str(good), picture(0))
    cut.write_bytes(good.read_bytes()[:200])
    empty.touch()
    items = [good, cut, tmp_path / "missing.png", empty, picture(1), np.zeros((2, 2), bool), good]
    outcomes = list(prepare_files(items, settings, batch=2))
    assert [o.index for o in outcomes] == list(range(7))
    assert [o.prepared is not None for o in outcomes] == [True, False, False, False, True, False, True]
    assert all(bool(o.error) == (o.prepared is None) for o in outcomes)
    assert "no such file" in outcomes[2].error and outcomes[0].radiograph_shape == (60, 80)
    for same in (outcomes[6].prepared, prepare_image(picture(0), None, None, settings)):
        np.testing.assert_array_equal(outcomes[0].prepared.stack, same.stack)


def test_a_segmenter_is_asked_in_batches_and_its_verdict_is_kept(settings, picture, fake_segmenter):
    images = [picture(i) for i in range(5)] + [np.full((60, 80), 2, np.uint8)]
    segmenter = fake_segmenter(limit=10)
    chosen = dataclasses.replace(settings, region="crop")
    outcomes = list(prepare_files(images, chosen, segmenter=segmenter, batch=4))
    assert segmenter.calls == 2
    assert [o.trusted for o in outcomes] == [True] * 5 + [False]
    assert outcomes[5].reasons == ("too dark",) and outcomes[5].verdict.trusted is False
    assert outcomes[5].prepared.frame.bottom == 60 and outcomes[0].prepared.frame.bottom < 60
    shown = next(prepare_files(images[:1], settings, segmenter=segmenter))
    assert shown.prepared.lungs.any() and shown.prepared.frame.bottom == 60, "region none: lungs for display only"


def test_a_segmenter_that_gives_too_few_masks_is_named(settings, picture, fake_segmenter, monkeypatch):
    segmenter = fake_segmenter()
    monkeypatch.setattr(segmenter, "predict", lambda images: [])
    with pytest.raises(InputError, match=f"{segmenter.name}: 0 lung masks given for 2 radiographs"):
        list(prepare_files([picture(0), picture(1)], settings, segmenter=segmenter))


def test_known_masks_serve_where_there_is_no_segmenter(settings, tmp_path, picture, ellipses):
    image, lungs = picture(0), ellipses((60, 80))
    file = tmp_path / "mask.png"
    cv2.imwrite(str(file), cv2.resize(lungs.astype(np.uint8) * 255, (40, 30), interpolation=cv2.INTER_NEAREST))
    masks = [lungs, file, None, tmp_path / "missing.png", np.zeros_like(lungs), np.ones((9, 9), bool)]
    chosen = dataclasses.replace(settings, region="crop")
    outcomes = list(prepare_files([image] * 6, chosen, known_masks=masks))
    assert [o.trusted for o in outcomes] == [True, True, False, False, False, False]
    assert all(o.prepared is not None for o in outcomes)
    assert "does not fit" in outcomes[5].reasons[0] and "empty" in outcomes[4].reasons[0]
    assert [o.prepared.frame.top > 5 for o in outcomes] == [True, True, False, False, False, False]
    np.testing.assert_allclose(outcomes[1].prepared.frame.box, outcomes[0].prepared.frame.box, atol=2)
    nobody = next(prepare_files([image], settings, known_masks=[None]))
    assert nobody.trusted is None


def test_worker_processes_give_the_same_outcomes_and_notes_in_the_same_order(settings, dataset, fake_segmenter):
    chest = phantom("normal", 3, 128).image
    items = [*dataset.paths[:4], dataset.root / "missing.png", chest, 255 - chest]
    options = {"segmenter": fake_segmenter(), "batch": 3, "look": True}
    alone, together = (list(prepare_files(items, settings, jobs=jobs, **options)) for jobs in (1, 2))
    assert [o.index for o in together] == list(range(7)) and together[4].error == alone[4].error
    for left, right in zip(alone, together, strict=True):
        assert left.notes == right.notes
        if left.index != 4:
            np.testing.assert_array_equal(left.prepared.stack, right.prepared.stack)
            assert left.prepared.frame == right.prepared.frame
    assert [[note.partition(":")[0] for note in o.notes] for o in together[5:]] == [[], ["inverted"]]
    assert not any(outcome.notes for outcome in prepare_files(items, settings))


@pytest.mark.parametrize(
    ("problem", "frontal", "limit", "words"),
    [
        ("lateral", None, 0, ["lateral"]),  # no rule belongs to the segmenter
        ("lateral", 2.0, 0, []),
        ("lateral", -2.0, 0, [OTHER]),
        ("turned", -2.0, 0, ["turned"]),  # says more
        (OTHER, 2.0, 255, [OTHER, "lungs"]),
        ("", -2.0, 255, [OTHER, "lungs"]),
        ("", 2.0, 0, []),
    ],
)
def test_notes_say_what_the_segmenter_finds_of_the_view_and_the_lungs(
    settings, fake_segmenter, monkeypatch, problem, frontal, limit, words
):
    monkeypatch.setattr("covidcxnet.datasets.recognition.recognise", lambda *_: {problem: "why"} if problem else {})
    segmenter = fake_segmenter(limit=limit, frontal=frontal)
    image = phantom("normal", 3, 128).image
    (outcome,) = prepare_files([image], settings, segmenter=segmenter, look=True)
    assert [note.partition(":")[0] for note in outcome.notes] == words
    assert about_image(outcome.notes) == [note for note in outcome.notes if note != "lungs: not trusted, too dark"]


def test_preparing_never_loads_keras():
    code = (
        "import sys, numpy as np; from covidcxnet.preparation import prepare_files;"
        "from covidcxnet.settings import InputSettings;"
        "next(prepare_files([np.ones((40, 40), np.uint8)], InputSettings(size=32)));"
        "assert not {'keras', 'tensorflow', 'pandas', 'h5py'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
