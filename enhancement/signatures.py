"""What a file is, by its first bytes: endings are a hint at best."""

from __future__ import annotations

from enhancement.errors import Refusal

HEAD = 132
"""Bytes that `kind_of` and `is_picture` look at."""


def kind_of(head: bytes) -> str:
    """``"PNG"``, ``"JPEG"``, ``"TIFF"``, ``"BMP"``, ``"WebP"`` or ``"DICOM"``; `Refusal` for anything else."""
    if not head:
        raise Refusal("empty file (0 bytes)")
    # before the others: the preamble may hold a second, TIFF, directory of the same pixels
    if head[128:132] == b"DICM":
        return "DICOM"
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    # DICOM from old devices comes without a preamble: then with a first group 0002 or 0008.
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00":
        return "DICOM"
    for signature, name in _OTHERS.items():
        if signature in head[:12]:
            article = "an" if name in ("AVIF", "HDF5", "SVG", "XML") else "a"
            raise Refusal(f"is {article} {name} file; PNG, JPEG, WebP, TIFF, BMP or DICOM expected")
    raise Refusal("is not an image; PNG, JPEG, WebP, TIFF, BMP or DICOM expected")


def is_picture(head: bytes) -> bool:
    """Whether a file of unknown ending is a picture, one that is refused by its format among them.

    Stricter than `kind_of`, as any file may come here: two letters make no BMP, and two bytes no DICOM file.
    """
    if head.startswith(b"BM"):
        return head[6:10] == bytes(4)  # reserved, and 0 in every BMP
    if any(signature in head[:12] for signature, name in _OTHERS.items() if name in _PICTURES):
        return True
    raster = head.startswith(tuple(_SIGNATURES)) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
    return raster or head[128:132] == b"DICM"


_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"BM": "BMP",
}

_OTHERS = {
    b"GIF8": "GIF",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
    b"ftyphe": "HEIF",
    b"ftypmif": "HEIF",
    b"ftypavi": "AVIF",
    b"%PDF": "PDF",
    b"PK\x03\x04": "ZIP",
    b"\x1f\x8b": "gzip",
    b"\x89HDF": "HDF5",
    b"<svg": "SVG",
    b"<?xml": "XML",  # an SVG file too, whose root may come anywhere
}

_PICTURES = ("GIF", "JPEG 2000", "HEIF", "AVIF")
