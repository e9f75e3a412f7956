"""Scores equal their definitions, intervals are over patients."""

from dataclasses import replace

import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation.evaluation import dice, hausdorff95, iou, score_pairs, split_by_knowledge, summarize
from segmentation.pairs import pairs_from_csv
from segmentation.segmenter import LungSegmenter


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
