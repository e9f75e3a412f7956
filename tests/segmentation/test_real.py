"""On real radiographs: the pairs are read and split soundly, and the released network finds their lungs."""

import numpy as np
import pytest

import weights
from segmentation.evaluation import score_pairs
from segmentation.pairs import pairs_from_csv, read_mask, split_pairs
from segmentation.segmenter import LungSegmenter

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def pairs(real_data):
    return pairs_from_csv(real_data / "segmentation" / "metadata.csv")


@pytest.fixture(scope="module")
def released():
    try:
        weights.locate("lung-unet")
    except ValueError as error:
        pytest.skip(str(error))
    return LungSegmenter()


def test_no_patient_is_on_two_sides_and_masks_are_lungs_of_plausible_size(pairs):
    sides = split_pairs(pairs)
    by_patient = {}
    for pair, side in zip(pairs, sides, strict=True):
        assert by_patient.setdefault(pair.group, side) == side
    for source in {p.source for p in pairs}:
        shares = [s for p, s in zip(pairs, sides, strict=True) if p.source == source]
        assert shares.count("train") / len(shares) == pytest.approx(0.7, abs=0.02)
    assert all(0.05 < read_mask(pair.masks).mean() < 0.6 for pair in pairs[::100])


def test_the_released_network_finds_held_out_lungs(pairs, released):
    held_out = [p for p, side in zip(pairs, split_pairs(pairs), strict=True) if side == "test"]
    rows = score_pairs(released, held_out[::20])
    assert np.mean([r["dice"] for r in rows]) > 0.93
    assert np.mean([r["trusted"] for r in rows]) > 0.8


def test_the_released_network_is_not_fooled_by_other_pictures(real_data, released):
    results = released.predict(sorted((real_data / "reject" / "lateral").iterdir())[:5])
    results += released.predict(sorted((real_data / "reject" / "non_medical").iterdir()))
    assert np.mean([bool(r.verdict and r.verdict.trusted) for r in results]) < 0.25
