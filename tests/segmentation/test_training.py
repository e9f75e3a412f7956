"""A run keeps settings and split, can be resumed to the same end, and its weights serve the segmenter."""

import csv
import json
from dataclasses import replace

import cv2
import h5py
import numpy as np
import pytest

from enhancement.errors import InputError
from segmentation import training
from segmentation.augmentation import MaskAugmentation
from segmentation.batches import PairBatches
from segmentation.model import CONVENTIONS, SegmenterInput
from segmentation.pairs import pairs_from_csv
from segmentation.segmenter import LungSegmenter
from segmentation.training import TrainingSettings, read_run, start_run, train, trained_conventions, untrained
from weights.format import read_metadata

pytestmark = pytest.mark.usefixtures("eager")
FRACTIONS = (0.5, 0.25, 0.25)
TINY = TrainingSettings(width=2, epochs=2, batch_size=3, input=SegmenterInput(size=32), fractions=FRACTIONS, seed=4)


@pytest.fixture(scope="module")
def pairs(pair_folder):
    return pairs_from_csv(pair_folder / "pairs.csv")


def trained(pairs, settings, folder):
    run = start_run(pairs, settings, folder)
    train(run, progress=False)
    return run


@pytest.fixture(scope="module")
def finished(pairs, tmp_path_factory):
    return trained(pairs, TINY, tmp_path_factory.mktemp("runs") / "whole")


def log(run, name="log.csv"):
    with open(run / name, newline="") as file:
        return list(csv.DictReader(file))


def variables(run):
    with h5py.File(run / "state.h5") as file:
        return [file[f"{kind}/{name}"][()] for kind in ("model", "optimizer") for name in file[kind]]


def test_a_run_folder_holds_all_that_happened_and_the_best_weights_how_they_came_about(finished):
    files = {"best.weights.h5", "state.h5", "log.csv", "split.csv", "settings.json"}
    assert {p.name for p in finished.iterdir()} == files
    rows, split = log(finished), log(finished, "split.csv")
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert {"loss", "val_loss", "val_dice", "val_dice_lung_field", "learning_rate", "seconds"} <= set(rows[0])
    sides = {}
    assert all(sides.setdefault(r["group_id"], r["split"]) == r["split"] for r in split)
    assert set(sides.values()) == {"train", "validation", "test"}
    segmenter = LungSegmenter(finished / "best.weights.h5")
    assert segmenter.conventions == CONVENTIONS and segmenter.input == TINY.input
    summary = segmenter.metadata["training"]
    assert TrainingSettings.from_dict(summary["settings"]) == TINY
    best = max(rows, key=lambda r: (float(r["val_dice"]), int(r["epoch"])))
    assert summary["validation"]["val_dice"] == float(best["val_dice"]) and summary["epoch"] == int(best["epoch"])
    assert sum(sum(part.values()) for part in summary["pairs"].values()) == 12


def test_an_interrupted_run_ends_where_the_whole_one_does(pairs, finished, tmp_path, monkeypatch):
    run = start_run(pairs, TINY, tmp_path / "cut")
    # first within the second epoch, then where its state is to be written
    for name, last in (("_learning_rate", 3), ("_save_state", 1)):
        original, calls = getattr(training, name), []

        def dies(*arguments, original=original, calls=calls, last=last):
            calls.append(1)
            if len(calls) == last:
                raise KeyboardInterrupt
            return original(*arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(training, name, dies)
            train(run, progress=False)
    assert len(log(run)) == 1
    train(run, progress=False)
    for one, two in zip(variables(run), variables(finished), strict=True):
        np.testing.assert_array_equal(one, two)
    assert not [p for p in run.iterdir() if "partial" in p.name]


def test_a_finished_run_is_left_as_it_is_and_its_folder_not_started_again(pairs, finished):
    before = (finished / "state.h5").stat().st_mtime_ns
    assert train(finished, progress=False) == finished / "best.weights.h5"
    with pytest.raises(InputError, match="--resume"):
        start_run(pairs, TINY, finished)
    assert (finished / "state.h5").stat().st_mtime_ns == before


def test_a_size_that_a_stride_of_2_cannot_halve_is_refused_before_there_is_a_run():
    with pytest.raises(InputError, match="size: 48 given, a multiple of 32"):
        replace(TINY, input=SegmenterInput(size=48), stride=2)


def test_a_damaged_state_and_a_folder_without_a_run_are_refused(finished, tmp_path):
    with pytest.raises(InputError, match=r"settings\.json"):
        read_run(tmp_path)
    for name in ("settings.json", "split.csv", "state.h5"):
        (tmp_path / name).write_bytes((finished / name).read_bytes()[: 3000 if name == "state.h5" else None])
    with pytest.raises(InputError, match="cannot be restored"):
        train(tmp_path, progress=False)


def test_targets_are_unknown_where_the_convention_is_another_and_a_mask_of_another_size_is_refused(pairs, tmp_path):
    batches = PairBatches(pairs, SegmenterInput(size=32), CONVENTIONS, 5, progress=False)
    targets = np.concatenate([t for _, t in batches.epoch(0)])
    assert len(batches) == 3 and targets.shape == (12, 32, 32, 2)
    for pair, target in zip(pairs, targets, strict=True):
        k = CONVENTIONS.index(pair.convention)
        assert set(np.unique(target[..., k])) == {0.0, 1.0} and (target[..., 1 - k] == -1).all()
    cv2.imwrite(str(tmp_path / "m.png"), np.ones((9, 9), np.uint8))
    with pytest.raises(InputError, match="9, 9"):
        PairBatches([replace(pairs[0], masks=(tmp_path / "m.png",))], SegmenterInput(), CONVENTIONS, 1, progress=False)


def test_augmented_epochs_differ_and_depend_on_the_seed_alone(pairs):
    def epoch(seed, number, workers):
        batches = PairBatches(pairs, SegmenterInput(size=32), CONVENTIONS, 4, MaskAugmentation(), seed, workers, False)
        return np.concatenate([x for x, _ in batches.epoch(number)])

    first = epoch(0, 1, 1)
    np.testing.assert_array_equal(first, epoch(0, 1, 3))
    assert (first != epoch(0, 2, 1)).any() and (first != epoch(1, 1, 1)).any()


def test_a_run_can_begin_with_the_weights_of_another_but_not_of_another_network(pairs, finished, tmp_path, monkeypatch):
    for init in (str(finished / "best.weights.h5"), "no-such-name"):
        with pytest.raises(InputError, match=r"^init: "):
            start_run(pairs, replace(TINY, width=4, init=init), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    monkeypatch.setattr(training, "_one_epoch", lambda *_, **__: 0.5)
    run = trained(pairs, replace(TINY, epochs=1, init=str(finished / "best.weights.h5")), tmp_path / "on")
    ours, others = (LungSegmenter(folder / "best.weights.h5").model.get_weights() for folder in (run, finished))
    assert all((a == b).all() for a, b in zip(ours, others, strict=True))
    assert read_metadata(run / "best.weights.h5")["training"]["settings"]["init"] == "best.weights.h5"


def test_settings_and_split_come_back_from_json_and_from_the_folder(pairs, given_split, tmp_path):
    settings = TrainingSettings(holdout=("east",), augmentation=MaskAugmentation(flip=0))
    assert TrainingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    settings = TrainingSettings(fractions=FRACTIONS, holdout=("west",), seed=2)
    drawn, read = read_run(start_run(pairs, settings, tmp_path / "run"))
    assert read == settings and len(drawn) == 12 and {p.split for p in drawn} == {"train", "validation", "test"}
    for holdout in ((), ("west",)):
        kept, _ = read_run(start_run(given_split, TrainingSettings(holdout=holdout), tmp_path / str(len(holdout))))
        sides = {p.image.name: "test" if p.source in holdout else p.split for p in given_split}
        assert {p.image.name: p.split for p in kept} == sides


def test_outputs_and_validation_are_of_the_conventions_of_training_pairs(given_split):
    assert trained_conventions(given_split) == CONVENTIONS and untrained(given_split) == []
    held = [replace(p, split="test") if p.source == "west" else p for p in given_split]
    assert trained_conventions(held) == CONVENTIONS[:1]
    (line,) = untrained(held)
    assert line.startswith("5 test pairs (west) have masks of lung_incl_retrocardiac")
    held = [replace(p, split="test") if p.split == "train" and p.source == "west" else p for p in given_split]
    assert {p.source for p in held if p.split == "validation"} == {"east", "west"}
    assert {p.source for p in training.usable_pairs(held)["validation"]} == {"east"}


@pytest.mark.parametrize(
    ("of_east", "of_west", "message"),
    [
        ("train", "validation", "masks of all 5 validation pairs are lung_incl_retrocardiac, .* lung_field"),
        ("train", "test", "no pair in validation"),
        ("validation", "test", "no pair in train"),
    ],
)
def test_nothing_to_train_or_validate_on_is_refused_at_once(given_split, tmp_path, of_east, of_west, message):
    pairs = [replace(p, split=of_east if p.source == "east" else of_west) for p in given_split]
    with pytest.raises(InputError, match=message):
        start_run(pairs, TrainingSettings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": -1.0}, {"precision": "float16"}, {"width": 0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        TrainingSettings(**wrong)
