"""Reading: any common file, PIL image or array to one gray 8-bit radiograph, or a reason why not."""

from __future__ import annotations

import math
import os
import stat
import sys
from pathlib import Path
from typing import Any, TypeGuard

import cv2
import numpy as np
from numpy.typing import NDArray

from enhancement.checks import Gray, as_count
from enhancement.errors import InputError, RadiographError, Refusal
from enhancement.signatures import HEAD, kind_of
from enhancement.silence import silent_decoders
from enhancement.windowing import Window, apply_window, check_window, is_view

MAX_PIXELS = 100_000_000
"""Default limit on a file's pixels; a large digital detector gives some 18 million."""


# Gray JPEG files that were saved as colour come back with channels some levels apart; tints are far above.
_COLOUR = 8
# Values of 0..1 end at 1, and no radiograph in 0..255 is as dark as this; between the two the range is anybody's guess.
_DARKEST = 16
# Bytes of a file, far above any radiograph: an uncompressed one of `MAX_PIXELS` at 16 bits has 200 MB. DICOM gets more,
# as it may bring overlays and private data along.
_MOST_BYTES, _MOST_DICOM_BYTES = 256 << 20, 512 << 20
# A longer DICOM file is first read up to its pixels: what is refused by its header costs no memory.
_HEADER_FIRST = 32 << 20


def read_radiograph(path: Any, *, window: Window = None, max_pixels: int = MAX_PIXELS) -> Gray:
    """Read one radiograph as gray, 8 bits deep, upright.

    PNG, JPEG, WebP, TIFF, BMP and DICOM, told by content and not by name; and the raw ``.IMG`` files of JSRT. Colour
    goes to gray by luma (0.299 R + 0.587 G + 0.114 B; equal channels come back exactly), transparent pixels are blended
    over black, EXIF orientation is applied, colour profiles are not. DICOM pixels pass the modality look-up or rescale,
    then the file's first VOI look-up or else first window; MONOCHROME1 is inverted after that, and padding is black.

    Parameters
    ----------
    path : path-like, PIL image or numpy.ndarray
        The file; or a radiograph that is read already, see `as_gray`.
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
        Naming the file and the reason: missing, empty, truncated, damaged, not an image, more than one frame, a
        side of fewer than 16 pixels, more than ``max_pixels``, an encoding that is not supported, no such window.
    InputError
        If ``window`` or ``max_pixels`` is not one of the values above, or an array or PIL image cannot be used.
    """
    window = check_window(window)
    max_pixels = as_count(max_pixels, "max_pixels")
    if not isinstance(path, str | os.PathLike):
        if is_view(window):
            raise InputError(f"window: {window} requested, and only DICOM files bring windows along; this is an image")
        return np.array(as_gray(path, window=window, max_pixels=max_pixels))
    try:
        kind, data = _read_bytes(Path(path), max_pixels)
    except Refusal as refusal:
        raise RadiographError(path, str(refusal)) from None
    except FileNotFoundError:
        reason = "is a link to a file that does not exist" if os.path.islink(path) else "no such file"
        raise RadiographError(path, reason) from None
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
        return _finished(decode_raster(kind, data, max_pixels), window)
    except Refusal as refusal:
        raise RadiographError(path, str(refusal)) from None
    except BaseException as error:  # decoders meet hostile bytes and raise whatever they like
        # A decoder written in Rust panics with an exception that is no Exception; Ctrl-C and exit pass.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        # The cause goes too: a library's text may quote the header, and with it a name.
        raise RadiographError(path, _reason(kind, error)) from None


def as_gray(image: Any, name: str = "image", window: Window = None, max_pixels: int = MAX_PIXELS) -> Gray:
    """One radiograph that is in memory already as gray, 8 bits deep.

    Parameters
    ----------
    image : PIL image or numpy.ndarray
        Of shape ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]`` with three equal planes, or ``[H, W, 4]`` with an opaque
        alpha besides. ``uint8`` is taken as it is, ``uint16`` windowed as a 16-bit file would be; other integers are
        taken as ``uint8`` if all lie in 0..255, else as ``uint16`` if all lie in 0..65535; floats are in 0..1 (largest
        value at most 1) or in 0..255 (largest value 16 to 255). PIL images are taken as their files would
        be: upright, transparency over black.
    name : str
        What messages call it.
    window : {"robust", "full"} or (float, float), optional
        For ``uint16`` and deep PIL images, as in `read_radiograph`.
    max_pixels : int
        Images of more pixels are refused, as files are.

    Returns
    -------
    numpy.ndarray
        ``uint8 [H, W]``, contiguous; the array given itself where that is one already.

    Raises
    ------
    InputError
        In one line: another type, shape or dtype, a masked array, no pixels or too many, colour, values that are not
        finite or of no clear range.
    """
    if is_picture(image):
        return _of_picture(image, name, window, max_pixels)
    if not isinstance(image, np.ndarray):
        raise InputError(f"{name}: {type(image).__name__} given, a path, a PIL image or a NumPy array expected")
    image = _checked(image, name, image.shape[:2], max_pixels)
    if image.ndim == 3 and image.shape[2] == 4:
        image = _opaque(image, name)
    if image.ndim == 3 and image.shape[2] in (1, 3):
        image = _one_plane(image, name)
    if image.ndim != 2:
        raise InputError(f"{name}: shape {image.shape} given, [H, W], [H, W, 1] or [H, W, 3] expected: one radiograph")
    return _eight_bits(image, name, window)


def as_batch(images: NDArray[Any], name: str = "images") -> list[Gray]:
    """Radiographs of an array ``[N, H, W]`` or ``[N, H, W, 1]``, each as `as_gray` gives it.

    The range of floats and of wide integers is that of the batch.
    """
    images = _checked(images, name, images.shape[1:3], MAX_PIXELS)
    images = images[..., 0] if images.ndim == 4 else images
    if images.dtype.kind == "f":
        return list(_eight_bits(images, name, None))
    return [_eight_bits(plane, name, None) for plane in images]


def is_picture(image: Any) -> TypeGuard[Any]:
    """Whether it is a PIL image; Pillow is not imported to find out."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _checked(image: NDArray[Any], name: str, sides: tuple[int, ...], max_pixels: int) -> NDArray[Any]:
    """The array, wide integers as uint8 or uint16; `sides` are those of one radiograph in it."""
    if isinstance(image, np.ma.MaskedArray):
        raise InputError(f"{name}: a masked array given, whose mask would be lost; fill it first: array.filled(0)")
    if image.dtype.kind not in "uif":
        raise InputError(f"{name}: dtype {image.dtype} given, uint8, uint16 or a float in 0..1 or 0..255 expected")
    if image.size == 0:
        raise InputError(f"{name}: shape {image.shape} given, at least one pixel expected")
    if math.prod(sides) > max_pixels:
        raise InputError(f"{name}: {math.prod(sides):,} pixels, more than the limit of {max_pixels:,} (max_pixels)")
    if image.dtype.kind == "f":
        if not np.isfinite(image).all():
            raise InputError(f"{name}: holds values that are not finite (NaN or infinity)")
    elif image.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        # NumPy makes int64 of much arithmetic: the values say which depth they have.
        low, high = int(image.min()), int(image.max())
        if low < 0 or high > 65535:
            raise InputError(f"{name}: {image.dtype} from {low} to {high} given, 0..255 or 0..65535 expected")
        return image.astype(np.uint8 if high <= 255 else np.uint16)
    return image


def _opaque(image: NDArray[Any], name: str) -> NDArray[Any]:
    """The colours of ``[H, W, 4]`` whose alpha hides nothing."""
    alpha = image[..., 3]
    full = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1 if image.max() <= 1 else 255
    if (alpha != full).any():
        raise InputError(f"{name}: its fourth plane is not opaque alpha ({full} everywhere); a gray image expected")
    return image[..., :3]


def _one_plane(image: NDArray[Any], name: str) -> NDArray[Any]:
    if (image == image[..., :1]).all():
        return image[..., 0]
    spread = float((image.max(axis=2) - image.min(axis=2)).max())
    if image.dtype == np.uint8 and spread <= _COLOUR:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY))
    raise InputError(f"{name}: is in colour, its planes differ by up to {spread:g}; a gray image expected")


def _eight_bits(values: NDArray[Any], name: str, window: Window) -> Gray:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind == "u":
        return apply_window(values.astype(np.uint16, copy=False), window)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255 or 1 < high < _DARKEST:
        raise InputError(f"{name}: floats from {low:g} to {high:g} given, 0..1 or 0..255 expected, or uint8 or uint16")
    # float16 has no room for 255 times a fraction.
    return np.rint(values * np.float64(255 if high <= 1 else 1)).astype(np.uint8)


def _of_picture(image: Any, name: str, window: Window, max_pixels: int) -> Gray:
    from enhancement.raster import check_frames, from_pillow
    from enhancement.streams import check_size

    try:
        check_size(image.width, image.height, max_pixels)
        with silent_decoders():
            check_frames(getattr(image, "n_frames", 1))
            raster = from_pillow(image)
        if image.mode not in _GRAY_MODES:
            _one_plane(np.asarray(image.convert("RGB")), name)
        return _finished(raster, window)
    except InputError:
        raise
    except Exception as error:  # Pillow reads the pixels only now, from a file that may be cut or closed
        # In fixed words: a library's text may quote the header.
        undecoded = "cannot be decoded; its file is truncated, damaged or closed"
        reason = str(error) if isinstance(error, Refusal) else undecoded
        raise InputError(f"{name}: {reason}") from None


def _finished(raster: Any, window: Window) -> Gray:
    """Decoded pixels windowed, blended and turned upright."""
    gray = raster.gray if raster.gray.dtype == np.uint8 else apply_window(raster.gray, window)
    if raster.inverted:
        gray = 255 - gray
    if raster.alpha is not None:
        gray = cv2.multiply(gray, raster.alpha, scale=1 / 255)
    # Pillow hands out read-only pixels; what is returned belongs to the caller.
    return np.require(_upright(gray, raster.orientation), requirements=["C", "W"])


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


def _read_bytes(path: Path, max_pixels: int) -> tuple[str, bytes]:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        os.scandir(path).close()  # one that cannot be read says so
        raise Refusal("is a folder; a file expected")
    if not stat.S_ISREG(mode):  # to open a pipe that nobody writes to would wait for ever
        raise Refusal("is no regular file (a pipe, socket or device)")
    # Without a buffer of its own, whose rest Python would join to the file's bytes and so hold them twice.
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if path.suffix.lower() == ".img" and size == _RAW_BYTES:
            return "JSRT", file.read()
        kind = kind_of(file.read(HEAD))  # what is no image is not read any further, however long
        if kind == "DICOM" and size > _HEADER_FIRST:
            from enhancement.dicom import check_header

            file.seek(0)
            check_header(file, max_pixels)
        most = _MOST_DICOM_BYTES if kind == "DICOM" else _MOST_BYTES
        if size > most:
            raise Refusal(f"{kind} file of {size >> 20:,} MB; at most {most >> 20} MB expected of a radiograph")
        file.seek(0)
        return kind, file.read()


_GRAY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_RAW_BYTES = 2 * 2048 * 2048
