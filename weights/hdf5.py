"""Untrusted HDF5 files: opened only after everything in them has been checked to be plain arrays.

HDF5 can point at other files (external and soft links, external storage, virtual data sets), declare arrays of
petabytes in a few bytes, compress a gigabyte into one chunk, tie its groups into a ring or nest them without end, and
hold attributes on which the library itself crashes. A weights file does none of that. Damage within HDF5's own tables
(heaps, free lists) makes the library crash or loop for ever, outside of Python's reach: so it is a process of its own,
with a limit of time, that checks and reads a file first. Files that this process wrote, or whose hash is known, go
without.
"""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from enhancement.errors import InputError
from enhancement.files import whole_file

if TYPE_CHECKING:
    import h5py

MOST_BYTES = 4 << 30
"""Weights of one file; the largest network here has 30 MB."""

# Keras never compresses; a file of zeros that somebody compressed shrinks a thousandfold and is no weights file.
_MOST_EXPANSION = 50
_MOST_OBJECTS = 100_000
_MOST_ATTRIBUTES = 100  # of one object; the library's time grows with their square
_DEEPEST = 32  # groups within groups; Keras nests some eight
_DAMAGE = (
    *(OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError),
    MemoryError,
)
_REFUSED = 3  # exit code of a check
_trusted: set[tuple] = set()


@contextmanager
def open_plain(path: str | Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, once all of it has been checked; Keras is not needed.

    Every link in it is hard, every data set a numeric array stored in this file, their sizes believable; otherwise
    `InputError`, as for errors that damage causes inside the block.
    """
    import h5py

    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such weights file")
    if (state := _state(path)) not in _trusted:
        _check_outside(path)
        _trusted.add(state)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except _DAMAGE as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> InputError:
    # In fixed words: the library's are about its own functions.
    return InputError(f"{path}: not an HDF5 weights file, or a damaged one")


@contextmanager
def new_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """A new HDF5 file to be filled within the block, written whole or not at all; errors of a full disk name it."""
    import h5py

    # In memory: where a disk is full the library crashes when it closes the file.
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        yield file
    with whole_file(path) as partial:
        partial.write_bytes(memory.getbuffer())
    trust(path)


def trust(path: str | Path) -> None:
    """Take a file that was written here, or whose hash is right, as checked until it changes."""
    _trusted.add(_state(Path(path)))


def _state(path: Path) -> tuple:
    state = path.stat()
    return os.path.realpath(path), state.st_ino, state.st_size, state.st_mtime_ns


def _check_outside(path: Path) -> None:
    """`check_and_read` in another process: `InputError` for what it refuses, crashes on, or does not come to an end."""
    # A bare interpreter takes a third of a second, most of it for h5py.
    folders = [str(Path(__file__).parents[1]), *sys.path]
    code = f"import sys; sys.path[:] = {folders!r}; from weights import hdf5; hdf5.check_and_read(*sys.argv[1:])"
    command = [sys.executable, "-I", "-S", "-c", code, os.path.abspath(path), str(_seconds(path))]
    failed = f"{path}: a damaged HDF5 file; the library crashes on it or does not come to an end"
    try:
        done = subprocess.run(command, capture_output=True, timeout=12 * _seconds(path), stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise InputError(failed) from None
    if done.returncode:
        refused = done.returncode == _REFUSED
        raise InputError(f"{path}: {done.stdout.decode('utf-8', 'replace')}" if refused else failed)


def _seconds(path: Path) -> int:
    return 3 + path.stat().st_size // (50 << 20)


def check_and_read(name: str, seconds: str) -> None:
    """What runs in another process: check a file, read all of it, and end with 0, or print why it is refused."""
    import h5py

    path = Path(name)
    with suppress(ImportError):  # Windows counts no seconds of a processor: there the parent's patience decides
        import resource

        # Seconds of the processor, so that a busy machine does not decide whether a file is damaged.
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        try:
            with h5py.File(path, "r") as file:
                _check(file, path)
                _read_all(file)
        except InputError:
            raise
        except _DAMAGE as error:
            raise _damaged(path) from error
    except InputError as error:
        sys.stdout.buffer.write(str(error).removeprefix(f"{path}: ").encode("utf-8", "replace"))
        sys.stdout.flush()
        os._exit(_REFUSED)  # the library may not get over closing a damaged file


def _read_all(file: h5py.File) -> None:
    def read(_: str, item: h5py.Group | h5py.Dataset) -> None:
        dict(item.attrs)
        if hasattr(item, "dtype"):
            # A block at a time: an array may be larger than it needs to be in memory.
            rows = max(1, (64 << 20) // max(1, item.dtype.itemsize * math.prod(item.shape[1:])))
            for start in range(0, item.shape[0] if item.shape else 1, rows):
                item[start : start + rows] if item.shape else item[()]

    read("/", file)
    file.visititems(read)


def shapes(group: h5py.Group) -> list[tuple[int, ...]]:
    """Shapes of all arrays below a group, sorted."""
    arrays: list[tuple[int, ...]] = []
    group.visititems(lambda _, item: arrays.append(tuple(item.shape)) if hasattr(item, "shape") else None)
    return sorted(arrays)


def _check(file: h5py.File, path: Path) -> None:
    import h5py

    def address(group: h5py.Group) -> object:
        return h5py.h5o.get_info(group.id).addr

    most = min(MOST_BYTES, max(1 << 20, _MOST_EXPANSION * path.stat().st_size))
    declared, visited, waiting = 0, 0, [(file["/"], "")]
    groups = {address(file)}
    _check_attributes(file, "/", path)
    while waiting:
        group, parent = waiting.pop()
        # In the order of the file: to sort the links of a large group, HDF5 1.14 reads them all, and where it cannot
        # decode one of them it frees memory that it never took, which kills the process.
        names: list[bytes] = []
        group.id.links.iterate(names.append, order=h5py.h5.ITER_NATIVE)
        for name in map(os.fsdecode, names):
            where = f"{parent}/{name}"
            visited += 1
            if visited > _MOST_OBJECTS:
                raise InputError(f"{path}: more than {_MOST_OBJECTS} objects in it; damaged or hostile")
            # The link is looked at before what it leads to: following it may open another file.
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                other = (
                    f"another file ({link.filename})" if hasattr(link, "filename") else f"another path ({link.path})"
                )
                raise InputError(f"{path}: {where} is a link to {other}; a weights file has its arrays inside")
            item = group[name]
            _check_attributes(item, where, path)
            if isinstance(item, h5py.Group):
                # A ring of groups would be walked for ever.
                if address(item) in groups:
                    raise InputError(f"{path}: {where} is a group that occurs elsewhere in it; damaged or hostile")
                groups.add(address(item))
                if where.count("/") > _DEEPEST:
                    raise InputError(
                        f"{path}: groups nested deeper than {_DEEPEST}, at {where:.80}; damaged or hostile"
                    )
                waiting.append((item, where))
            elif not isinstance(item, h5py.Dataset):
                raise InputError(f"{path}: {where} is neither a group nor an array")
            elif item.is_virtual or item.external:
                raise InputError(f"{path}: {where} takes its numbers from another file; a weights file has them inside")
            elif item.dtype.kind not in "fiub" or item.shape is None:
                raise InputError(f"{path}: {where} is not a plain array of numbers (type {item.dtype})")
            else:
                # Of a chunk all is unpacked, however little of it the array needs.
                declared += max(int(item.size), math.prod(item.chunks or ())) * item.dtype.itemsize
                if declared > most:
                    raise InputError(
                        f"{path}: declares {declared:,} bytes of arrays at {where} in a file of "
                        f"{path.stat().st_size:,}; damaged or hostile"
                    )


def _check_attributes(item: h5py.Group | h5py.Dataset, where: str, path: Path) -> None:
    """Refuse attributes that are neither text nor numbers, unread: reading some of the others kills the process."""
    from h5py import h5a, h5t

    plain = (h5t.STRING, h5t.INTEGER, h5t.FLOAT, h5t.ENUM)
    if h5a.get_num_attrs(item.id) > _MOST_ATTRIBUTES:
        raise InputError(f"{path}: {where} has more than {_MOST_ATTRIBUTES} attributes; damaged or hostile")
    for name in item.attrs:
        if item.attrs.get_id(name).get_type().get_class() not in plain:
            raise InputError(f"{path}: {where} has an attribute that is neither text nor numbers; damaged or hostile")
