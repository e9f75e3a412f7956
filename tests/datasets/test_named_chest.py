"""Published sets of other diseases or with lung masks, each from a miniature of its real folder, quirks included."""

import json

import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import write_chest
from miniatures import by_path

from covidcxnet.datasets import merge, split
from covidcxnet.datasets.named import load_named
from covidcxnet.preparation import prepare
from covidcxnet.settings import InputSettings
from enhancement import read_radiograph
from enhancement.errors import InputError
from segmentation.pairs import read_mask


def test_kermany_tells_kind_and_patient_from_file_names(lay):
    names = [
        *("train/NORMAL/IM-0115-0001.jpeg", "train/NORMAL/NORMAL2-IM-1440-0001-0002.jpeg"),
        *(f"{part}/PNEUMONIA/person1_bacteria_{n}.jpeg" for part, n in (("train", 1), ("train", 2), ("val", 7))),
        *("test/PNEUMONIA/person1_virus_6.jpeg", "test/NORMAL/NORMAL-1003233-0001.jpeg"),
        "train/PNEUMONIA/VIRUS-1003233-0002.jpeg",
    ]
    inner = "chest_xray/train/NORMAL/IM-0115-0001.jpeg"
    leavings = ("train/.DS_Store", inner, "__MACOSX/train/NORMAL/._IM-0115-0001.jpeg")
    files = {f"chest_xray/{n}": None for n in (*names, *leavings)}
    root = lay(files | {"__MACOSX/chest_xray/train/._x": "", "__MACOSX/chest_xray/test/._y": ""})
    dataset = load_named("kermany", root)
    table = by_path(dataset)
    assert sorted(table.index) == sorted(names), "neither the inner copy nor what macOS left"
    assert dataset.classes == ("normal", "bacterial_pneumonia", "viral_pneumonia")
    assert table.at[names[2], "patient"] == table.at[names[4], "patient"] == "bacteria-person1"
    assert table.at[names[5], "patient"] == "virus-person1" and table.at[names[1], "patient"] == "normal2-im-1440"
    assert table.at[names[6], "patient"] == table.at[names[7], "patient"] == "1003233"
    assert set(table["population"]) == {"child"} and table.at[names[4], "published_split"] == "validation"
    two = load_named("kermany", root, labels="two")
    assert two.classes == ("normal", "pneumonia")
    assert (two.findings["pneumonia"] == (two.table["label"] != "normal")).all()


NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
    "00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143\n"
    "00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143\n"
    "00000002_000.png,No Finding,0,2,80,M,AP,2500,2048,0.171,0.171\n"
    "00000003_000.png,Hernia|Infiltration,0,3,414,F,PA,2582,2991,0.143,0.143\n"
    "00000003_001.png,No Finding,1,3,074Y,F,PA,2582,2991,0.143,0.143\n"
    "00000003_002.png,No Finding,2,3,5,F,PA,2582,2991,0.143,0.143\n"
)


def test_nih_keeps_all_findings_beside_a_single_label_and_the_official_test_list(lay):
    files = {f"images_00{1 + i // 3}/images/{line.split(',')[0]}": None for i, line in enumerate(NIH.splitlines()[1:])}
    lists = {"train_val_list.txt": "00000001_000.png\n00000001_001.png\n", "test_list.txt": "00000003_000.png\n"}
    root = lay({**files, **lists, "Data_Entry_2017_v2020.csv": NIH, "BBox_List_2017.csv": "x"})
    dataset = load_named("nih", root)
    table = by_path(dataset)
    assert table.index[0] == "images_001/images/00000001_000.png" and all(p.is_file() for p in dataset.paths)
    assert list(table["label"]) == ["cardiomegaly", "several", "normal", "several", "normal", "normal"]
    assert dataset.findings.shape == (6, 15) and dataset.findings.isna().sum().sum() == 0
    assert list(dataset.findings.loc[1][["cardiomegaly", "emphysema", "hernia", "normal"]]) == [1, 1, 0, 0]
    assert list(table["patient"]) == ["1", "1", "2", "3", "3", "3"] and list(table["view"])[:3] == ["PA", "PA", "AP"]
    assert np.isnan(table["age"].iloc[3]) and table["age"].iloc[4] == 74, "414 years is a typing error, 074Y is not"
    assert list(table["published_split"].fillna("-")) == ["train", "train", "-", "test", "-", "-"]
    held = split(dataset, (1.0, 0.0, 0.0), holdout={"published_split": "test"})
    assert set(held["split"][3:]) == {"test"}, "further images of a held-out patient go with them"


def test_a_comma_too_many_pushes_no_column_and_the_seven_label_subset_takes_one_normal_a_patient(lay):
    lines = NIH.replace("Gender", "Sex").splitlines()
    for text in ("\n".join(f"{line}," for line in lines), "\n".join([lines[0], *(f"{line}," for line in lines[1:])])):
        root = lay({"Data_Entry_2017.csv": text, "images/00000001_000.png": None})
        dataset = load_named("nih", root)
        assert dataset.table["patient"][2] == "2" and dataset.table["sex"][3] == "F"
    dataset = load_named("nih", root, labels="seven")
    assert " ".join(dataset.findings) == "atelectasis effusion infiltration mass nodule pneumothorax normal"
    assert sorted(dataset.table["label"]) == ["infiltration", "normal", "normal"]
    assert dataset.table.loc[dataset.table["label"] == "normal", "patient"].is_unique


def test_rsna_counts_boxes_reads_headers_and_knows_no_patient_without_the_mapping(lay):
    labels = (
        "patientId,x,y,width,height,Target\na-1,,,,,0\n"
        "b-2,264.0,152.0,213.0,379.0,1\nb-2,562.0,152.0,256.0,453.0,1\nc-3,,,,,0\n"
    )
    info = "patientId,class\na-1,Normal\nb-2,Lung Opacity\nb-2,Lung Opacity\nc-3,No Lung Opacity / Not Normal\n"
    files = {"stage_2_train_labels.csv": labels, "stage_2_detailed_class_info.csv": info}
    files["stage_2_train_images/c-3.dcm"] = b"damaged"
    root = lay(files)
    with pydicom.config.disable_value_validation():
        write_chest(root / "stage_2_train_images" / "a-1.dcm", np.zeros((4, 4)), PatientAge="51")
        odd = {"PatientAge": "148", "PatientSex": "M", "ViewPosition": "AP"}
        write_chest(root / "stage_2_train_images" / "b-2.dcm", np.zeros((4, 4)), **odd)
    dataset = load_named("rsna", root)
    assert list(dataset.table["label"]) == ["normal", "lung_opacity", "not_normal"]
    assert list(dataset.table["boxes"]) == [0, 2, 0] and list(dataset.findings["lung_opacity"]) == [0, 1, 0]
    assert dataset.table["age"][0] == 51 and np.isnan(dataset.table["age"][1]), "148 years is a typing error"
    assert list(dataset.table["view"][:2]) == ["PA", "AP"] and dataset.table["view"].isna()[2]
    assert dataset.group is None, "patientId is an image id"
    assert "age" not in load_named("rsna", root, headers="skip").table
    images = {"a-1": "00000017_001.png", "b-2": "00000017_002.png"}
    mapping = [{"subset_img_id": ours, "img_id": theirs} for ours, theirs in images.items()]
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(mapping))
    known = load_named("rsna", root, headers="skip").table
    assert list(known["patient"].fillna("-")) == ["17", "17", "-"], "as NIH numbers them"
    (root / "stage_2_detailed_class_info.csv").unlink()
    with pytest.raises(InputError, match="detailed_class_info"):
        load_named("rsna", root)


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,"
    "Lung Opacity,Lung Lesion,Edema,"
    "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices\n"
    "{0}/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n"
    "{0}/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,\n"
    "{0}/train/patient00002/study1/view2_lateral.jpg,Female,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,\n"
    "{0}/train/patient00003/study1/view1_frontal.jpg,Unknown,0,Frontal,PA,,,,,,1.0,,,,,,,,1.0\n"
    "{0}/train/patient00004/study1/view1_frontal.jpg,Male,40,Frontal,PA,,,,,,,,-1.0,,,,,,\n"
)


@pytest.mark.parametrize("edition", ["small", "batches"])
def test_chexpert_keeps_uncertain_unknown_or_maps_it_on_request(lay, edition):
    if edition == "small":
        top, csv, place = "CheXpert-v1.0-small", "CheXpert-v1.0-small/{}", "CheXpert-v1.0-small/train/"
    else:
        top, csv = "CheXpert-v1.0", "CheXpert-v1.0 batch 1 (validate & csv)/{}"
        place = "CheXpert-v1.0 batch 2 (train 1)/"
    row = f"{top}/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0{',0' * 12}\n"
    valid = f"{CHEXPERT.splitlines()[0]}\n{row}"
    files = {csv.format("train.csv"): CHEXPERT.format(top), csv.format("valid.csv"): valid}
    files[csv.format("valid/patient64541/study1/view1_frontal.jpg")] = None
    files |= {f"{place}patient0000{i}/study{2 if i == 2 else 1}/view1_frontal.jpg": None for i in (1, 2, 3, 4)}
    root = lay(files)
    dataset = load_named("chexpert", root)
    assert all(path.is_file() for path in dataset.paths)
    assert list(dataset.table["label"]) == ["normal", "several", "edema", "enlarged_cardiomediastinum"]
    assert list(dataset.table["patient"]) == ["patient00001", "patient00002", "patient00003", "patient64541"]
    assert dataset.table["sex"].isna()[2] and np.isnan(dataset.table["age"][2])
    assert dataset.table["published_split"][3] == "validation"
    assert np.isnan(dataset.findings["cardiomegaly"][1]) and np.isnan(dataset.findings["pneumonia"][0])
    ones = load_named("chexpert", root, uncertain="positive", blank="negative", unlabelled="keep")
    assert ones.findings["cardiomegaly"][1] == 1 and ones.findings["pneumonia"][0] == 0
    assert ones.table["label"][3] == "pneumonia" and "unknown" not in ones.classes
    assert load_named("chexpert", root, uncertain="negative").findings["cardiomegaly"][1] == 0
    kept = load_named("chexpert", root, unlabelled="keep", views="all")
    assert len(kept) == 6 and kept.table["label"][4] == "unknown" and kept.table["view"][2] == "lateral"


def half(left: bool) -> np.ndarray:
    columns = np.arange(8) < 3 if left else np.arange(8) >= 5
    return np.tile(columns.astype(np.uint8) * 255, (8, 1))


def halves(top: str, name: str, scale: int = 1) -> dict:
    places = ((f"{top}ManualMask/{side}Mask/{name}.png", side == "left") for side in ("left", "right"))
    return {place: np.kron(half(left), np.ones((scale, scale), np.uint8)) for place, left in places}


def test_shenzhen_reads_sex_age_and_finding_from_text_files(lay, shut, capsys):
    texts = {
        "CHNCXR_0001_0": "male 45yrs\nnormal\n",
        "CHNCXR_0002_0": "femal 32yrs\nnormal",
        "CHNCXR_0115_0": "male 16month\nnormal\n",
        "CHNCXR_0327_1": "Female, 28yrs\r\nbilateral PTB,right\r\nsecondary\r\n",
        "CHNCXR_0400_1": "female 64days\nSTB",
    }
    place = "ChinaSet_AllFiles/ChinaSet_AllFiles/"
    files = {f"{place}CXR_png/{name}.png": None for name in texts}
    files |= {f"{place}ClinicalReadings/{name}.txt": text for name, text in texts.items()}
    others = {f"{place}CXR_png/Thumbs.db": "x", f"{place}NLM-ChinaCXRSet-ReadMe.docx": "x"}
    dataset = load_named("shenzhen", lay({**files, **others, "mask/mask/CHNCXR_0001_0_mask.png": None}))
    table = dataset.table
    assert list(table["label"]) == ["normal"] * 3 + ["tuberculosis"] * 2
    assert list(table["sex"]) == ["M", "F", "M", "F", "F"]
    np.testing.assert_allclose(table["age"], [45, 32, 16 / 12, 28, 64 / 365.25], atol=0.01)
    assert table["published_label"][3] == "bilateral PTB,right secondary"
    assert table["mask"][0] == "mask/mask/CHNCXR_0001_0_mask.png" and table["mask"].isna().sum() == 4
    assert table["patient"].is_unique and list(dataset.findings["tuberculosis"]) == [0, 0, 0, 1, 1]
    shut(dataset.root / "mask" / "mask")
    assert "mask" not in load_named("shenzhen", dataset.root).table
    assert "mask/mask: left out: this folder cannot be read" in capsys.readouterr().err


def test_montgomery_joins_left_and_right_masks_and_preparation_takes_their_union(lay):
    top, files = "NLM-MontgomeryCXRSet/MontgomerySet/", {}
    for name, text in (
        ("MCUCXR_0001_0", "Patient's Sex: F\nPatient's Age: 027Y\nnormal\n"),
        ("MCUCXR_0104_1", "Patient's Sex: O \nPatient's Age: 005Y\nextensive infiltrate\n\ncavity"),
        ("MCUCXR_0140_1", "Patient's Sex: M\nPatient's Age: 030Y\nTB\n"),
    ):
        image = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
        files |= {f"{top}CXR_png/{name}.png": image, f"{top}ClinicalReadings/{name}.txt": text, **halves(top, name, 8)}
    del files[f"{top}ManualMask/rightMask/MCUCXR_0140_1.png"]
    root = lay(files)
    dataset = load_named("montgomery", root)
    table = dataset.table
    assert list(table["label"]) == ["normal", "tuberculosis", "tuberculosis"] and list(table["age"]) == [27, 5, 30]
    assert table["sex"].isna()[1] and table["published_label"][1] == "extensive infiltrate cavity"
    assert dataset.masks[2] is None, "one lung alone is no mask"
    with prepare(dataset, InputSettings(size=64, region="mask"), root / "store.h5", jobs=1, progress=False) as store:
        for union in (read_mask(dataset.masks[0]), store.lungs(0)):
            assert union[:, :22].all() and union[:, 42:].all() and not union[:, 26:38].any()
    moved = merge(dataset, load_named("montgomery", lay(files, "other")))
    assert all(path.is_file() for pair in moved.masks if pair for path in pair)


def test_jsrt_raw_files_or_their_png_copies_masks_and_clinical_lines(lay):
    raw = np.zeros((2048, 2048), ">u2")
    raw[:, :1024] = 4095  # air is white in the file
    files = {
        "All247images/JPCLN001.IMG": raw.tobytes(),
        "All247images/JPCNN001.IMG": raw.tobytes()[:100],
        "CLNDAT_EN.TXT": "JPCLN001.IMG\t5\t15\t53\tmale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer\r\n",
        "CNNDAT_EN.TXT": "JPCNN001.IMG\t67\tfemale\tnon-nodule\r\n",
        "scratch/fold2/masks/left lung/JPCLN001.gif": half(True),
        "scratch/fold2/masks/right lung/JPCLN001.gif": half(False),
        "scratch/fold2/masks/heart/JPCLN001.gif": half(False),
    }
    dataset = load_named("jsrt", lay(files))
    table = dataset.table
    assert list(table["label"]) == ["nodule", "no_nodule"] and list(table["age"]) == [53, 67]
    assert list(table["sex"]) == ["M", "F"] and table["nodule_mm"][0] == 15 and table["fold"][0] == "2"
    assert table["published_label"][0] == "malignant, l.upper lobe, lung cancer" and pd.isna(table["mask"][1])
    assert read_mask(dataset.masks[0])[:, [0, 7]].all()
    image = read_radiograph(dataset.paths[0])
    assert image.shape == (2048, 2048) and image[0, 0] == 0 and image[0, -1] == 255, "inverted: air is dark"
    files = {"Nodule154images/JPCLN001.png": None, "NonNodule93images/JPCNN001.png": None, "masks/JPCLN001.png": None}
    copies = load_named("jsrt", lay(files, "copies"))  # where there are no raw files
    assert sorted(copies.table["path"]) == ["Nodule154images/JPCLN001.png", "NonNodule93images/JPCNN001.png"]
