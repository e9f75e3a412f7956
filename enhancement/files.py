"""Files: which ones are radiographs, and how to write one whole or not at all."""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from enhancement.csv_cells import csv_cell
from enhancement.errors import InputError
from enhancement.signatures import HEAD, is_picture

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
"""File name endings, in lower case, that are taken for radiographs unopened when a folder is searched."""

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows knows no quotas
# Bytes of a name on ext4, XFS and APFS; NTFS counts 255 units of UTF-16, which are never more than its bytes in UTF-8.
_LONGEST_NAME = 255
_EXPECTED = f"expected files ending in {', '.join(IMAGE_SUFFIXES)}"

PathLike = str | os.PathLike[str]


@contextmanager
def whole_file(path: PathLike) -> Iterator[Path]:
    """Give a temporary path to write to; it takes the name ``path`` only when the block ends without an error.

    Parent folders are made. Whatever ends the block early, Ctrl-C included, leaves an existing ``path`` as it was.

    Parameters
    ----------
    path : path-like
        The file to write.

    Yields
    ------
    pathlib.Path
        Where to write. Nothing exists there yet.

    Raises
    ------
    InputError
        If ``path`` is a folder, or a parent of it is a file.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target}: is a folder; give the name of a file to write")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{target}: cannot be written, {error.filename} is a file and not a folder") from error
    # The token keeps threads of one process apart; the cut keeps long names within what file systems allow.
    # It ends in the target's name, as some writers look at the ending.
    ending = os.fsencode(target.name)[-180:].decode("utf-8", "ignore")
    partial = target.parent / f".{os.getpid()}-{secrets.token_hex(4)}.partial.{ending}"
    try:
        with naming_full_disk(target):
            yield partial
            os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def naming_full_disk(path: PathLike) -> Iterator[None]:
    """A disk that is full, or may not be filled further, within the block is an `InputError` that names the file."""
    try:
        yield
    except OSError as error:
        # The system's own error of a write names no file.
        if error.errno not in _FULL:
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def write_all(folder: PathLike, files: Mapping[str, bytes | Callable[[Path], object]]) -> None:
    """Write several files; none takes its name before all are whole, and the first is the last to do so.

    A large one may be a function that writes to the path it is given.
    """
    with ExitStack() as stack:
        for name, content in files.items():
            path = stack.enter_context(whole_file(Path(folder, name)))
            content(path) if callable(content) else path.write_bytes(content)


def write_csv(path: PathLike, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; the columns are all keys, in the order in which they first occur."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)


_FILE_SUFFIXES = (".png", ".jpg", ".jpeg", ".svg", ".pdf", ".html", ".csv", ".json", ".h5")


def check_output(path: PathLike, *, overwrite: bool = True, folder: bool = False) -> Path:
    """Refuse a path that cannot be written before hours of work are lost on it; returns it as `Path`.

    Raises `InputError` if it exists and must not, is a folder where a file is meant or the other way round, or lies
    where this process may not write.
    """
    target = Path(path)
    if target.is_dir() and not folder:
        raise InputError(f"{target}: is a folder; give the name of a file to write")
    if target.exists() and not folder and not overwrite:
        raise InputError(f"{target}: exists; give another place or --overwrite")
    # Some commands write one picture and others a folder of them: `--out network.png` for the latter is a mix-up.
    if folder and not target.exists() and target.suffix.lower() in _FILE_SUFFIXES:
        raise InputError(f"{target}: several files are written; give the name of a folder, without {target.suffix}")
    there = target if folder else target.parent
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise InputError(f"{target}: cannot be written, {there} is a file and not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{target}: cannot be written, {there} allows no writing")
    return target


def find_images(inputs: PathLike | Sequence[PathLike], recursive: bool = True) -> list[Path]:
    """Find radiographs by file, folder or glob pattern.

    A file given by its name is taken whatever its ending; a DICOMDIR stands for the images that it lists. Folders and
    patterns give the files that end in one of `IMAGE_SUFFIXES`, and others that are pictures by their content, GIF
    among them, so that reading them tells why they are refused; hidden files are left out. For the same reason folders
    give the folders below them that cannot be read, links that lead nowhere, and files without an ending that cannot be
    opened.

    Parameters
    ----------
    inputs : path-like or sequence of path-like
        Files, folders and glob patterns (``**`` goes down the tree).
    recursive : bool
        Whether folders are searched all the way down.

    Returns
    -------
    list of pathlib.Path
        Sorted by path, each once.

    Raises
    ------
    InputError
        If an input does not exist, cannot be read or holds no radiograph.
    """
    return [path for path, _ in find_image_tree(inputs, recursive)]


def find_image_tree(inputs: PathLike | Sequence[PathLike], recursive: bool = True) -> list[tuple[Path, Path]]:
    """Like `find_images`, with each file's path below the folder, the fixed part of the pattern, or its own folder."""
    names: Sequence[PathLike] = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    if not names:
        raise InputError("no input given; expected files, folders or glob patterns")
    tree: dict[Path, Path] = {}
    for name in names:
        for path, relative in _expand(name, recursive):
            tree.setdefault(path, relative)
    return sorted(tree.items())


def result_names(tree: Sequence[tuple[Path, Path]]) -> list[Path]:
    """For each file of `find_image_tree` the name of a PNG made of it, in the tree in which the files lie."""
    # "1.2.840.10008.5" is the whole name of a DICOM file, not a name and its ending.
    stems = [p.with_suffix("") if p.suffix.lower() in IMAGE_SUFFIXES else p for _, p in tree]
    taken = Counter(stems)
    # a.jpg and a.dcm in one folder keep their full names: a.jpg.png, a.dcm.png.
    bases = [stem if taken[stem] == 1 else path for stem, (_, path) in zip(stems, tree, strict=True)]
    names = [base.with_name(fitting_name(base.name, ".png")) for base in bases]
    clash = next((name for name, count in Counter(names).items() if count > 1), None)
    if clash:
        raise InputError(f"{clash}: several inputs would be written here; give their common folder instead")
    return names


def fitting_name(stem: str, ending: str, room: int = 0) -> str:
    """``stem`` and ``ending`` as a file name; a stem too long for file systems is cut and gets a hash of the whole.

    `room` bytes more are left, for a longer ending that another file of this stem takes.
    """
    name, most = os.fsencode(stem), _LONGEST_NAME - room - len(os.fsencode(ending))
    if len(name) <= most:
        return f"{stem}{ending}"
    mark = f"-{hashlib.sha256(name).hexdigest()[:8]}"
    return f"{name[: most - len(mark)].decode('utf-8', 'ignore')}{mark}{ending}"


def _expand(name: PathLike, recursive: bool) -> list[tuple[Path, Path]]:
    path = Path(name)
    # A name that exists is never a pattern: "chest [1].png" is an ordinary file name.
    if path.is_file() and path.name.upper() == "DICOMDIR":
        from enhancement.dicom import files_of_dicomdir

        return [(file, file.relative_to(path.parent)) for file in files_of_dicomdir(path)]
    if path.is_file():
        return [(path, Path(path.name))]
    if path.is_dir():
        files = [(file, file.relative_to(path)) for file in _search(path, recursive)]
        if not files:
            raise InputError(f"{path}: no radiograph in this folder; {_EXPECTED}")
        return files
    if not glob.has_magic(os.fspath(name)):
        raise InputError(f"{path}: no such file or folder")
    matches = [Path(match) for match in glob.glob(os.fspath(name), recursive=True)]
    base = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))
    files = [(match, match.relative_to(base)) for match in matches if _wanted(match)]
    if not files:
        raise InputError(f"{path}: this pattern matches {len(matches)} names and no radiograph; {_EXPECTED}")
    return files


def _search(folder: Path, recursive: bool) -> Iterator[Path]:
    for here, names in walk(folder, recursive):
        # A folder that cannot be read stands for its files: reading it tells why.
        yield from [here] if names is None else filter(_wanted, (here / name for name in names))


def walk(folder: PathLike, recursive: bool = True) -> Iterator[tuple[Path, list[str] | None]]:
    """Folders from the top down with the names of their files, None where a folder below the first cannot be read.

    Links are followed, no folder comes twice, hidden ones are left out. `InputError` if the first cannot be read.
    """
    visited: set[str] = set()
    refused: list[OSError] = []
    for here, folders, names in os.walk(folder, followlinks=True, onerror=refused.append):
        real = os.path.realpath(here)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        yield Path(here), sorted(names)
    for error in refused:
        if os.fspath(folder) == error.filename:
            raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
        yield Path(error.filename), None


def _wanted(path: Path) -> bool:
    """Whether a search takes a path: a radiograph, or what cannot be opened and may be one."""
    if os.path.exists(path) and not os.path.isfile(path):
        return False
    try:
        return is_radiograph(path)
    except OSError:
        return not path.suffix or path.suffix[1:].isdigit()


def is_radiograph(path: Path) -> bool:
    """Whether a file is taken for a radiograph: by its ending, or else by its first bytes; `OSError` without those."""
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    # Archives name DICOM files by their UID ("1.2.840.10008.5") or by a counter ("IM000001"), and some tools give
    # pictures no ending at all.
    with open(path, "rb") as file:
        return is_picture(file.read(HEAD))


def passed_over(folder: PathLike) -> list[Path]:
    """Files below a folder that `find_images` leaves out, hidden ones and those of the system aside, sorted."""
    images = set(find_images(folder))
    files = (here / name for here, names in walk(folder) for name in names or ())
    return sorted(f for f in files if f not in images and not _of_the_system(f.relative_to(folder)))


def _of_the_system(path: Path) -> bool:
    return any(p.startswith(".") or p in ("__MACOSX", "Thumbs.db", "desktop.ini") for p in path.parts)
