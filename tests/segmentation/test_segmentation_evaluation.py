"""Scores equal their definitions, intervals are over patients."""

import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation.evaluation import dice, hausdorff95, iou, score_pairs, summarize
from segmentation.pairs import pairs_from_csv
from segmentation.segmenter import LungSegmenter


def square(left=10):
    mask = np.zeros((100, 80), bool)
    mask[20:60, left : left + 30] = True
    return mask


def test_a_mask_agrees_with_itself():
    assert dice(square(), square()) == iou(square(), square()) == 1.0
    assert hausdorff95(square(), square()) == 0.0


def test_a_shifted_square_has_the_scores_of_its_overlap():
    one, two = square(10), square(20)
    assert dice(one, two) == pytest.approx(20 / 30) and iou(one, two) == pytest.approx(20 / 40)
    assert hausdorff95(one, two) == pytest.approx(10.0)  # 10 of 100 pixels


def test_hausdorff_ignores_the_farthest_twentieth_only():
    spur = square()
    spur[40, 40:43] = True
    assert hausdorff95(square(), spur) < 1
    assert hausdorff95(square(), square() | square(45)) > 10


def test_empty_masks_are_scored():
    empty = np.zeros((100, 80), bool)
    assert dice(empty, empty) == iou(empty, empty) == 1.0 and hausdorff95(empty, empty) == 0.0
    assert dice(square(), empty) == iou(square(), empty) == 0.0 and hausdorff95(square(), empty) == 100.0


def rows(values, groups, source="east"):
    return [
        {"dice": v, "iou": v, "hd95": v, "trusted": True, "group": g, "source": source}
        for v, g in zip(values, groups, strict=True)
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


def test_each_source_stands_beside_all():
    summary = summarize(rows([1, 1], "ab") + rows([0, 0], "cd", "west"))
    assert set(summary) == {"east", "west", "all"}
    assert summary["east"]["dice"] == [1, 1, 1] and summary["all"]["dice"][0] == 0.5


def test_pairs_are_held_against_their_own_convention(pair_folder, chest_weights):
    pairs = pairs_from_csv(pair_folder / "pairs.csv")
    scored = score_pairs(LungSegmenter(chest_weights, batch_size=4), pairs)
    assert [r["image"] for r in scored] == [str(p.image) for p in pairs]
    assert np.mean([r["dice"] for r in scored]) > 0.85
    assert {r["convention"] for r in scored} == {"lung_field", "lung_incl_retrocardiac"}


def test_an_unreadable_radiograph_stops_the_evaluation_by_name(pair_folder, chest_weights, tmp_path):
    from dataclasses import replace

    pairs = pairs_from_csv(pair_folder / "pairs.csv")[:1]
    (tmp_path / "bad.png").write_text("no")
    with pytest.raises(InputError, match=r"bad\.png"):
        score_pairs(LungSegmenter(chest_weights), [replace(pairs[0], image=tmp_path / "bad.png")])
