"""Drawn opacities: what differs between the two of a pair, and what does not."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli import main
from covidcxnet.datasets import load
from covidcxnet.datasets.opacities import KINDS, draw_opacities, make_opacity_pairs
from covidcxnet.datasets.phantom import phantom
from enhancement.errors import InputError


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
    for drawn in drawings:
        difference = drawn.image.astype(int) - chest.image
        assert set(drawn.kinds) <= set(KINDS) and drawn.kinds
        assert difference[drawn.where].min() >= 6
        assert np.count_nonzero(drawn.where & chest.lungs) >= 0.02 * np.count_nonzero(chest.lungs)
        assert difference[chest.lungs].mean() > 0
        # fine detail is filtered and added again: rounding is all that is left of it
        assert np.abs(difference[away]).max() <= 1
    again = draw_opacities(chest.image, chest.lungs, np.random.default_rng(1))
    assert np.array_equal(again.image, drawings[1].image) and not np.array_equal(again.image, drawings[2].image)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_alone_and_a_basal_one_lies_below(chest, drawings, kind):
    alone = [drawn.where & chest.lungs for drawn in drawings if drawn.kinds == (kind,)]
    assert alone
    if kind == "basal":
        rows = [np.nonzero(where)[0].mean() for where in alone]
        assert min(rows) > np.nonzero(chest.lungs)[0].mean()
    if kind == "lobar":
        _, parts = cv2.connectedComponents(chest.lungs.astype(np.uint8))
        assert all(len(np.unique(parts[where])) == 1 for where in alone), "one side only"


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
    monkeypatch.setattr("segmentation.LungSegmenter", lambda weights: SEGMENTER)
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
