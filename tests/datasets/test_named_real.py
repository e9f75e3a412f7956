"""Real files of the published sets, laid out again as they are published: what loads is what is known of them."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets.named import load_named
from enhancement import read_radiograph
from segmentation.pairs import read_mask

pytestmark = pytest.mark.real


@pytest.fixture
def known(real_data) -> pd.DataFrame:
    """What is known of the real radiographs, with their absolute paths."""
    table = pd.read_csv(real_data / "classification" / "metadata.csv", dtype=str)
    return table.assign(file=[real_data / path for path in table["path"]])


def _link(folder, rows: pd.DataFrame) -> None:
    folder.mkdir(parents=True)
    for name, file in zip(rows["original"], rows["file"], strict=True):
        (folder / name).symlink_to(file)


def _readable(dataset, most: int = 5) -> None:
    assert all(path.is_file() for path in dataset.paths)
    for path in dataset.paths[:: max(1, len(dataset) // most)]:
        assert min(read_radiograph(path).shape) > 64


def test_nih_labels_and_patients_are_those_of_its_table(known, tmp_path):
    rows = known[known["source"] == "nih"].reset_index(drop=True)
    _link(tmp_path / "images_001" / "images", rows)
    entries = pd.DataFrame(
        {
            "Image Index": rows["original"],
            "Finding Labels": rows["detail"],
            "Follow-up #": 0,
            "Patient ID": rows["patient_id"].str.removeprefix("nih_"),
            "Patient Age": rows["age"],
            "Patient Gender": rows["sex"],
            "View Position": rows["view"],
        }
    )
    entries.to_csv(tmp_path / "Data_Entry_2017_v2020.csv", index=False)
    held = rows["original"][::7]
    (tmp_path / "test_list.txt").write_text("\n".join(held))
    dataset = load_named("nih", tmp_path)
    table = dataset.table.set_index(dataset.table["path"].str.rpartition("/")[2]).loc[rows["original"]]
    assert len(dataset) == len(rows) == 751
    assert (table["label"][(rows["detail"] == "No Finding").to_numpy()] == "normal").all()
    assert (table["finding_pneumonia"].to_numpy() == rows["detail"].str.contains("Pneumonia").to_numpy()).all()
    assert (table["patient"].to_numpy() == rows["patient_id"].str.removeprefix("nih_").to_numpy()).all()
    assert set(table.index[table["published_split"] == "test"]) == set(held)
    _readable(dataset)


def test_the_covid_cxnet_collection_loads_by_its_numbers(known, tmp_path):
    rows = known[known["source"] == "armiro"].reset_index(drop=True)
    _link(tmp_path / "chest_xray_images" / "covid19", rows)
    (tmp_path / "metadata.csv").write_text("filename,patient_id,sex,age,view,label,pcr_test,survival,location\n")
    dataset = load_named("covidcxnet", tmp_path)
    assert len(dataset) == len(rows) == 382 and dataset.classes == ("covid19",)
    plain = rows["original"].str.rpartition(".")[0]
    names = dataset.table["path"].str.rpartition("/")[2]
    assert set(names[dataset.table["abnormality"] == "none"]) == set(rows["original"][plain.str.contains("-")])
    assert set(names[dataset.table["population"] == "child"]) == set(rows["original"][plain.str.contains("p")])
    _readable(dataset)


def test_cohens_radiographs_are_taken_and_his_slices_and_lateral_views_left(known, real_data, tmp_path):
    rows = known[known["source"].isin(["cohen", "cohen_v7"])].reset_index(drop=True)
    others = pd.read_csv(real_data / "reject" / "metadata.csv", dtype=str)
    others = others[others["kind"].isin(["ct", "lateral"])].reset_index(drop=True)
    others = others.assign(original=others["path"].str.rpartition("/")[2], file=[real_data / p for p in others["path"]])
    _link(tmp_path / "images", pd.concat([rows, others]))
    kinds = others["kind"].map({"ct": "CT", "lateral": "X-ray"}), others["kind"].map({"ct": "Axial", "lateral": "L"})
    metadata = pd.DataFrame(
        {
            "patientid": [*rows["patient_id"], *others["patient_id"]],
            "finding": "Pneumonia/Viral/COVID-19",
            "view": [*rows["view"], *kinds[1]],
            "modality": ["X-ray"] * len(rows) + list(kinds[0]),
            "folder": "images",
            "filename": [*rows["original"], *others["original"]],
        }
    )
    metadata["patientid"] = metadata["patientid"].str.removeprefix("cohen_")
    metadata.to_csv(tmp_path / "metadata.csv", index=False)
    dataset = load_named("cohen", tmp_path)
    assert len(dataset) == len(rows) == 326 and set(dataset.table["label"]) == {"covid19"}
    assert dataset.table["patient"].nunique() == rows["patient_id"].nunique()
    assert len(load_named("cohen", tmp_path, views="all")) == len(rows) + len(others)
    _readable(dataset)


def test_montgomerys_halves_make_the_mask_that_they_were_parted_from(real_data, tmp_path):
    images = sorted((real_data / "segmentation" / "montgomery" / "images").iterdir())[::12]
    top = tmp_path / "MontgomerySet"
    for folder in ("CXR_png", "ClinicalReadings", "ManualMask/leftMask", "ManualMask/rightMask"):
        (top / folder).mkdir(parents=True)
    for image in images:
        (top / "CXR_png" / image.name).symlink_to(image)
        (top / "ClinicalReadings" / f"{image.stem}.txt").write_text("Patient's Sex: F\nPatient's Age: 027Y\nnormal\n")
        both = cv2.imread(str(image.parent.parent / "masks" / image.name), cv2.IMREAD_GRAYSCALE)
        middle = both.shape[1] // 2
        for side, half in (("left", np.s_[:, middle:]), ("right", np.s_[:, :middle])):
            one = np.zeros_like(both)
            one[half] = both[half]
            cv2.imwrite(str(top / "ManualMask" / f"{side}Mask" / image.name), one)
    dataset = load_named("montgomery", tmp_path)
    assert len(dataset) == len(images) >= 10 and set(dataset.table["label"]) == {"normal", "tuberculosis"}
    for image, mask in zip(dataset.paths, dataset.masks, strict=True):
        whole = cv2.imread(str(real_data / "segmentation" / "montgomery" / "masks" / image.name), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(read_mask(mask), whole > 0)
        assert read_radiograph(image).shape == whole.shape
