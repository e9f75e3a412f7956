"""A run folder keeps settings and split, and what cannot be trained is refused before any work."""

import json
from dataclasses import replace

import pytest

from enhancement.errors import InputError
from segmentation.augmentation import MaskAugmentation
from segmentation.pairs import pairs_from_csv
from segmentation.run_folder import TrainingSettings, read_run, start_run, trained_conventions, untrained, usable_pairs

BOTH = ("lung_field", "lung_incl_retrocardiac")


def sides(pairs):
    return {p.image.name: p.split for p in pairs}


def test_settings_and_split_come_back_from_the_folder(pair_folder, tmp_path):
    settings = TrainingSettings(fractions=(0.5, 0.25, 0.25), holdout=("west",), seed=2)
    pairs, read = read_run(start_run(pairs_from_csv(pair_folder / "pairs.csv"), settings, tmp_path / "run"))
    assert read == settings and len(pairs) == 12 and {p.split for p in pairs} == {"train", "validation", "test"}


def test_a_split_of_the_table_is_kept_but_for_held_out_sources(given_split, tmp_path):
    kept, _ = read_run(start_run(given_split, TrainingSettings(), tmp_path / "kept"))
    assert sides(kept) == sides(given_split)
    held, _ = read_run(start_run(given_split, TrainingSettings(holdout=("west",)), tmp_path / "held"))
    assert {p.split for p in held if p.source == "west"} == {"test"}
    assert all(p.split == sides(given_split)[p.image.name] for p in held if p.source == "east")


def test_outputs_are_the_conventions_of_training_pairs(given_split):
    assert trained_conventions(given_split) == BOTH and untrained(given_split) == []
    held = [replace(p, split="test") if p.source == "west" else p for p in given_split]
    assert trained_conventions(held) == BOTH[:1]
    (line,) = untrained(held)
    assert line.startswith("5 test pairs (west) have masks of lung_incl_retrocardiac")


def test_validation_pairs_of_an_untrained_convention_are_left_out(given_split):
    pairs = [replace(p, split="test") if p.source == "west" and p.split == "train" else p for p in given_split]
    assert {p.source for p in pairs if p.split == "validation"} == {"east", "west"}
    assert {p.source for p in usable_pairs(pairs)["validation"]} == {"east"}


@pytest.mark.parametrize(
    ("of_east", "of_west", "message"),
    [
        ("train", "validation", "masks of all 5 validation pairs are lung_incl_retrocardiac, .* lung_field"),
        ("train", "test", "no pair in validation"),
        ("validation", "test", "no pair in train"),
    ],
)
def test_nothing_to_train_or_validate_on_is_refused_before_the_folder_is_made(
    given_split, tmp_path, of_east, of_west, message
):
    pairs = [replace(p, split=of_east if p.source == "east" else of_west) for p in given_split]
    with pytest.raises(InputError, match=message):
        start_run(pairs, TrainingSettings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    with pytest.raises(InputError, match=r"settings\.json"):
        read_run(tmp_path)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": -1.0}, {"precision": "float16"}, {"width": 0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        TrainingSettings(**wrong)


def test_settings_come_back_from_json():
    settings = TrainingSettings(holdout=("east",), augmentation=MaskAugmentation(flip=0))
    assert TrainingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
