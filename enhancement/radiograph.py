"""Reading: any common file to one gray 8-bit radiograph, or a reason why not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from enhancement.checks import Gray, as_count
from enhancement.errors import RadiographError, Refusal
from enhancement.signatures import kind_of
from enhancement.windowing import Window, apply_window, check_window, is_view

MAX_PIXELS = 100_000_000
"""Default limit on a file's pixels; a large digital detector gives some 18 million."""


def read_radiograph(path: str | os.PathLike[str], *, window: Window = None, max_pixels: int = MAX_PIXELS) -> Gray:
    """Read one radiograph as gray, 8 bits deep, upright.

    PNG, JPEG, WebP, TIFF, BMP and DICOM, told by content and not by name; and the raw ``.IMG`` files of JSRT. Colour
    goes to gray by luma (0.299 R + 0.587 G + 0.114 B; equal channels come back exactly), transparent pixels are blended
    over black, EXIF orientation is applied, colour profiles are not. DICOM pixels pass the modality look-up or rescale,
    then the file's first VOI look-up or else first window; MONOCHROME1 is inverted after that, and padding is black.

    Parameters
    ----------
    path : path-like
        The file.
    window : {"robust", "full"}, (float, float), int or str, optional
        The range of pixel values that becomes 0..255, for pixels deeper than 8 bits and for gray DICOM files:
        ``"robust"`` from the 0.5th to the 99.5th percentile, ``"full"`` from the smallest to the largest, two numbers
        as they are (for DICOM in rescaled units). A number from 1 takes that one of the look-up tables and then windows
        that a DICOM file brings along, ``"named:HARDER"`` the one that the file explains so, in any case; files without
        it are refused. None takes the first, and ``"robust"`` where there is none. 8-bit pixels of other files
        are not windowed.
    max_pixels : int
        Files of more pixels (width times height) are refused from their header, before decoding.

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W]``, contiguous and the caller's own.

    Raises
    ------
    RadiographError
        Naming the file and the reason: missing, empty, truncated, damaged, not an image, more than one frame, more
        than ``max_pixels``, an encoding that is not supported, no such window.
    InputError
        If ``window`` or ``max_pixels`` is not one of the values above.
    """
    window = check_window(window)
    max_pixels = as_count(max_pixels, "max_pixels")
    try:
        kind, data = _read_bytes(Path(path))
    except Refusal as refusal:
        raise RadiographError(path, str(refusal)) from None
    except FileNotFoundError:
        raise RadiographError(path, "no such file") from None
    except OSError as error:
        raise RadiographError(path, f"cannot be opened ({error.strerror or type(error).__name__})") from error
    except ValueError:
        raise RadiographError(str(path).replace("\0", "?"), "no such file (a NUL character in its name)") from None
    try:
        if kind == "DICOM":
            from enhancement.dicom import decode_dicom

            return decode_dicom(data, window, max_pixels)
        if is_view(window):
            raise Refusal(f"window: {window} requested, and only DICOM files bring windows along; this is {kind}")
        from enhancement.raster import decode_raster, decode_raw

        if kind == "JSRT":
            return apply_window(decode_raw(data, max_pixels), window)
        raster = decode_raster(kind, data, max_pixels)
        gray = raster.gray if raster.gray.dtype == np.uint8 else apply_window(raster.gray, window)
        if raster.inverted:
            gray = 255 - gray
        if raster.alpha is not None:
            gray = cv2.multiply(gray, raster.alpha, scale=1 / 255)
        # Pillow hands out read-only pixels; what is returned belongs to the caller.
        return np.require(_upright(gray, raster.orientation), requirements=["C", "W"])
    except Refusal as refusal:
        raise RadiographError(path, str(refusal)) from None
    except BaseException as error:  # decoders meet hostile bytes and raise whatever they like
        # A decoder written in Rust panics with an exception that is no Exception; Ctrl-C and exit pass.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        # The cause goes too: a library's text may quote the header, and with it a name.
        raise RadiographError(path, _reason(kind, error)) from None


def _reason(kind: str, error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"{kind} file that needs more memory than is free"
    if isinstance(error, OSError) and "truncated" in str(error):  # Pillow, OpenCV and zlib have no class for it
        return f"truncated {kind} file"
    return f"damaged or unsupported {kind} file"


def _upright(gray: Gray, orientation: int) -> NDArray[np.uint8]:
    # EXIF orientation: 2 mirrored, 3 upside down, 4 both; 5 to 8 the same on the transposed image.
    if orientation in (5, 6, 7, 8):
        gray = gray.T
    if orientation in (2, 3, 6, 7):
        gray = gray[:, ::-1]
    if orientation in (3, 4, 7, 8):
        gray = gray[::-1]
    return gray


def _read_bytes(path: Path) -> tuple[str, bytes]:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise Refusal("is a folder; a file expected")
    if not stat.S_ISREG(mode):  # to open a pipe that nobody writes to would wait for ever
        raise Refusal("is no regular file (a pipe, socket or device)")
    with open(path, "rb") as file:
        if path.suffix.lower() == ".img" and os.fstat(file.fileno()).st_size == _RAW_BYTES:
            return "JSRT", file.read()
        head = file.read(132)
        kind = kind_of(head)  # what is no image is not read any further, however long
        return kind, head + file.read()


_RAW_BYTES = 2 * 2048 * 2048
