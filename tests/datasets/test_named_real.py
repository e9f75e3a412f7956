"""Real files of the published sets, laid out again as they are published: what loads is what is known of them."""

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


def linked(name: str, root, place: str, rows: pd.DataFrame, **texts: str):
    """The set of files linked under their published names beside its tables, some of them read."""
    (root / place).mkdir(parents=True)
    for original, file in zip(rows["original"], rows["file"], strict=True):
        (root / place / original).symlink_to(file)
    for stem, text in texts.items():
        (root / f"{stem}.{'txt' if stem == 'test_list' else 'csv'}").write_text(text)
    dataset = load_named(name, root)
    assert all(path.is_file() for path in dataset.paths)
    for path in dataset.paths[:: len(dataset) // 5]:
        assert min(read_radiograph(path).shape) > 64
    return dataset


def test_nih_labels_and_patients_are_those_of_its_table(known, tmp_path):
    rows = known[known["source"] == "nih"].reset_index(drop=True)
    patients, held = rows["patient_id"].str.removeprefix("nih_"), rows["original"][::7]
    entries = pd.DataFrame({"Image Index": rows["original"], "Finding Labels": rows["detail"], "Patient ID": patients})
    texts = {"Data_Entry_2017_v2020": entries.to_csv(index=False), "test_list": "\n".join(held)}
    dataset = linked("nih", tmp_path, "images_001/images", rows, **texts)
    table = dataset.table.set_index(dataset.table["path"].str.rpartition("/")[2]).loc[rows["original"]]
    assert len(dataset) == len(rows) == 751
    assert (table["label"][(rows["detail"] == "No Finding").to_numpy()] == "normal").all()
    assert (table["finding_pneumonia"].to_numpy() == rows["detail"].str.contains("Pneumonia").to_numpy()).all()
    assert (table["patient"].to_numpy() == patients.to_numpy()).all()
    assert set(table.index[table["published_split"] == "test"]) == set(held)


def test_the_covid_cxnet_collection_loads_by_its_numbers(known, tmp_path):
    rows = known[known["source"] == "armiro"]
    head = "filename,patient_id,sex,age,view,label,pcr_test,survival,location\n"
    dataset = linked("covidcxnet", tmp_path, "chest_xray_images/covid19", rows, metadata=head)
    assert len(dataset) == len(rows) == 382 and dataset.classes == ("covid19",)
    names, plain = dataset.table["path"].str.rpartition("/")[2], rows["original"].str.rpartition(".")[0]
    assert set(names[dataset.table["abnormality"] == "none"]) == set(rows["original"][plain.str.contains("-")])
    assert set(names[dataset.table["population"] == "child"]) == set(rows["original"][plain.str.contains("p")])


def test_cohens_radiographs_are_taken_and_his_slices_and_lateral_views_left(known, real_data, tmp_path):
    rows = known[known["source"].isin(["cohen", "cohen_v7"])].assign(modality="X-ray")
    others = pd.read_csv(real_data / "reject" / "metadata.csv", dtype=str)
    others = others[others["kind"].isin(["ct", "lateral"])]
    others = others.assign(original=others["path"].str.rpartition("/")[2], file=[real_data / p for p in others["path"]])
    others["modality"] = others["kind"].map({"ct": "CT", "lateral": "X-ray"})
    every = pd.concat([rows, others.assign(view=others["kind"].map({"ct": "Axial", "lateral": "L"}))])
    metadata = every[["view", "modality"]].assign(finding="Pneumonia/Viral/COVID-19", filename=every["original"])
    metadata["patientid"] = every["patient_id"].str.removeprefix("cohen_")
    dataset = linked("cohen", tmp_path, "images", every, metadata=metadata.to_csv(index=False))
    assert len(dataset) == len(rows) == 326 and set(dataset.table["label"]) == {"covid19"}
    assert dataset.table["patient"].nunique() == rows["patient_id"].nunique()
    assert len(load_named("cohen", tmp_path, views="all")) == len(every)


def test_the_radiography_database_and_shenzhen_load_with_their_masks(real_data, tmp_path):
    for place, folder in (("COVID", "covid19"), ("Normal", "normal"), ("Viral Pneumonia", "")):
        (tmp_path / "radiography" / place).mkdir(parents=True)
        if folder:
            images = real_data / "classification" / "radiography" / folder
            (tmp_path / "radiography" / place / "images").symlink_to(images)
    radiography = load_named("radiography", tmp_path / "radiography", blocks="20")
    assert len(radiography) == 4660 and radiography.paths[-1].is_file()
    assert radiography.table["patient"].notna().all()
    top = tmp_path / "shenzhen" / "ChinaSet_AllFiles"
    for folder in ("CXR_png", "mask"):
        (top / folder).mkdir(parents=True)
    for image in sorted((real_data / "segmentation" / "shenzhen" / "images").iterdir())[:6]:
        (top / "CXR_png" / image.name).symlink_to(image)
        (top / "mask" / f"{image.stem}_mask.png").symlink_to(image.parent.parent / "masks" / image.name)
    dataset = load_named("shenzhen", tmp_path / "shenzhen")
    assert len(dataset) == 6 and all(path.is_file() for path in dataset.paths)
    assert all(mask and mask[0].is_file() for mask in dataset.masks)


def test_montgomerys_halves_make_the_mask_that_they_were_parted_from(real_data, tmp_path):
    images = sorted((real_data / "segmentation" / "montgomery" / "images").iterdir())[::12]
    top = tmp_path / "MontgomerySet"
    for folder in ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask"):
        (top / folder).mkdir(parents=True)
    for image in images:
        (top / "CXR_png" / image.name).symlink_to(image)
        both = cv2.imread(str(image.parent.parent / "masks" / image.name), cv2.IMREAD_GRAYSCALE)
        left = np.arange(both.shape[1]) >= both.shape[1] // 2
        cv2.imwrite(str(top / "ManualMask" / "leftMask" / image.name), both * left)
        cv2.imwrite(str(top / "ManualMask" / "rightMask" / image.name), both * ~left)
    dataset = load_named("montgomery", tmp_path)
    assert len(dataset) == len(images) >= 10 and set(dataset.table["label"]) == {"normal", "tuberculosis"}
    for image, mask in zip(dataset.paths, dataset.masks, strict=True):
        whole = cv2.imread(str(real_data / "segmentation" / "montgomery" / "masks" / image.name), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(read_mask(mask), whole > 0)
        assert read_radiograph(image).shape == whole.shape
