"""Untrusted HDF5 files: opened only after everything in them has been checked to be plain arrays.

HDF5 can point at other files (external and soft links, external storage, virtual data sets), declare arrays of
petabytes in a few bytes, compress a gigabyte into one chunk, tie its groups into a ring or nest them without end, and
hold attributes on which the library itself crashes. A weights file does none of that. What this cannot see is damage
within HDF5's own tables (heaps, free lists), on some of which the library loops for ever, outside of Python's reach.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from enhancement.errors import InputError, one_line

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
    try:
        with h5py.File(path, "r") as file:
            _check(file, path)
            yield file
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"{path}: not an HDF5 weights file, or a damaged one ({one_line(error):.200})") from error


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
