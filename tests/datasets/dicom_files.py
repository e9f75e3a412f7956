"""DICOM files as hospitals have them, for the tests of archives and of privacy."""

import io
import warnings
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def write_dicom(
    path: Path, pixels: np.ndarray, syntax=None, kind=DigitalXRayImageStorageForPresentation, change=None, **tags
) -> FileDataset:
    """Write a frontal chest radiograph of 12 bits with further tags; `change` may add what has no keyword."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20200315", "101500", "1"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.PatientSex, dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "F", "DX", "CHEST", "PA"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.astype(np.uint16).tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        if change is not None:
            change(dataset)
        if syntax is not None:
            dataset.compress(syntax, generate_instance_uid=False)
        out = io.BytesIO()
        dataset.save_as(out, enforce_file_format=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())
    return dataset
