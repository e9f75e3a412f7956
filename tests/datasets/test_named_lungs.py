"""Published sets with lung masks, each from a miniature of its real folder, quirks included."""

from __future__ import annotations

import numpy as np
import pandas as pd

from covidcxnet.datasets import merge
from covidcxnet.datasets.named import load_named
from segmentation.pairs import read_mask


def half(left: bool) -> np.ndarray:
    mask = np.zeros((8, 8), np.uint8)
    mask[:, : 3 if left else 0] = 255
    if not left:
        mask[:, 5:] = 255
    return mask


def test_shenzhen_reads_sex_age_and_finding_from_text_files(lay):
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
    files |= {
        "mask/mask/CHNCXR_0001_0_mask.png": None,
        f"{place}CXR_png/Thumbs.db": "x",
        f"{place}NLM-ChinaCXRSet-ReadMe.docx": "x",
    }
    dataset = load_named("shenzhen", lay(files))
    table = dataset.table
    assert list(table["label"]) == ["normal"] * 3 + ["tuberculosis"] * 2
    assert list(table["sex"]) == ["M", "F", "M", "F", "F"]
    np.testing.assert_allclose(table["age"], [45, 32, 16 / 12, 28, 64 / 365.25], atol=0.01)
    assert table["published_label"][3] == "bilateral PTB,right secondary"
    assert table["mask"][0] == "mask/mask/CHNCXR_0001_0_mask.png" and table["mask"].isna().sum() == 4
    assert table["patient"].is_unique and list(dataset.findings["tuberculosis"]) == [0, 0, 0, 1, 1]


def test_montgomery_joins_left_and_right_masks(lay):
    top = "NLM-MontgomeryCXRSet/MontgomerySet/"
    files = {}
    for name, text in (
        ("MCUCXR_0001_0", "Patient's Sex: F\nPatient's Age: 027Y\nnormal\n"),
        ("MCUCXR_0104_1", "Patient's Sex: O \nPatient's Age: 005Y\nextensive infiltrate\n\ncavity"),
        ("MCUCXR_0140_1", "Patient's Sex: M\nPatient's Age: 030Y\nTB\n"),
    ):
        files |= {f"{top}CXR_png/{name}.png": None, f"{top}ClinicalReadings/{name}.txt": text}
        files |= {
            f"{top}ManualMask/leftMask/{name}.png": half(True),
            f"{top}ManualMask/rightMask/{name}.png": half(False),
        }
    del files[f"{top}ManualMask/rightMask/MCUCXR_0140_1.png"]
    dataset = load_named("montgomery", lay(files))
    table = dataset.table
    assert list(table["label"]) == ["normal", "tuberculosis", "tuberculosis"] and list(table["age"]) == [27, 5, 30]
    assert table["sex"].isna()[1] and table["published_label"][1] == "extensive infiltrate cavity"
    union = read_mask(dataset.masks[0])
    assert union[:, :3].all() and union[:, 5:].all() and not union[:, 3:5].any()
    assert dataset.masks[2] is None, "one lung alone is no mask"


def test_preparation_takes_the_union_of_both_masks(lay):
    from covidcxnet.preparation import prepare
    from covidcxnet.settings import InputSettings

    top = "MontgomerySet/"
    files = {}
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        files |= {f"{top}CXR_png/{name}.png": np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))}
        wide = {left: np.kron(half(left), np.ones((8, 8), np.uint8)) for left in (True, False)}
        files |= {
            f"{top}ManualMask/leftMask/{name}.png": wide[True],
            f"{top}ManualMask/rightMask/{name}.png": wide[False],
        }
    root = lay(files)
    dataset = load_named("montgomery", root)
    with prepare(dataset, InputSettings(size=64, region="mask"), root / "store.h5", jobs=1, progress=False) as store:
        lungs = store.lungs(0)
        assert lungs[:, 5].all() and lungs[:, 60].all() and not lungs[:, 32].any()
    moved = merge(dataset, load_named("montgomery", lay(files, "other")))
    assert all(path.is_file() for pair in moved.masks for path in pair)


def test_jsrt_raw_files_masks_and_clinical_lines(lay):
    from enhancement import read_radiograph

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


def test_png_copies_of_jsrt_serve_where_there_are_no_raw_files(lay):
    files = {"Nodule154images/JPCLN001.png": None, "NonNodule93images/JPCNN001.png": None, "masks/JPCLN001.png": None}
    dataset = load_named("jsrt", lay(files))
    assert sorted(dataset.table["path"]) == ["Nodule154images/JPCLN001.png", "NonNodule93images/JPCNN001.png"]
