"""The check of every file, the rules that recognise what is no frontal radiograph, and verdicts in preparation."""

import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli import main
from covidcxnet.datasets import Dataset, make_phantoms
from covidcxnet.datasets.check import COLUMNS, PROBLEMS, check
from covidcxnet.datasets.dataset import with_verdicts
from covidcxnet.datasets.named import load_named
from covidcxnet.datasets.phantom import phantom
from covidcxnet.datasets.recognition import OTHER, impression, judge, tint
from covidcxnet.datasets.tables import save_table
from covidcxnet.preparation import prepare
from covidcxnet.settings import InputSettings
from enhancement import read_radiograph
from enhancement.errors import InputError

CHEST = phantom("covid19", 100, 128).image


@pytest.fixture
def damaged(lay):
    colour = np.dstack([CHEST, CHEST // 2, 255 - CHEST])
    tinted = np.dstack([CHEST // 2 + 100, CHEST // 2 + 103, CHEST // 2 + 98])
    files = {
        "good.png": CHEST,
        "cut.png": b"\x89PNG\r\n\x1a\n cut",
        "empty.png": b"",
        "text.jpg": "no image",
        "blank.png": np.full((128, 128), 7, np.uint8),
        "tiny.png": CHEST[:20, :20],
        "negative.png": 255 - CHEST,
        "upside-down.png": np.ascontiguousarray(CHEST[::-1]),
        "noise.png": np.random.default_rng(0).integers(0, 255, (128, 128), dtype=np.uint8),
        "photo.png": colour,
        "tinted.png": tinted,
        "large.png": np.kron(CHEST, np.ones((2, 2), np.uint8)),
        "nobody.png": CHEST,
    }
    root = lay(files)
    names = [*(n for n in files if n != "nobody.png"), "gone.png"]
    table = pd.DataFrame({"path": names, "label": ["normal", *["covid19"] * (len(names) - 1)]})
    table["mask"] = ["good.png", "lost.png", *[None] * (len(names) - 2)]
    return Dataset(table, root)


def test_every_problem_is_found_and_named_by_any_number_of_processes(damaged):
    table = check(damaged, pixels=(128, 128), jobs=1, progress=False)
    assert tuple(table.columns) == COLUMNS
    found = table.set_index("path")["problems"].to_dict()
    assert found.pop("photo.png").startswith("photograph")
    expected = {"good.png": "", "cut.png": "unreadable;mask", "empty.png": "unreadable", "text.jpg": "unreadable"}
    expected |= {"blank.png": "blank", "tiny.png": "small;size", "gone.png": "missing", "negative.png": "inverted"}
    expected |= {"upside-down.png": "turned", "noise.png": OTHER, "tinted.png": "colour", "large.png": "size"}
    assert found == expected | {"nobody.png": "unlisted"}
    verdict = table.set_index("path")["verdict"]
    assert verdict["good.png"] == "use" and verdict["negative.png"] == verdict["nobody.png"] == "look"
    rejected = ("cut.png", "empty.png", "blank.png", "tiny.png", "photo.png", "gone.png")
    assert (verdict[list(rejected)] == "reject").all()
    assert set(";".join(found.values()).split(";")) - {""} <= set(PROBLEMS)
    pd.testing.assert_frame_equal(table, check(damaged, pixels=(128, 128), jobs=2, progress=False))


def test_prepare_honours_verdicts_and_says_why(damaged, tmp_path):
    table = check(damaged, progress=False)
    path = save_table(table, tmp_path / "verdicts.csv")
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows.loc[rows["path"] == "negative.png", "verdict"] = "reject"  # by hand
    rows.to_csv(path, index=False)
    judged = with_verdicts(damaged.filter(path=["good.png", "negative.png", "blank.png", "large.png"]), path)
    settings = InputSettings(size=64, region="none")
    with prepare(judged, settings, tmp_path / "store.h5", jobs=1, progress=False) as store:
        assert list(store.table["path"]) == ["good.png", "large.png"]
        reasons = store.rejected.set_index("path")["reason"]
        assert "grey levels" in reasons["blank.png"] and "negative" in reasons["negative.png"]
    again = Dataset(judged.table.drop(columns="rejected"), judged.root)
    with prepare(again, settings, tmp_path / "store.h5", jobs=1, progress=False) as store:
        assert len(store) == 4, "without the verdicts they are readable images"


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("none.csv", "no such file"),
        ({"path": ["good.png"]}, "no column 'verdict'"),
        ({"path": ["good.png"], "verdict": ["maybe"]}, "'maybe' found, one of use, look, reject"),
        ({"path": ["else.png"], "verdict": ["use"]}, "other images"),
        (None, "rejects all"),
    ],
)
def test_verdicts_that_make_no_sense_are_refused(damaged, tmp_path, table, reason):
    table = {"path": damaged.table["path"], "verdict": "reject"} if table is None else table
    verdicts = tmp_path / table if isinstance(table, str) else pd.DataFrame(table)
    with pytest.raises(InputError, match=reason):
        with_verdicts(damaged, verdicts)


def test_what_a_set_lists_and_an_option_left_out_is_not_unlisted(lay):
    rows = (f"1,Pneumonia/Viral/COVID-19,{view},X-ray,images,{name}.png\n" for view, name in (("PA", "a"), ("L", "b")))
    text = "patientid,finding,view,modality,folder,filename\n" + "".join(rows)
    root = lay({"metadata.csv": text, **{f"images/{n}.png": CHEST for n in "abc"}})
    table = check(load_named("cohen", root), progress=False).set_index("path")
    assert list(table.index) == ["images/a.png", "images/c.png"] and table.at["images/c.png", "problems"] == "unlisted"


def test_the_check_of_a_table_is_about_its_files_only(lay, tmp_path):
    root = lay({"t.csv": "path,label\na.png,flu\n", "a.png": CHEST, "b.png": CHEST})
    assert main(["datasets", "check", str(root / "t.csv"), "--out", str(tmp_path / "v.csv"), "--jobs", "1"]) == 0
    assert list(pd.read_csv(tmp_path / "v.csv")["path"]) == ["a.png"]


def test_a_file_whose_name_is_no_utf8_is_listed_readably(lay, tmp_path):
    root = lay({"flu/a.png": CHEST, "flu/lunge_\udcfc.png": CHEST})
    assert main(["datasets", "check", str(root), "--out", str(tmp_path / "v.csv"), "--jobs", "1"]) == 0
    assert list(pd.read_csv(tmp_path / "v.csv")["path"]) == ["flu/a.png", r"flu/lunge_\udcfc.png"]


@pytest.mark.parametrize("data", ["new", "new/t.csv"])
def test_images_without_labels_are_checked_and_that_is_printed(lay, capsys, data):
    root = lay({"new/a.png": CHEST, "new/b.png": np.zeros_like(CHEST), "new/t.csv": "path,age\na.png,40\nb.png,50\n"})
    assert main(["datasets", "check", str(root / data), "--out", str(root / "v.csv"), "--jobs", "1"]) == 1
    assert list(pd.read_csv(root / "v.csv")["verdict"]) == ["use", "reject"]
    assert "no labels; files alone are checked" in capsys.readouterr().err


def test_phantoms_pass_gray_has_no_tint_and_likeness_does_not_depend_on_contrast_or_padding(lay, tmp_path):
    dataset = make_phantoms(tmp_path / "p", 9, 3, 128, progress=False)
    assert list(check(dataset, progress=False)["verdict"]) == ["use"] * 9, "and their masks are not unlisted"
    red = np.dstack([CHEST, CHEST // 4, CHEST // 4])
    root = lay({"gray.png": CHEST, "rgb.png": np.dstack([CHEST] * 3), "red.png": red})
    assert not any(tint(root / f"{name}.png") for name in ("gray", "rgb", "missing"))
    assert tint(root / "red.png")[0] == "photograph"
    plain = impression(CHEST).likeness
    dim = impression((CHEST // 3 + 20).astype(np.uint8)).likeness
    padded = impression(np.pad(CHEST, ((0, 0), (60, 60)))).likeness
    assert plain > 0.7 and abs(plain - dim) < 0.05 and abs(plain - padded) < 0.1


@pytest.mark.real
def test_real_lateral_views_slices_and_pictures_are_set_aside(real_data):
    tables = [pd.read_csv(real_data / part / "metadata.csv")["path"] for part in ("reject", "classification")]
    caught, wrong = (
        [bool(judge(read_radiograph(real_data / p))) for p in paths] for paths in (tables[0], tables[1][::60])
    )
    assert np.mean(caught) >= 0.9 and np.mean(wrong) <= 0.02
