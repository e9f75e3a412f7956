"""Pairs from tables and folders, and their parts: by patient, by source, held out, or given by the table."""

import cv2
import numpy as np
import pytest

from enhancement.errors import InputError, RadiographError
from segmentation.pairs import Pair, pairs_from_csv, pairs_from_folders, read_mask, split_pairs


def test_a_table_may_be_relative_to_itself_its_parent_or_a_root(pair_folder, tmp_path):
    text = (pair_folder / "pairs.csv").read_text()
    pairs = pairs_from_csv(pair_folder / "pairs.csv")
    assert len(pairs) == 12 and pairs[0].group == "g0" and pairs[11].convention == "lung_incl_retrocardiac"
    assert all(p.image.is_file() and p.masks[0].is_file() for p in pairs)
    (pair_folder / "tables").mkdir(exist_ok=True)
    (pair_folder / "tables" / "pairs.csv").write_text(text)
    assert len(pairs_from_csv(pair_folder / "tables" / "pairs.csv")) == 12
    (tmp_path / "pairs.csv").write_text(text)
    assert len(pairs_from_csv(tmp_path / "pairs.csv", root=pair_folder)) == 12
    with pytest.raises(InputError, match="--root"):
        pairs_from_csv(tmp_path / "pairs.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,1\n", "one named mask"),
        ("image,mask\n", "no rows"),
        ("", "columns"),
        ("image,mask\nimages/chest00.png,\n", "line 2"),
        ("image,mask,convention\nimages/chest00.png,masks/chest00.png,ribs\n", "ribs"),
        ("image,mask,split\nimages/chest00.png,masks/chest00.png,dev\n", "dev"),
    ],
)
def test_a_bad_table_is_refused_with_its_reason(pair_folder, tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        pairs_from_csv(tmp_path / "t.csv", root=pair_folder)
    with pytest.raises(InputError, match="cannot be read"):
        pairs_from_csv(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_text("image,mask\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"t\.csv: cannot be read as CSV .*save it as UTF-8"):
        pairs_from_csv(tmp_path / "t.csv")


def test_folders_are_paired_by_name_and_left_and_right_masks_merged_whatever_a_table_calls_them(pair_folder, tmp_path):
    whole = pairs_from_folders(pair_folder / "images", [pair_folder / "masks"])
    halves = pairs_from_folders(pair_folder / "images", [pair_folder / "left", pair_folder / "right"])
    assert len(whole) == len(halves) == 12
    table = tmp_path / "t.csv"
    table.write_text("Filename,left_mask,right_mask,subject\nimages/chest03.png,left/chest03.png,right/chest03.png,a\n")
    (pair,) = pairs_from_csv(table, root=pair_folder)
    assert pair.group == "a"
    for merged in (halves[3], pair):
        np.testing.assert_array_equal(read_mask(whole[3].masks), read_mask(merged.masks))
    cv2.imwrite(str(tmp_path / "other.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="same name"):
        pairs_from_folders(pair_folder / "images", [tmp_path])


def test_a_folder_of_pairs_that_cannot_be_read_is_an_error(pair_folder, shut):
    shut(pair_folder / "masks")
    (pair_folder / "images" / "more").mkdir()
    with pytest.raises(InputError, match=r"masks: cannot be read \(Permission denied\)"):
        pairs_from_folders(pair_folder / "images", [pair_folder / "masks"])
    shut(pair_folder / "images" / "more")
    with pytest.raises(InputError, match="more: this folder cannot be read"):
        pairs_from_folders(pair_folder / "images", [pair_folder / "left"])


def test_masks_hold_0_and_1_or_0_and_255_and_damaged_missing_and_mismatched_ones_are_refused(tmp_path):
    for white in (1, 255):
        cv2.imwrite(str(tmp_path / "m.png"), np.eye(8, dtype=np.uint8) * white)
        np.testing.assert_array_equal(read_mask([tmp_path / "m.png"]), np.eye(8, dtype=bool))
    corner = np.zeros((64, 64), np.uint8)
    corner[8:56, 4:24], corner[8:56, 40:60] = 1, 2
    for right, left in ((1, 2), (127, 255), (255, 127), ((255, 0, 0), (0, 0, 255))):
        picture = np.zeros((64, 64, *np.shape(right)), np.uint8)
        picture[corner == 1], picture[corner == 2] = right, left
        cv2.imwrite(str(tmp_path / "m.png"), picture)
        np.testing.assert_array_equal(read_mask([tmp_path / "m.png"]), corner > 0)
    soft = cv2.blur((corner > 0).astype(np.uint8) * 255, (3, 3))
    cv2.imwrite(str(tmp_path / "m.png"), soft)
    np.testing.assert_array_equal(read_mask([tmp_path / "m.png"]), soft > 127)
    corner[:4] = 3
    cv2.imwrite(str(tmp_path / "m.png"), corner)
    with pytest.raises(RadiographError, match="holds 3 labels; lungs alone"):
        read_mask([tmp_path / "m.png"])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    for name in ("empty.png", "text.png", "none.png"):
        with pytest.raises(RadiographError, match=name):
            read_mask([tmp_path / name])
    for side in (4, 5):
        cv2.imwrite(str(tmp_path / f"{side}.png"), np.zeros((side, 4), np.uint8))
    with pytest.raises(RadiographError, match="other half"):
        read_mask([tmp_path / "4.png", tmp_path / "5.png"])


EAST, WEST = "east", "west"
TRAIN, VALIDATION, TEST = "train", "validation", "test"


def many(patients=40, each=2, sources=("east", "west")):
    return [Pair(f"{s}{p}_{i}", (), s, group=f"{s}{p}") for s in sources for p in range(patients) for i in range(each)]


def given(*rows):
    return [Pair(f"{i}", (), source, group=group, split=split) for i, (source, group, split) in enumerate(rows)]


def test_no_patient_is_on_two_sides_and_every_source_on_all():
    pairs = many()
    sides = split_pairs(pairs, seed=3)
    assert sides == split_pairs(pairs[::-1], seed=3)[::-1] != split_pairs(pairs, seed=2)  # the seed, not the order
    by_group = {}
    for pair, side in zip(pairs, sides, strict=True):
        assert by_group.setdefault(pair.group, side) == side
    for source in ("east", "west"):
        shares = [s for p, s in zip(pairs, sides, strict=True) if p.source == source]
        for side, share in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
            assert shares.count(side) / len(shares) == pytest.approx(share, abs=0.03)


def test_sources_can_be_kept_whole_or_held_out():
    pairs = many(10, 1, "abcd")
    whole, held = (split_pairs(pairs, **options) for options in ({"by": "source"}, {"holdout": ["c"]}))
    assert all(len({s for p, s in zip(pairs, whole, strict=True) if p.source == name}) == 1 for name in "abcd")
    assert {s for p, s in zip(pairs, held, strict=True) if p.source == "c"} == {"test"}


def test_a_split_in_the_table_is_kept_but_for_held_out_sources_and_their_patients():
    """They are tested whole, whatever the table says, and need no split of their own."""
    rows = [(EAST, "a", TRAIN), (WEST, "b", TRAIN), (EAST, "c", VALIDATION), (WEST, "", "")]
    assert split_pairs(given(*rows), holdout=[WEST]) == [TRAIN, TEST, VALIDATION, TEST]
    rows = [(EAST, "a", TRAIN), (WEST, "a", TRAIN), (EAST, "b", TRAIN), (EAST, "c", VALIDATION)]
    assert split_pairs(given(*rows), holdout=[WEST]) == [TEST, TEST, TRAIN, VALIDATION]
    assert split_pairs(given((EAST, "a", TRAIN), (EAST, "b", TEST))) == [TRAIN, TEST]


SHORT = [(WEST, "a", TRAIN), (EAST, "b", VALIDATION), (WEST, "c", VALIDATION), (EAST, "d", TEST)]
UNCHOSEN = [(WEST, "a", VALIDATION), (EAST, "b", TRAIN), (WEST, "c", TRAIN), (EAST, "d", TEST)]


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        (many(1, 4), {}, "nothing for"),
        (many(), {"by": "source"}, "nothing for"),
        (many(), {"fractions": (0.5, 0.2, 0.2)}, "sum to 1"),
        (many(), {"holdout": ["north"]}, "holdout: no source 'north'; there are east, west"),
        (many(), {"holdout": ["east", "west"]}, "fewer sources to hold out"),
        (many(), {"by": "image"}, "patient or source"),
        (given((EAST, "a", TRAIN), (WEST, "b", TEST)), {"holdout": ["north"]}, "no source 'north'"),
        (given((EAST, "a", TRAIN), (EAST, "a", TEST)), {}, "'a' is both"),
        (given((EAST, "a", TRAIN), (EAST, "b", ""), (WEST, "c", "")), {}, "split: 2 of 3 pairs have none, the first "),
        (given(*SHORT), {"holdout": [WEST]}, "holdout: all 1 pairs .* to train are of west.* hold out less"),
        (given(*UNCHOSEN), {"holdout": [WEST]}, "holdout: all 1 pairs .* to validation are of west.* hold out less"),
    ],
)
def test_an_impossible_split_is_refused(pairs, options, message):
    with pytest.raises(InputError, match=message):
        split_pairs(pairs, **options)


@pytest.mark.real
def test_no_patient_of_the_real_pairs_is_on_two_sides_and_masks_are_lungs_of_plausible_size(real_data):
    pairs = pairs_from_csv(real_data / "segmentation" / "metadata.csv")
    sides = split_pairs(pairs)
    by_patient = {}
    for pair, side in zip(pairs, sides, strict=True):
        assert by_patient.setdefault(pair.group, side) == side
    for source in {p.source for p in pairs}:
        shares = [s for p, s in zip(pairs, sides, strict=True) if p.source == source]
        assert shares.count("train") / len(shares) == pytest.approx(0.7, abs=0.02)
    assert all(0.05 < read_mask(pair.masks).mean() < 0.6 for pair in pairs[::100])
