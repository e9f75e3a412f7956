"""Exploration: sums that are exact, damaged files that cost themselves only, warnings, and a page without patients."""

import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli import main
from covidcxnet.datasets import Dataset
from covidcxnet.experiments.explore import Moments, explore, find_warnings, measure
from covidcxnet.experiments.explore_page import differences_within, distribution, means_by_source, save
from enhancement.errors import InputError

pytestmark = pytest.mark.usefixtures("coarse")
COLUMNS = ["finding_effusion", "finding_mass"]
PATIENT = "DOE-JOHN-19450101"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Dataset:
    """Three classes: two in both sources, covid19 in one; one damaged file; one image that the table rejects."""
    root = tmp_path_factory.mktemp("mixed")
    random = np.random.default_rng(0)
    rows = []
    for i in range(66):
        label = ("normal", "pneumonia", "covid19")[i % 3]
        source = "south" if label == "covid19" else ("north", "south")[i // 3 % 2]
        image = random.integers(20, 60 + 60 * (i % 3), (80 if source == "north" else 64, 64)).astype(np.uint8)
        path = f"{PATIENT}_{i}.png"
        cv2.imwrite(str(root / path), image)
        rows.append((path, label, source, f"{PATIENT}-{i // 2}", None))
    (root / rows[0][0]).write_bytes(b"no image")
    rows[1] = (*rows[1][:4], "rejected by hand")
    return Dataset(pd.DataFrame(rows, columns=["path", "label", "source", "patient", "rejected"]), root, name="mi<xed")


@pytest.fixture(scope="module")
def survey(mixed):
    return explore(mixed, size=32, samples=5, progress=False)


def test_sums_are_those_of_all_images_at_once_by_class_and_by_source_and_the_seed_draws_samples(mixed, survey):
    results = [measure(path, 32) for i, path in enumerate(mixed.paths) if mixed.targets[i] == 1]
    images = np.stack([result[0] for result in results if not isinstance(result, str)]).astype(float)
    moments = survey.of_class("covid19")
    assert mixed.classes[1] == "covid19" and moments.images == 22
    np.testing.assert_allclose(moments.mean, images.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(moments.deviation, images.std(axis=0), atol=1e-6)
    by_class = sum((survey.of_class(label) for label in survey.classes), Moments(32))
    by_source = sum((survey.of_source(source) for source in survey.sources), Moments(32))
    assert by_class.images == by_source.images == survey.images == 64
    np.testing.assert_array_equal(by_class.total, by_source.total)
    assert by_class.histogram.sum() == pytest.approx(1, abs=1e-5)
    assert np.isnan(Moments(4).mean).all() and np.isnan(Moments(4).histogram).all()
    # damaged and rejected images are left out and counted
    assert (survey.listed, survey.images, survey.rejected, len(survey.unreadable)) == (66, 64, 1, 1)
    assert survey.counts["class"]["images"].to_dict() == {"normal": 21, "covid19": 22, "pneumonia": 21}
    assert all(0 not in rows and 1 not in rows for rows in survey.samples.values())
    # south has 11 normal and 11 pneumonia, too few beside its 22 of covid19
    assert not differences_within(survey) and means_by_source(survey) is not None
    # samples come in turn from each source
    sources = mixed.table["source"].to_numpy()
    assert sorted(np.unique(sources[survey.samples["normal"]], return_counts=True)[1]) == [2, 3]
    again, other = (explore(mixed, size=32, samples=5, seed=seed, progress=False) for seed in (0, 1))
    assert all((again.samples[c] == survey.samples[c]).all() for c in survey.classes)
    assert any((other.samples[c] != survey.samples[c]).any() for c in survey.classes)


def test_a_large_image_counts_no_more_than_a_small_one_and_sources_beyond_ten_are_put_together(tmp_path):
    for name, side, level in (("small", 64, 10), ("large", 640, 200)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((side, side), level, np.uint8))
    survey = explore(
        Dataset(pd.DataFrame({"path": ["small.png", "large.png"], "label": "a"}), tmp_path), progress=False
    )
    assert survey.of_class("a").histogram[[10, 200]].tolist() == [0.5, 0.5]
    assert survey.of_class("a").mean.mean() == 105
    columns = [(f"{i}.png", "a", f"s{i % 15}") for i in range(30)]
    table = pd.DataFrame(columns, columns=["path", "label", "source"])
    for name in table["path"]:
        (tmp_path / name).hardlink_to(tmp_path / "small.png")
    survey = explore(Dataset(table, tmp_path), size=32, samples=0, progress=False)
    assert len(survey.sources) == 11 and survey.sources[-1] == "other sources"
    assert survey.of_source("other sources").images == 10


def test_a_class_that_lives_in_one_source_a_size_that_goes_with_it_and_sides_without_it_are_warned_of():
    alone = "covid19 comes from one source: 80 of its 80 images are from south"
    parted = ["No source has both normal and covid19", "The source alone predicts 100% of the labels"]
    parted += ["Sources with a single class: north (normal); south (covid19): 170 of 170"]
    for north, south, messages in (([90, 0], [10, 80], [alone]), ([90, 0], [0, 80], parted), ([60, 60], [60, 60], [])):
        counts = pd.DataFrame({"north": north, "south": south}, index=["normal", "covid19"])
        by_class = {"class": counts.sum(axis=1).to_frame("images"), "source": counts}
        warnings = list(find_warnings(by_class, _sizes(50, 50, 512)))
        assert all(any(message in warning for warning in warnings) for message in messages)
        assert messages or not warnings
    counts = pd.DataFrame({"images": [600, 20]}, index=["normal", "covid19"])
    split = pd.DataFrame({"train": [500, 20], "test": [100, 0]}, index=counts.index)
    text = " | ".join(find_warnings({"class": counts, "split": split}, _sizes(600, 20, 299), ("pneumonia",), 3))
    parts = ("3 patients have images on two sides", "pneumonia: no image can be read", "covid19 20", "30 times")
    for part in (*parts, "Sources are unknown"):
        assert part in text
    assert "covid19: 20 of 20 images are 299 x 299 pixels" in text and "split test has no image of covid19" in text


def _sizes(normal: int, covid19: int, side: int) -> pd.DataFrame:
    rows = [("normal", "", 512, 512, normal), ("covid19", "", side, side, covid19)]
    return pd.DataFrame(rows, columns=["label", "source", "width", "height", "images"])


def test_the_page_stands_alone_escapes_and_names_no_patient(survey, blank, tmp_path):
    text = save(survey, tmp_path).read_text()
    assert "mi&lt;xed" in text and "mi<xed" not in text and "not a medical device" in text
    assert not re.search(r"<script|<link|src=\"(?!data:)", text)
    assert "1 image could not be read and left out" in text and "1 image left out" in text
    for file in tmp_path.iterdir():
        named = PATIENT.encode() in file.read_bytes()
        assert named == (file.name == "unreadable.csv"), file.name
    pictures = {file.stem for file in tmp_path.glob("*.png")}
    assert {"distribution", "mean", "difference", "deviation", "grey-levels", "sizes", "samples-covid19"} <= pictures
    assert text.count("data:image/png") == len(pictures)
    assert json.loads((tmp_path / "explore.json").read_text())["images"] == 64


def test_the_legend_of_class_counts_lies_within_the_picture(survey):
    figure = distribution(survey)
    figure.canvas.draw()
    legends = [legend for axes in figure.axes if (legend := axes.get_legend())]
    assert legends and all(legend.get_window_extent().y0 >= 0 for legend in legends)


def test_findings_that_occur_together_are_counted_by_pairs_of_the_images_that_were_read(tmp_path):
    rows = [("a", 1, 1), ("b", 1, 1), ("c", 1, 0), ("d", 0, 1), ("e", 1, -1), ("broken", 1, 1)]
    for name, *_ in rows[:-1]:
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((40, 40), 90, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no image")
    table = pd.DataFrame([(f"{n}.png", "x", *f) for n, *f in rows], columns=["path", "label", *COLUMNS])
    survey = explore(Dataset(table, tmp_path), size=32, samples=0, progress=False)
    assert survey.together.to_numpy().tolist() == [[4, 2], [2, 3]]
    lists = table[["path", "label"]].assign(labels=["Effusion|Mass", "Mass|Effusion", "Effusion", "Mass", "", "Mass"])
    again = explore(Dataset(lists, tmp_path), size=32, samples=0, progress=False)
    assert again.together.loc["effusion"].to_dict() == {"effusion": 3, "mass": 2}
    page = save(survey, tmp_path / "out").read_text()
    assert (tmp_path / "out" / "findings-together.png").is_file()
    assert "effusion and mass" in page and "50%" in page and "67%" in page
    stored = json.loads((tmp_path / "out" / "explore.json").read_text())["findings_together"]
    assert stored == {"effusion": {"effusion": 4, "mass": 2}, "mass": {"effusion": 2, "mass": 3}}


def test_one_class_without_sources_is_explored_and_its_name_is_no_formula(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50), np.uint8))
    alone = Dataset(pd.DataFrame({"path": ["a.png"], "label": "$x$ / y"}), tmp_path)
    page = save(explore(alone, size=32, progress=False), tmp_path / "out")
    assert (tmp_path / "out" / "samples-x-y.png").is_file() and "Difference of means" not in page.read_text()


def test_numbers_out_of_range_and_a_set_without_a_readable_image_are_refused(mixed, tmp_path):
    for name, value in {"size": 8, "samples": -1, "jobs": 0}.items():
        with pytest.raises(InputError, match=name):
            explore(mixed, progress=False, **{name: value})
    with pytest.raises(InputError, match="size"):
        explore(mixed, progress=False, size=64.5)
    table = pd.DataFrame({"path": ["gone.png"], "label": ["normal"]})
    with pytest.raises(InputError, match="none of 1 images can be read"):
        explore(Dataset(table, tmp_path), progress=False)
    with pytest.raises(InputError, match="every image is rejected"):
        explore(Dataset(table.assign(rejected="blurred"), tmp_path), progress=False)


def test_the_command_counts_by_split_and_warns_of_patients_on_two_sides(mixed, blank, tmp_path, capsys):
    table, sides, out = tmp_path / "set.csv", tmp_path / "split.csv", tmp_path / "out"
    mixed.table.drop(columns="rejected").to_csv(table, index=False)
    split = ["train" if i % 2 else "test" for i in range(66)]
    pd.DataFrame({"path": mixed.table["path"], "split": split}).to_csv(sides, index=False)
    arguments = ["explore", "--data", str(table), "--root", str(mixed.root), "--out", str(out), "--size", "32"]
    assert main([*arguments, "--split", str(sides), "--no-progress", "--classes", "normal,covid19"]) == 1
    said = capsys.readouterr()
    assert "43 images read of 44 listed, 1 unreadable" in said.out and "images on two sides" in said.out
    assert said.out.splitlines()[-1] == str(out / "explore.html") and PATIENT not in said.out
    assert "Images by split" in (out / "explore.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "{table}", "--where", "ward=3"], "no column 'ward'"),
        (["--data", "{table}", "--split", "{table}"], "columns path and split expected"),
        ([], "--data"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(mixed, tmp_path, capsys, arguments, said):
    table = tmp_path / "set.csv"
    mixed.table.to_csv(table, index=False)
    given = [text.format(table=table) for text in arguments]
    assert main(["explore", "--out", str(tmp_path / "out"), "--root", str(mixed.root), *given]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error and not (tmp_path / "out").exists()
