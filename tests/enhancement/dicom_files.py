"""DICOM files as hospitals have them; the tests of datasets make theirs here, too."""

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def dicom(pixels: np.ndarray = RAMP, bits=12, syntax=ExplicitVRLittleEndian, change=None, **tags) -> bytes:
    """A radiograph with further tags; `change` may add what has no keyword, ``PixelData`` is an encoded stream."""
    meta, kind = FileMetaDataset(), tags.pop("kind", DigitalXRayImageStorageForPresentation)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = kind, meta.MediaStorageSOPInstanceUID, "DX"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
    if change is not None:
        change(dataset)
    if syntax in (RLELossless, JPEGLSLossless) or (syntax == JPEG2000Lossless and "PixelData" not in tags):
        dataset.compress(syntax)
    elif syntax == DeflatedExplicitVRLittleEndian:
        meta.TransferSyntaxUID = syntax
    elif syntax != ExplicitVRLittleEndian:
        dataset.PixelData = pydicom.encaps.encapsulate([tags.get("PixelData", b"\xff\xd8" + bytes(60))])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def write_chest(path: Path, pixels: np.ndarray, **tags) -> list[str]:
    """Write a frontal chest radiograph of 12 bits; its unique ids of instance, study and series."""
    uids = [generate_uid() for _ in range(3)]
    chest = dict(zip(("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"), uids, strict=True))
    chest |= {"StudyDate": "20200315", "StudyTime": "101500", "StudyID": "1", "SeriesNumber": 1, "InstanceNumber": 1}
    chest |= {"PatientSex": "F", "BodyPartExamined": "CHEST", "ViewPosition": "PA"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom(pixels.astype(np.uint16), **{**chest, **tags}))
    return uids
