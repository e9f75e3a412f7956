"""DICOM as hospitals have it: what is taken, what is refused and why, and that nobody's name gets out."""

from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from dicom_files import write_chest
from pydicom.uid import EnhancedCTImageStorage

from covidcxnet.datasets.archive import read_archive
from covidcxnet.datasets.phantom import phantom
from enhancement import RadiographError, read_radiograph
from enhancement.dicom import files_of_dicomdir, patient_key, read_case
from enhancement.errors import InputError

KEY = bytes(range(32))
SECRETS = ("ZYX98765", "Featherstonehaugh", "Quintus", "19310412", "ACC55501")
CHEST = phantom("normal", 3, 128).image.astype(np.uint16) << 4


def dicom(path: Path, pixels: np.ndarray = CHEST, **tags) -> Path:
    person = {"PatientID": SECRETS[0], "PatientName": f"{SECRETS[1]}^{SECRETS[2]}", "PatientBirthDate": SECRETS[3]}
    write_chest(path, pixels, **{**person, "AccessionNumber": SECRETS[4], **tags})
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("hospital") / "pacs"
    dicom(root / f"copy-of-{SECRETS[0]}.dcm", PatientID="SOMEBODY-ELSE", PatientName="Else", AccessionNumber="1")
    files = {
        "study1/IM0001": {},
        "study1/IM0002": {"ViewPosition": "AP", "Modality": "CR", "PatientAge": "061Y"},
        "study1/IM0003": {"ViewPosition": "LL"},
        "study2/IM0001.dcm": {"PatientID": "OTHER-77", "PatientAge": "095Y", "BodyPartExamined": ""},
        "study2/ct.dcm": {"Modality": "CT"},
        "study2/hand.dcm": {"BodyPartExamined": "HAND"},
        "study2/many.dcm": {"NumberOfFrames": 3},
        "study2/enhanced.dcm": {"kind": EnhancedCTImageStorage},
        f"{SECRETS[1]}_chest.dcm": {},
        f"{SECRETS[1]}_ct.dcm": {"Modality": "CT", "BodyPartExamined": SECRETS[2]},
    }
    for name, tags in files.items():
        dicom(root / name, **tags)
    for name in (f"{SECRETS[2]}.dcm", "study2/broken.dcm"):
        (root / name).write_bytes(b"no dicom")
    cv2.imwrite(str(root / "study2/picture.png"), CHEST)
    return root


def test_radiographs_are_chosen_and_the_rest_refused_with_a_reason(archive):
    table, left, root = read_archive(archive, KEY, progress=False)
    assert list(table["path"]) == ["study1/IM0001", "study1/IM0002", "study2/IM0001.dcm"] and root == archive
    assert list(table["view"]) == ["PA", "AP", "PA"] and set(table["label"]) == {"unknown"}
    assert table["patient"][0] == table["patient"][1] != table["patient"][2]
    assert list(table["age"]) == [88, 61, 90], "from the dates, from the age, and nobody is above 90"
    reasons = left.set_index("path")["reason"]
    expected = {"study1/IM0003": "view LL", "study2/ct.dcm": "modality CT", "study2/hand.dcm": "body part HAND"}
    expected |= dict.fromkeys(("study2/picture.png", "study2/broken.dcm"), "no DICOM file")
    for name, reason in {**expected, "study2/many.dcm": "3 frames", "study2/enhanced.dcm": "Enhanced CT"}.items():
        assert reason in reasons[name]
    assert len(reasons["(not shown)"]) == 4 and reasons["(not shown)"].str.contains("rename").sum() == 3
    lateral, _, _ = read_archive(archive, KEY, views=["LL"], progress=False)
    assert list(lateral["path"]) == ["study1/IM0003"]
    with pytest.raises(InputError, match="none a chest radiograph"):
        read_archive(archive / "study2" / "hand.dcm", KEY, progress=False)
    with pytest.raises(RadiographError, match="Enhanced CT"):
        read_radiograph(archive / "study2" / "enhanced.dcm")


def test_the_hash_depends_on_the_key_and_the_key_is_its_owners(archive, tmp_path):
    one, two = patient_key(tmp_path / "a" / "key"), patient_key(tmp_path / "b" / "key")
    assert one == patient_key(tmp_path / "a" / "key") != two
    assert (tmp_path / "a" / "key").stat().st_mode & 0o077 == 0
    file = archive / "study1" / "IM0001"
    assert read_case(file, one).header.patient != read_case(file, two).header.patient
    assert read_case(file).header.patient == ""
    (tmp_path / "short").write_text("abcd")
    with pytest.raises(InputError, match="16 or more"):
        patient_key(tmp_path / "short")


@pytest.mark.parametrize("link", ["path", "SOPInstanceUID", "PatientID"])
def test_labels_are_joined_by_what_the_list_has(archive, tmp_path, link):
    def labelled(text, inputs=archive, at=tmp_path):
        (at / "labels.csv").write_text(f"{link},label\n{text}")
        return read_archive(inputs, KEY, labels=at / "labels.csv", progress=False)[0].set_index("path")["label"]

    header = pydicom.dcmread(archive / "study1" / "IM0002")
    value = {"path": "study1/IM0002", "SOPInstanceUID": header.SOPInstanceUID, "PatientID": SECRETS[0]}[link]
    assert labelled(f"{value},covid19\n").tolist()[1:] == ["covid19", "unknown"]
    refused = {"none of 3 radiographs a label": "another,covid19\n"}
    refused["two different labels"] = f"{value},covid19\n{value},normal\n"
    for reason, text in refused.items():
        with pytest.raises(InputError, match=reason) as error:
            labelled(text)
        assert SECRETS[0] not in str(error.value)
    if link == "path":  # from the folder given or where the list lies, not only the deepest one that all have in common
        for at, name in ((archive, value), (archive.parent, f"{archive.name}/{value}")):
            for inputs in (archive, archive / "study1"):
                assert (labelled(f"{name},covid19\n", inputs, at) == "covid19").sum() == 1
    link = "number"
    with pytest.raises(InputError, match="SOPInstanceUID"):
        labelled("1,flu\n")


def test_a_dicomdir_stands_for_the_images_that_it_lists(archive, tmp_path):
    from pydicom.fileset import FileSet

    medium = FileSet()
    for name in ("IM0001", "IM0002"):
        medium.add(archive / "study1" / name)
    medium.write(tmp_path / "cd")
    files = files_of_dicomdir(tmp_path / "cd" / "DICOMDIR")
    assert len(files) == 2 and all(path.is_file() for path in files)
    by_index, _, _ = read_archive(tmp_path / "cd" / "DICOMDIR", KEY, progress=False)
    by_folder, _, _ = read_archive(tmp_path / "cd", KEY, progress=False)
    assert len(by_index) == len(by_folder) == 2
    with pytest.raises(RadiographError, match="DICOMDIR"):
        read_radiograph(tmp_path / "cd" / "DICOMDIR")
    with pytest.raises(RadiographError, match="no DICOMDIR"):
        files_of_dicomdir(archive / "study1" / "IM0001")
