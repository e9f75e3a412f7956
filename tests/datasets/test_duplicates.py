"""Copies of images, found."""

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli import main
from covidcxnet.datasets import Dataset, load, read_split, save_split, split
from covidcxnet.datasets.dataset import with_groups
from covidcxnet.datasets.duplicates import find_duplicates
from enhancement.errors import InputError


def _picture(seed: int, size: int = 256) -> np.ndarray:
    """Blobs and edges that are a picture's own; phantoms share too many of theirs."""
    random = np.random.default_rng(seed)
    sum_ = np.zeros((size, size), np.float32)
    for cells, weight in ((6, 3.0), (14, 2.0), (40, 1.0)):
        sum_ += weight * cv2.resize(random.normal(size=(cells, cells)).astype(np.float32), (size, size))
    return cv2.normalize(sum_, None, 20, 255, cv2.NORM_MINMAX).astype(np.uint8)


def _compressed(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 25])[1], cv2.IMREAD_GRAYSCALE)


CHANGES = {
    "cropped": lambda image: image[10:240, 16:250],
    "scaled": lambda image: cv2.resize(image, (300, 180), interpolation=cv2.INTER_AREA),
    "tinted": lambda image: (255 * (image / 255.0) ** 1.6).astype(np.uint8),
    "compressed": _compressed,
    "lettered": lambda image: cv2.putText(image.copy(), "PORTABLE R", (20, 60), 0, 0.6, 255, 2),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Dataset:
    """60 pictures, a changed copy of the first six, an exact copy of the seventh, a blank and a broken file."""
    root = tmp_path_factory.mktemp("planted")
    for i in range(60):
        cv2.imwrite(str(root / f"{i:02d}.png"), _picture(i))
    for i, (name, change) in enumerate(CHANGES.items()):
        cv2.imwrite(str(root / f"{name}.png"), change(_picture(i)))
    (root / "exact.png").write_bytes((root / "06.png").read_bytes())
    cv2.imwrite(str(root / "blank.png"), np.zeros((64, 64), np.uint8))
    (root / "broken.png").write_bytes(b"no picture")
    names = sorted(path.name for path in root.iterdir())
    return Dataset(pd.DataFrame({"path": names, "label": [("normal", "other")[i % 2] for i in range(69)]}), root)


@pytest.fixture(scope="module")
def found(planted):
    return find_duplicates(planted, jobs=1, progress=False)


def test_changed_and_exact_copies_are_found_and_different_pictures_are_not(found):
    pairs = [(row, {row.path_a, row.path_b}) for row in found.pairs.itertuples()]
    assert len(pairs) == 7
    for number, name in enumerate([*CHANGES, "exact"]):
        ((row, paths),) = (pair for pair in pairs if f"{name}.png" in pair[1])
        assert paths == {f"{name}.png", f"{number:02d}.png"}
        assert row.kind == ("exact" if name == "exact" else "near") and row.mirrored == (name == "mirrored")
    reasons = found.unreadable.set_index("path")["reason"]
    assert set(reasons.index) == {"blank.png", "broken.png"} and reasons["blank.png"] == "blank"
    largest = set(found.groups["path"][found.groups["verdict"] == "use"])
    assert len(largest) == 7 and "cropped.png" not in largest


def test_overlap_is_the_share_of_the_smaller_file_that_the_larger_shows(tmp_path):
    """Whatever the crop: one that was enlarged is the larger file and shows less than all of the other."""
    whole = _picture(3, 400)
    part = whole[:, 60:360]
    for name, size in (("small", (300, 400)), ("large", (600, 800))):
        folder = tmp_path / name
        folder.mkdir()
        cv2.imwrite(str(folder / "whole.png"), whole)
        cv2.imwrite(str(folder / "part.png"), cv2.resize(part, size))
        table = pd.DataFrame({"path": ["part.png", "whole.png"], "label": ["normal", "other"]})
        (pair,) = find_duplicates(Dataset(table, folder), jobs=1, progress=False).pairs.itertuples()
        assert pair.path_b == ("part.png" if name == "small" else "whole.png")
        assert pair.overlap == pytest.approx(1.0 if name == "small" else 0.75, abs=0.05)


def test_a_split_keeps_copies_on_one_side_and_a_file_that_parts_them_is_refused(planted, found, tmp_path):
    dataset = with_groups(planted, found.groups)
    people = Dataset(dataset.table.assign(patient=[f"p{i}" for i in range(len(dataset))]), dataset.root)
    for seed, by in ((s, b) for s in range(3) for b in ("image", "patient_where_known")):
        table = split(people, seed=seed, by=by)
        assert (table["split"].groupby(people.table["duplicate_group"]).nunique() == 1).all()
    held = split(dataset, (0.7, 0.3, 0.0), by="image", holdout={"path": "exact.png"})
    assert set(held.loc[held["split"] == "test", "path"]) == {"exact.png", "06.png"}
    table = split(dataset, by="image")
    read_split(save_split(table, tmp_path / "split.csv"), dataset, by="image")
    table.loc[dataset.table.index[dataset.table["duplicate_group"] == "d00001"], "split"] = ["train", "test"]
    with pytest.raises(InputError, match=r"1 group of duplicates is on two sides, the first d00001"):
        read_split(save_split(table, tmp_path / "bad.csv"), dataset, by="image")


def test_the_wrong_table_of_groups_and_a_set_that_cannot_be_read_are_refused(planted, found, tmp_path):
    wrong = {r"no column 'path'.*groups\.csv": found.pairs, "no such file": tmp_path / "none.csv"}
    wrong["about other images"] = found.groups.assign(path="elsewhere/" + found.groups["path"])
    for reason, groups in wrong.items():
        with pytest.raises(InputError, match=reason):
            with_groups(planted, groups)
    with pytest.raises(InputError, match="no file can be read"):
        find_duplicates(planted.filter(path="broken.png"), jobs=1, progress=False)


def test_the_command_writes_pairs_groups_and_a_sheet_that_convert_takes(planted, tmp_path, capsys):
    table = tmp_path / "set.csv"
    planted.table.to_csv(table, index=False)
    out = tmp_path / "copies.csv"
    data = [str(table), "--root", str(planted.root)]
    assert main(["datasets", "duplicates", *data, "--out", str(out), "--quiet", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "1 exact and 6 near pairs, 7 groups" in printed and "not compared: 2" in printed
    assert len(pd.read_csv(out)) == 7 and cv2.imread(str(out.with_suffix(".png"))).shape[0] > 300
    groups, both = tmp_path / "copies.groups.csv", tmp_path / "both.csv"
    assert main(["datasets", "convert", *data, "--duplicates", str(groups), "--out", str(both)]) == 0
    assert load(both, for_training=False).table["duplicate_group"].notna().sum() == 14


def test_a_plain_folder_stands_for_all_images_in_it_whatever_lies_where(tmp_path, capsys):
    for name in ("a.png", "deep/er/b.png", "deep/masks/b.png", ".hidden/c.png"):
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), _picture(7))
    out = tmp_path / "copies.csv"
    arguments = ["datasets", "duplicates", str(tmp_path / "files"), "--out", str(out), "--quiet"]
    assert main([*arguments, "--exclude", "*/masks/*"]) == 0
    assert "2 images; 1 exact and 0 near pairs" in capsys.readouterr().out
    assert set(pd.read_csv(out)[["path_a", "path_b"]].iloc[0]) == {"a.png", "deep/er/b.png"}
    assert main([*arguments, "--overwrite", "--exclude", "*"]) == 2
    assert "3 images, none left after leaving out *" in capsys.readouterr().err
