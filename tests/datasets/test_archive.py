"""DICOM as hospitals have it: what is taken, what is refused and why, and that nobody's name gets out."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from covidcxnet.cli import main
from covidcxnet.datasets import load, make_phantoms
from covidcxnet.datasets.archive import read_archive
from covidcxnet.datasets.phantom import phantom
from enhancement import RadiographError, read_radiograph
from enhancement.dicom import files_of_dicomdir, patient_key, read_case
from enhancement.errors import InputError

KEY = bytes(range(32))
SECRETS = ("ZYX98765", "Featherstonehaugh", "Quintus", "19310412", "ACC55501")
CHEST = phantom("normal", 3, 128).image


def dicom(
    path: Path, pixels: np.ndarray | None = None, syntax=None, kind=DigitalXRayImageStorageForPresentation, **tags
):
    pixels = (CHEST.astype(np.uint16) << 4) if pixels is None else pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    dataset.PatientID, dataset.PatientName = SECRETS[0], f"{SECRETS[1]}^{SECRETS[2]}"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.AccessionNumber = SECRETS[3], "20200315", SECRETS[4]
    dataset.StudyTime, dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "101500", "1", 1, 1
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientSex, dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "F", "DX", "CHEST", "PA"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.astype(np.uint16).tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        if syntax is not None:
            dataset.compress(syntax, generate_instance_uid=False)
        out = io.BytesIO()
        dataset.save_as(out, enforce_file_format=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())
    return dataset


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "pacs"
    dicom(root / "study1" / "IM0001")
    dicom(root / "study1" / "IM0002", ViewPosition="AP", Modality="CR", PatientAge="061Y")
    dicom(root / "study1" / "IM0003", ViewPosition="LL")
    dicom(root / "study2" / "IM0001.dcm", PatientID="OTHER-77", PatientAge="095Y", BodyPartExamined="")
    dicom(root / "study2" / "ct.dcm", Modality="CT", BodyPartExamined="CHEST")
    dicom(root / "study2" / "hand.dcm", BodyPartExamined="HAND")
    dicom(root / "study2" / "many.dcm", NumberOfFrames=3)
    dicom(root / "study2" / "enhanced.dcm", kind=EnhancedCTImageStorage)
    dicom(root / f"{SECRETS[1]}_chest.dcm")
    dicom(
        root / f"copy-of-{SECRETS[0]}.dcm", PatientID="SOMEBODY-ELSE", PatientName="Else^Somebody", AccessionNumber="1"
    )
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


def test_no_written_or_printed_word_tells_who_a_patient_is(archive, tmp_path, capsys):
    from covidcxnet.preparation import prepare
    from covidcxnet.settings import InputSettings

    out = tmp_path / "out"
    labels = tmp_path / "labels.csv"
    labels.write_text(f"Accession Number,label\n{SECRETS[4]},covid19\n")
    arguments = [
        "datasets",
        "dicom",
        str(archive),
        "--out",
        str(out / "t.csv"),
        "--key",
        str(tmp_path / "k"),
        "--quiet",
    ]
    assert main([*arguments, "--labels", str(labels)]) == 0
    dataset = load(out / "t.csv", for_training=False)
    assert set(dataset.table["label"]) == {"covid19"} and all(path.is_file() for path in dataset.paths)
    assert main(["datasets", "check", str(out / "t.csv"), "--out", str(out / "v.csv"), "--quiet"]) == 0
    damaged = dataset.paths[0].read_bytes()
    dataset.paths[0].write_bytes(damaged[: len(damaged) // 2])
    with prepare(dataset, InputSettings(size=64, region="none"), out / "store.h5", jobs=1) as store:
        assert len(store.rejected) == 1
    heard = capsys.readouterr()
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    for secret in SECRETS:
        assert secret.lower().encode() not in written.lower(), f"{secret} was written"
        assert secret.lower() not in (heard.out + heard.err).lower(), f"{secret} was printed"


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
    for place, name in (
        (archive / "labels.csv", "study1/IM0002"),
        (archive.parent / "l.csv", f"{archive.name}/study1/IM0002"),
    ):
        place.write_text(f"path,label\n{name},covid19\n")
        for inputs in (archive, archive / "study1"):
            table, _, _ = read_archive(inputs, KEY, labels=place, progress=False)
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
    stored = CHEST.astype(np.uint16) << 4
    dicom(tmp_path / "plain.dcm")
    overlay = np.uint16(1) if high > 11 else np.uint16(0x8000)  # burnt into a bit that the image does not use
    dicom(tmp_path / "moved.dcm", (stored << (high - 11)) | overlay, HighBit=high)
    np.testing.assert_array_equal(read_radiograph(tmp_path / "moved.dcm"), read_radiograph(tmp_path / "plain.dcm"))


def test_a_preamble_that_is_a_tiff_header_does_not_hide_the_dicom_file(tmp_path):
    dicom(tmp_path / "plain.dcm")
    data = (tmp_path / "plain.dcm").read_bytes()
    (tmp_path / "both.dcm").write_bytes(b"II*\x00\x54\x18\x08\x00" + data[8:])
    np.testing.assert_array_equal(read_radiograph(tmp_path / "both.dcm"), read_radiograph(tmp_path / "plain.dcm"))


def test_an_enhanced_ct_is_refused_by_its_kind(tmp_path):
    dicom(tmp_path / "ct.dcm", kind=EnhancedCTImageStorage)
    with pytest.raises(RadiographError, match="Enhanced CT"):
        read_radiograph(tmp_path / "ct.dcm")


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
