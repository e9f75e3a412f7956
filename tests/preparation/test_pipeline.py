"""From file to stack: what each step does to the pixels, and what a bad file does to the others."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from covidcxnet.preparation import prepare_files, prepare_image
from covidcxnet.settings import InputSettings
from enhancement import InputError, stack
from segmentation.regions import Frame, box_of


def test_a_stack_holds_the_channels_asked_for(settings, picture):
    image = picture(0, (32, 32))
    prepared = prepare_image(image, None, None, settings)
    assert prepared.stack.shape == (32, 32, 3) and prepared.stack.dtype == np.uint8
    np.testing.assert_array_equal(prepared.stack, stack(image, settings.channels, clahe_tile_grid=(2, 2)))
    assert prepared.lungs is None
    single = prepare_image(image, None, None, dataclasses.replace(settings, channels=("raw",)))
    np.testing.assert_array_equal(single.stack[..., 0], image)
    for shape in ((1, 1), (1, 50), (3, 2)):
        assert prepare_image(np.full(shape, 7, np.uint8), None, None, settings).stack.shape == (32, 32, 3)


def test_the_aspect_ratio_is_kept_by_black_padding_that_no_enhancement_has_seen(settings, picture):
    image = picture(1, (30, 60))
    prepared = prepare_image(image, None, None, settings)
    assert (prepared.stack[:8] == 0).all() and (prepared.stack[24:] == 0).all()
    small = cv2.resize(image, (32, 16), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(prepared.stack[8:24], stack(small, settings.channels, clahe_tile_grid=(2, 2)))
    stretched = prepare_image(image, None, None, dataclasses.replace(settings, stretch=True))
    assert stretched.frame.inner_height == 32 and (stretched.stack[..., 2] > 0).all()


def test_resizing_stays_in_bytes_and_never_wraps():
    image = np.zeros((40, 40), np.uint8)
    image[::2] = 255
    for size in (13, 64, 100):
        prepared = prepare_image(image, None, None, InputSettings(size=size, channels=("raw",)))
        assert prepared.stack.dtype == np.uint8
    edge = np.zeros((20, 20), np.uint8)
    edge[:, 10:] = 255
    big = prepare_image(edge, None, None, InputSettings(size=64, channels=("raw",))).stack[32, :, 0].astype(int)
    assert (np.diff(big) >= 0).all(), "an edge overshoots nowhere"


@pytest.mark.parametrize("region", ["crop", "mask", "crop+mask"])
def test_a_region_is_cut_by_the_lungs(settings, region, picture, ellipses):
    image = picture(2)
    lungs = ellipses(image.shape)
    prepared = prepare_image(image, lungs, None, dataclasses.replace(settings, region=region, margin=0.0))
    assert prepared.lungs.shape == (32, 32) and prepared.lungs.dtype == bool and prepared.lungs.any()
    box = (prepared.frame.top, prepared.frame.left, prepared.frame.bottom, prepared.frame.right)
    assert box == (box_of(lungs) if "crop" in region else (0, 0, 60, 80))
    outside = (prepared.stack == 0).all(axis=-1)
    assert not (outside & prepared.lungs).any()
    inner = prepared.frame.place(np.ones((prepared.frame.inner_height, prepared.frame.inner_width), bool))
    assert outside[inner].any() == ("mask" in region)


def test_the_whole_image_is_used_where_lungs_cannot_be_trusted(settings, picture, ellipses):
    image, cropped = picture(3), dataclasses.replace(settings, region="crop+mask")
    lungs = ellipses(image.shape)
    whole = prepare_image(image, None, None, settings)
    for given in (
        prepare_image(image, lungs, None, cropped, trusted=False),
        prepare_image(image, np.zeros_like(lungs), None, cropped),
        prepare_image(image, None, None, cropped),
    ):
        np.testing.assert_array_equal(given.stack, whole.stack)
    assert prepare_image(image, lungs, None, cropped, trusted=False).lungs.any(), "still there to be looked at"


def test_the_frame_leads_back_to_the_radiograph(settings):
    image = np.full((90, 120), 20, np.uint8)
    image[30:60, 40:100] = 220
    lungs = np.zeros(image.shape, bool)
    lungs[20:80, 30:110] = True
    for resolution in (0, 64):
        chosen = dataclasses.replace(settings, size=64, region="crop", channels=("raw",), resolution=resolution)
        prepared = prepare_image(image, lungs, None, chosen)
        assert (prepared.frame.height, prepared.frame.width) == image.shape
        back = prepared.frame.to_radiograph((prepared.stack[..., 0] > 120).astype(np.float32))
        assert ((back > 0.5) != (image > 120)).mean() < 0.02
        assert Frame.from_array(prepared.frame.to_array()) == prepared.frame


def test_resolution_takes_sharp_sources_down_and_leaves_others(settings):
    sharp = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    raw = dataclasses.replace(settings, size=128, channels=("raw",))
    low = dataclasses.replace(raw, resolution=32)
    assert prepare_image(sharp, None, None, low).stack.std() < 0.5 * prepare_image(sharp, None, None, raw).stack.std()
    small = sharp[:32, :32]
    np.testing.assert_array_equal(
        prepare_image(small, None, None, low).stack, prepare_image(small, None, None, raw).stack
    )


def test_a_histogram_is_matched_before_enhancement(settings, picture):
    counts = np.zeros(256, int)
    counts[[50, 100]] = 1
    chosen = dataclasses.replace(settings, histogram=tuple(counts), channels=("raw", "equalize"))
    prepared = prepare_image(picture(4, (32, 32)), None, None, chosen)
    values = np.unique(prepared.stack[..., 0])
    assert values.min() >= 50 and values.max() <= 100
    assert prepared.stack[..., 1].max() == 255


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8), "x"])
def test_what_is_no_radiograph_is_refused(settings, bad, picture):
    with pytest.raises(InputError, match=r"uint8 \[H, W\] expected"):
        prepare_image(bad, None, None, settings)
    with pytest.raises(InputError, match="mask of shape"):
        prepare_image(picture(0), np.zeros((3, 3), bool), None, settings)


def test_a_call_without_lungs_masks_or_workers_is_refused_at_once(settings, picture):
    with pytest.raises(InputError, match="needs lungs"):
        prepare_files([picture(0)], dataclasses.replace(settings, region="crop"))
    for options, word in (({"known_masks": []}, "known_masks"), ({"jobs": 0}, "jobs"), ({"batch": 0}, "batch")):
        with pytest.raises(InputError, match=word):
            prepare_files([picture(0)], settings, **options)


def test_a_bad_file_is_an_outcome_and_the_rest_goes_on(settings, tmp_path, picture):
    good, cut, empty = tmp_path / "good.png", tmp_path / "cut.png", tmp_path / "empty.png"
    cv2.imwrite(str(good), picture(0))
    cut.write_bytes(good.read_bytes()[:200])
    empty.write_bytes(b"")
    items = [good, cut, tmp_path / "missing.png", empty, picture(1), np.zeros((2, 2)), good]
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


def test_worker_processes_give_the_same_outcomes_in_the_same_order(settings, dataset):
    items = [*dataset.paths, dataset.root / "missing.png"]
    alone = list(prepare_files(items, settings, batch=3))
    together = list(prepare_files(items, settings, batch=3, jobs=2))
    assert [o.index for o in together] == list(range(13)) and together[12].error == alone[12].error
    for left, right in zip(alone[:12], together[:12], strict=True):
        np.testing.assert_array_equal(left.prepared.stack, right.prepared.stack)
        assert left.prepared.frame == right.prepared.frame


def test_preparing_never_loads_keras():
    code = (
        "import sys, numpy as np; from covidcxnet.preparation import prepare_files;"
        "from covidcxnet.settings import InputSettings;"
        "next(prepare_files([np.ones((40, 40), np.uint8)], InputSettings(size=32)));"
        "assert not {'keras', 'tensorflow', 'pandas', 'h5py'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize("jobs", [1, 2])
def test_notes_are_made_where_asked_with_and_without_a_segmenter(jobs, fake_segmenter):
    from covidcxnet.datasets.phantom import phantom

    chest = phantom("normal", 3, 128).image
    items = [chest, 255 - chest]
    for segmenter in (None, fake_segmenter()):
        noted = prepare_files(items, InputSettings(size=32, region="none"), segmenter=segmenter, jobs=jobs, look=True)
        assert [[note.partition(":")[0] for note in outcome.notes] for outcome in noted] == [[], ["inverted"]]
    assert not any(outcome.notes for outcome in prepare_files(items, InputSettings(size=32, region="none")))
