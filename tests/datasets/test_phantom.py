"""Phantoms and drawn opacities: deterministic, and nothing but the lesion gives a class away."""

import json
from functools import cache
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli import main
from covidcxnet.datasets import PHANTOM_CLASSES, load, make_phantoms
from covidcxnet.datasets.opacities import KINDS, draw_opacities, make_opacity_pairs
from covidcxnet.datasets.phantom import phantom, plan
from enhancement.errors import InputError

SIZE = 96


@cache
def patient(label, seed):
    return phantom(label, seed, SIZE)


def many(label, n=12):
    return [patient(label, seed) for seed in range(n)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_phantoms(tmp_path_factory.mktemp("phantoms") / "p", 40, seed=1, size=48, progress=False)


def test_one_seed_gives_one_image_of_gray_bytes_with_masks_that_fit():
    first, again = phantom("pneumonia", 5, SIZE), phantom("pneumonia", 5, SIZE)
    assert first.image.shape == first.lungs.shape == first.lesion.shape == (SIZE, SIZE)
    assert first.image.dtype == np.uint8 and first.lungs.dtype == first.lesion.dtype == bool
    assert first.image.std() > 30
    np.testing.assert_array_equal(first.image, again.image)
    assert (phantom("pneumonia", 6, SIZE).image != first.image).mean() > 0.5
    assert (phantom("pneumonia", 5, SIZE, image=1).image != first.image).mean() > 0.5


def test_lungs_are_dark_on_both_sides_of_a_bright_mediastinum():
    for well in many("normal"):
        assert well.image[well.lungs].mean() < well.image[~well.lungs & (well.image > 0)].mean() - 25
        rows = np.flatnonzero(well.lungs.any(axis=1))
        row = well.lungs[(rows[0] + rows[-1]) // 2]
        assert 0.15 < well.lungs.mean() < 0.55
        assert cv2.connectedComponents(well.lungs.astype(np.uint8))[0] == 3, "two lungs and the background"
        assert row.any() and not row[np.flatnonzero(row)[0] : np.flatnonzero(row)[-1]].all()


def test_lesions_brighten_the_lungs_faintly_or_plainly_pneumonia_on_one_side_and_covid19_on_both():
    for label, sides in (("pneumonia", 1), ("covid19", 2)):
        for seed in range(12):
            sick, well = patient(label, seed), patient("normal", seed)
            assert sick.lesion.any() and not (sick.lesion & ~sick.lungs).any() and not well.lesion.any()
            assert (sick.image.astype(int) - well.image)[sick.lesion].mean() > 0.5
        for sick in many(label, 20):
            _, parts = cv2.connectedComponents(sick.lungs.astype(np.uint8))
            assert len(np.unique(parts[sick.lesion])) == sides
    pairs = zip(many("covid19", 20), many("normal", 20), strict=True)
    contrast = [(sick.image.astype(int) - well.image)[sick.lesion].mean() for sick, well in pairs]
    assert np.percentile(contrast, 15) < 16 and np.percentile(contrast, 85) > 26


def test_covid19_lies_lower_and_further_out_than_pneumonia():
    def place(label):
        places = []
        for sick in many(label, 20):
            (rows, cols), (lungs_rows, lungs_cols) = np.nonzero(sick.lesion), np.nonzero(sick.lungs)
            out = np.abs(cols - (lungs_cols.max() + lungs_cols.min()) / 2) / (np.ptp(lungs_cols) / 2)
            places.append((out.mean(), ((rows - lungs_rows.min()) / np.ptp(lungs_rows)).mean()))
        return np.mean(places, axis=0)

    (covid_out, covid_down), (pneumonia_out, _) = place("covid19"), place("pneumonia")
    assert covid_out > pneumonia_out + 0.1 and covid_down > 0.55


def test_nothing_but_the_lesion_tells_the_classes_apart():
    """Same patient, same pose, same exposure, same noise: away from the lesion not one pixel differs."""
    for seed in range(8):
        well = patient("normal", seed)
        for sick in (patient(label, seed) for label in ("pneumonia", "covid19")):
            np.testing.assert_array_equal(well.lungs, sick.lungs)
            near = cv2.dilate(sick.lesion.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0
            far = ~(near | cv2.dilate(well.lungs.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool))
            np.testing.assert_array_equal(well.image[far], sick.image[far])


def test_a_folder_of_phantoms_is_a_dataset(made):
    dataset, table = made, made.table
    assert len(dataset) == 40 and dataset.classes == PHANTOM_CLASSES
    assert table["label"].value_counts().max() - table["label"].value_counts().min() <= 3
    assert table.groupby("patient")["label"].nunique().max() == 1
    assert set(table.groupby("patient").size()) == {1, 2, 3}
    assert (table["source"] == "phantom").all() and (table["view"] == "PA").all()
    for column in ("path", "mask", "lesion"):
        assert all((dataset.root / p).is_file() for p in table[column])
    assert not any(label in path for path in table["path"] for label in PHANTOM_CLASSES)
    mask = cv2.imread(str(dataset.root / table["mask"][0]), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) == {0, 255}
    rows = plan({"seed": 0, "n": 6000, "classes": list(PHANTOM_CLASSES)})
    counts = [np.bincount([image for label, _, image in rows if label == name]) for name in PHANTOM_CLASSES]
    assert np.ptp([c / c.sum() for c in counts], axis=0).max() < 0.03, "images per patient depend on no class"


def test_the_same_parameters_reuse_the_folder_and_a_missing_file_is_made_again_to_the_byte(tmp_path):
    def make():
        return make_phantoms(tmp_path / "p", 6, seed=1, size=48, progress=False)

    first = make()
    image, lost = first.paths[0], first.paths[2]
    stamp, content = image.stat().st_mtime_ns, lost.read_bytes()
    assert make().table.equals(first.table) and image.stat().st_mtime_ns == stamp
    lost.unlink()
    make()
    assert lost.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["p"], "nothing is left lying about"
    dataset = load("phantom", root=tmp_path, classes=("covid19", "normal"), phantom_images=6, phantom_size=48)
    assert dataset.classes == ("normal", "covid19") and dataset.root.parent == tmp_path


def test_a_folder_of_something_else_is_left_alone_and_a_broken_off_one_not_left_behind(made, tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(InputError, match="not empty"):
        make_phantoms(tmp_path, 6, size=48, progress=False)
    with pytest.raises(InputError, match="name another folder"):
        make_phantoms(made.root, 40, seed=2, size=48, progress=False)
    assert json.loads((made.root / "phantom.json").read_text())["seed"] == 1
    monkeypatch.setattr("covidcxnet.datasets.phantom.cv2.imwrite", lambda *_: False)
    with pytest.raises(OSError, match="could not be written"):
        make_phantoms(tmp_path / "p", 4, size=48, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_parameters_that_make_no_sense_are_refused(tmp_path):
    for bad in ({"classes": ("flu",)}, {"classes": ()}, {"n": 1}, {"size": 8}):
        with pytest.raises(InputError, match="phantoms"):
            make_phantoms(tmp_path / "p", **{"n": 6, "size": 48, "progress": False, **bad})
    for label, size in (("flu", 64), ("normal", 16)):
        with pytest.raises(InputError, match="phantom: "):
            phantom(label, 0, size)


@pytest.fixture(scope="module")
def chest():
    return phantom("normal", 3, 128)


def _lungs(image):
    """Lung is what is darker than the median; an image that is nearly black is distrusted."""
    inside = np.zeros(image.shape, bool)
    height, width = image.shape
    inside[height // 5 : 4 * height // 5, width // 5 : 4 * width // 5] = True
    verdict = SimpleNamespace(trusted=bool(image.mean() > 20), reasons=("too dark",))
    return SimpleNamespace(mask=inside & (image < np.median(image[inside])), verdict=verdict)


SEGMENTER = SimpleNamespace(predict=lambda images: [_lungs(image) for image in images])


@pytest.fixture
def folder(lay):
    files = {f"images/n{i}.png": phantom("normal", i, 96).image for i in range(5)}
    files["images/dark.png"] = np.arange(96 * 96, dtype=np.uint32).reshape(96, 96).astype(np.uint8) // 16
    files["images/broken.png"] = b"no image at all"
    files["images/ill.png"] = phantom("covid19", 9, 96).image
    names = list(files)
    table = pd.DataFrame({"path": names, "label": "normal", "patient": [f"p{i}" for i in range(len(names))]})
    table.loc[table["path"] == "images/ill.png", "label"] = "covid19"
    root = lay(files)
    table.to_csv(root / "table.csv", index=False)
    table.assign(split=["train"] * 3 + ["validation", "test"] + ["train"] * 3).to_csv(root / "split.csv", index=False)
    return root


@pytest.fixture(scope="module")
def drawings(chest):
    return [draw_opacities(chest.image, chest.lungs, np.random.default_rng(seed)) for seed in range(40)]


def test_lungs_get_brighter_where_something_was_drawn_and_nothing_changes_away_from_them(chest, drawings):
    away = ~cv2.dilate(chest.lungs.astype("uint8"), np.ones((27, 27))).astype(bool)
    assert {kind for drawn in drawings for kind in drawn.kinds} == set(KINDS)
    for drawn in drawings:
        if drawn.kinds == ("basal",):
            assert np.nonzero(drawn.where & chest.lungs)[0].mean() > np.nonzero(chest.lungs)[0].mean()
        difference = drawn.image.astype(int) - chest.image
        assert difference[drawn.where].min() >= 6
        assert np.count_nonzero(drawn.where & chest.lungs) >= 0.02 * np.count_nonzero(chest.lungs)
        assert difference[chest.lungs].mean() > 0
        # fine detail is filtered and added again: rounding is all that is left of it
        assert np.abs(difference[away]).max() <= 1
    again = draw_opacities(chest.image, chest.lungs, np.random.default_rng(1))
    assert np.array_equal(again.image, drawings[1].image) and not np.array_equal(again.image, drawings[2].image)


def test_what_cannot_be_drawn_on_is_refused():
    black, lungs = np.zeros((40, 40), np.uint8), np.ones((40, 40), bool)
    refused = [(black, ~lungs), (black, np.ones((40, 41), bool)), (black.astype(np.float32), lungs)]
    for image, mask in [*refused, (black + 255, np.eye(40, dtype=bool))]:
        with pytest.raises(InputError, match=r"^opacities: "):
            draw_opacities(image, mask, np.random.default_rng(0))


@pytest.fixture
def normals(folder):
    return load(folder / "table.csv", for_training=False).filter(label="normal")


def test_a_pair_stays_with_its_patient_and_what_cannot_be_used_is_listed(folder, normals, tmp_path):
    table, left = make_opacity_pairs(normals, tmp_path / "o", SEGMENTER, size=64, progress=False)
    assert table["label"].value_counts().to_dict() == {"normal": 5, "opacity": 5}
    assert table.groupby("original")["patient"].nunique().eq(1).all()
    reasons = left.set_index("path")["reason"]
    assert set(reasons.index) == {"images/dark.png", "images/broken.png"}
    assert "too dark" in reasons["images/dark.png"] and "broken.png" in reasons["images/broken.png"]
    read = load(tmp_path / "o" / "pairs.csv")
    assert read.classes == ("normal", "opacity") and read.group is not None
    for original, pair in table.set_index("label").groupby("original"):
        clear, filled = (cv2.imread(str(tmp_path / "o" / pair.loc[c, "path"]), 0) for c in ("normal", "opacity"))
        lesion = cv2.imread(str(tmp_path / "o" / pair.loc["opacity", "lesion"]), 0)
        assert max(clear.shape) == 64 and np.array_equal(lesion > 0, filled.astype(int) - clear >= 6)
        whole = cv2.imread(str(folder / original), 0)
        assert np.array_equal(clear, cv2.resize(whole, clear.shape[::-1], interpolation=cv2.INTER_AREA))


def test_a_name_says_nothing_of_the_label_and_pictures_there_are_kept(normals, tmp_path):
    def make(**options):
        return make_opacity_pairs(normals, tmp_path / "o", SEGMENTER, progress=False, **options)[0]

    first = make()
    times = {p: (tmp_path / "o" / p).stat().st_mtime_ns for p in first["path"]}
    lost = tmp_path / "o" / first["path"].iloc[1]
    before = lost.read_bytes()
    lost.unlink()
    make()
    assert lost.read_bytes() == before
    assert all((tmp_path / "o" / p).stat().st_mtime_ns == t for p, t in times.items() if p != first["path"].iloc[1])
    other = make(seed=1)
    assert not set(other["path"]) & set(first["path"])
    names = pd.concat([first, other]).query("label == 'opacity'")["path"]
    assert set(names.str.removesuffix(".png").str[-1]) == {"a", "b"}


def test_the_command_leaves_the_test_split_out_and_says_what_to_change(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("segmentation.LungSegmenter", lambda weights, **_: SEGMENTER)
    line = ["datasets", "opacities", str(folder / "table.csv"), "--out", str(tmp_path / "o"), "--quiet"]
    for options, reason in ((["--label", "healthy"], "--label: 'healthy'"), (["--split", line[2]], "--split: ")):
        assert main([*line, *options]) == 2
        assert reason in capsys.readouterr().err
    assert main([*line, "--split", str(folder / "split.csv")]) == 0
    table = pd.read_csv(tmp_path / "o" / "pairs.csv")
    split = pd.read_csv(folder / "split.csv").set_index("path")["split"]
    assert set(table["original"]) == {f"images/n{i}.png" for i in range(4)}  # n4 is test, ill.png no normal
    assert (table["split"] == table["original"].map(split)).all()
    assert "left out: 2" in capsys.readouterr().out
