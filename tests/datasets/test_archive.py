"""DICOM as hospitals have it: what is taken, what is refused and why, and that nobody's name gets out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import write_dicom
from pydicom.uid import EnhancedCTImageStorage, JPEG2000Lossless, JPEGLSLossless, RLELossless

from covidcxnet.datasets import make_phantoms
from covidcxnet.datasets.archive import read_archive
from covidcxnet.datasets.phantom import phantom
from enhancement import RadiographError, read_radiograph
from enhancement.dicom import files_of_dicomdir, patient_key, read_case
from enhancement.errors import InputError

KEY = bytes(range(32))
SECRETS = ("ZYX98765", "Featherstonehaugh", "Quintus", "19310412", "ACC55501")
CHEST = phantom("normal", 3, 128).image.astype(np.uint16) << 4


def dicom(path: Path, pixels: np.ndarray = CHEST, **tags):
    person = {"PatientID": SECRETS[0], "PatientName": f"{SECRETS[1]}^{SECRETS[2]}", "PatientBirthDate": SECRETS[3]}
    return write_dicom(path, pixels, **{**person, "AccessionNumber": SECRETS[4], **tags})


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("hospital") / "pacs"
    dicom(root / "study1" / "IM0001")
    dicom(root / "study1" / "IM0002", ViewPosition="AP", Modality="CR", PatientAge="061Y")
    dicom(root / "study1" / "IM0003", ViewPosition="LL")
    dicom(root / "study2" / "IM0001.dcm", PatientID="OTHER-77", PatientAge="095Y", BodyPartExamined="")
    dicom(root / "study2" / "ct.dcm", Modality="CT", BodyPartExamined="CHEST")
    dicom(root / "study2" / "hand.dcm", BodyPartExamined="HAND")
    dicom(root / "study2" / "many.dcm", NumberOfFrames=3)
    dicom(root / "study2" / "enhanced.dcm", kind=EnhancedCTImageStorage)
    dicom(root / f"{SECRETS[1]}_chest.dcm")
    other = {"PatientID": "SOMEBODY-ELSE", "PatientName": "Else^Somebody", "AccessionNumber": "1"}
    dicom(root / f"copy-of-{SECRETS[0]}.dcm", **other)
    dicom(root / f"{SECRETS[1]}_ct.dcm", Modality="CT", BodyPartExamined=SECRETS[2])
    (root / f"{SECRETS[2]}.dcm").write_bytes(b"no dicom")
    (root / "study2" / "broken.dcm").write_bytes(b"no dicom")
    return root


def test_radiographs_are_chosen_and_the_rest_refused_with_a_reason(archive):
    table, left, root = read_archive(archive, KEY, progress=False)
    assert list(table["path"]) == ["study1/IM0001", "study1/IM0002", "study2/IM0001.dcm"] and root == archive
    assert list(table["view"]) == ["PA", "AP", "PA"] and set(table["label"]) == {"unknown"}
    assert table["patient"][0] == table["patient"][1] != table["patient"][2]
    assert list(table["age"]) == [88, 61, 90], "from the dates, from the age, and nobody is above 90"
    reasons = left.set_index("path")["reason"]
    assert "view LL" in reasons["study1/IM0003"] and "modality CT" in reasons["study2/ct.dcm"]
    assert "body part HAND" in reasons["study2/hand.dcm"] and "3 frames" in reasons["study2/many.dcm"]
    assert "Enhanced CT" in reasons["study2/enhanced.dcm"] and "no DICOM file" in reasons["study2/broken.dcm"]
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


def test_paths_of_labels_may_begin_at_the_folder_given_or_where_the_list_lies(archive):
    """Not only at the deepest folder that all files have in common."""
    for place, name in ((archive, "study1/IM0002"), (archive.parent, f"{archive.name}/study1/IM0002")):
        (place / "labels.csv").write_text(f"path,label\n{name},covid19\n")
        for inputs in (archive, archive / "study1"):
            table, _, _ = read_archive(inputs, KEY, labels=place / "labels.csv", progress=False)
            assert table.set_index("path")["label"].eq("covid19").sum() == 1


@pytest.mark.parametrize("link", ["path", "SOPInstanceUID", "PatientID"])
def test_labels_are_joined_by_what_the_list_has(archive, tmp_path, link):
    header = pydicom.dcmread(archive / "study1" / "IM0002")
    value = {"path": "study1/IM0002", "SOPInstanceUID": header.SOPInstanceUID, "PatientID": SECRETS[0]}[link]
    csv = tmp_path / "labels.csv"
    csv.write_text(f"{link},label\n{value},covid19\n")
    table, _, _ = read_archive(archive, KEY, labels=csv, progress=False)
    assert table["label"][1] == "covid19" and table["label"][2] == "unknown"
    csv.write_text(f"{link},label\nanother,covid19\n")
    with pytest.raises(InputError, match="none of 3 radiographs a label"):
        read_archive(archive, KEY, labels=csv, progress=False)
    csv.write_text(f"{link},label\n{value},covid19\n{value},normal\n")
    with pytest.raises(InputError, match="two different labels") as refused:
        read_archive(archive, KEY, labels=csv, progress=False)
    assert SECRETS[0] not in str(refused.value)
    csv.write_text("number,label\n1,flu\n")
    with pytest.raises(InputError, match="SOPInstanceUID"):
        read_archive(archive, KEY, labels=csv, progress=False)


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


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda s: s.name.split()[0])
def test_lossless_syntaxes_give_the_pixels_of_the_plain_file(tmp_path, syntax):
    from pydicom.pixels import get_encoder

    if not get_encoder(syntax).is_available:
        pytest.skip(f"no plugin for {syntax.name}: pip install 'covidcxnet[dicom]'")
    dicom(tmp_path / "plain.dcm")
    dicom(tmp_path / "packed.dcm", syntax=syntax)
    np.testing.assert_array_equal(read_radiograph(tmp_path / "packed.dcm"), read_radiograph(tmp_path / "plain.dcm"))


@pytest.mark.parametrize("high", [11, 13, 15])
def test_pixels_that_do_not_begin_at_the_lowest_bit_are_shifted(tmp_path, high):
    dicom(tmp_path / "plain.dcm")
    overlay = np.uint16(1) if high > 11 else np.uint16(0x8000)  # burnt into a bit that the image does not use
    dicom(tmp_path / "moved.dcm", (CHEST << (high - 11)) | overlay, HighBit=high)
    np.testing.assert_array_equal(read_radiograph(tmp_path / "moved.dcm"), read_radiograph(tmp_path / "plain.dcm"))


def test_a_preamble_that_is_a_tiff_header_does_not_hide_the_dicom_file(tmp_path):
    dicom(tmp_path / "plain.dcm")
    data = (tmp_path / "plain.dcm").read_bytes()
    (tmp_path / "both.dcm").write_bytes(b"II*\x00\x54\x18\x08\x00" + data[8:])
    np.testing.assert_array_equal(read_radiograph(tmp_path / "both.dcm"), read_radiograph(tmp_path / "plain.dcm"))


@pytest.mark.real
def test_real_dicom_files_are_told_apart(real_data):
    table, left, _ = read_archive(
        real_data / "dicom", KEY, body_parts=["CHEST", "THORAX", ""], modalities=["CR", "DX", "DR"], progress=False
    )
    assert len(table) >= 1 and table["path"].str.startswith("chest").all()
    assert left.set_index("path")["reason"]["ct_slice.dcm"].startswith("modality CT")


def test_png_files_among_dicom_are_left_out(tmp_path):
    make_phantoms(tmp_path / "p", 3, 0, 64, progress=False)
    dicom(tmp_path / "p" / "a.dcm")
    table, left, _ = read_archive(tmp_path / "p", KEY, progress=False)
    assert list(table["path"]) == ["a.dcm"] and len(left) == 9 and isinstance(left, pd.DataFrame)
