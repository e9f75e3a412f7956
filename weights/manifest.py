"""`manifest.json`: the facts of each released weights file, by which it is located, verified and fed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enhancement.errors import InputError
from enhancement.files import whole_file
from enhancement.parallel import sha256

FOLDER = Path(__file__).parent
PATH = FOLDER / "manifest.json"
FORMAT = 1
KINDS = ("classifier", "segmenter", "backbone")
LAYOUTS = ("keras-3", "keras-2", "torch")


class WeightsError(InputError):
    """No such weights, or none that can be trusted: one line with the file, the problem and what to do."""


@dataclass(frozen=True)
class Entry:
    """One weights file."""

    name: str  # what users call it
    file: str  # file name, in this package or in the cache
    kind: str  # one of `KINDS`
    licence: str  # one line; it follows from the data that the weights were trained on
    summary: str = ""  # one line
    layout: str = "keras-3"  # ours; "keras-2" is an old HDF5 file, loaded by position, "torch" one of PyTorch
    architecture: dict[str, Any] = field(default_factory=dict)  # {"name": ..., "options": {...}}, as in the metadata
    input: dict[str, Any] = field(default_factory=dict)  # input settings, as in the metadata
    labels: tuple[str, ...] = ()  # classes or mask conventions, in the order of the outputs
    card: str = ""  # file name of its card in this package
    url: str = ""  # where it can be downloaded; empty for a file of this package
    page: str = ""  # where people can read about it
    home: str = ""  # cache folder: ours, or "keras" for that of keras.applications
    package: str = ""  # folder of an installed Python package that holds it, as in "package/models"
    extra: str = ""  # of covidcxnet, which installs that package
    size: int | None = None  # bytes
    thresholds: dict[str, float] = field(default_factory=dict)  # operating points by label; 0.5 where none is given
    # Its content is verified by at least one; a git blob id stands for files of public git repositories. Of SHA-256
    # torchvision publishes the first eight digits, in the name of each file.
    sha256: str = ""
    git_blob: str = ""
    md5: str = ""
    unverified: bool = False  # nobody publishes a hash: that of the first download is recorded and then holds

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.kind not in KINDS or self.layout not in LAYOUTS or self.home not in ("", "keras"):
            raise WeightsError(
                f"manifest: {self.name}: unknown kind {self.kind!r}, layout {self.layout!r} or home {self.home!r}"
            )
        if Path(self.file).name != self.file or self.file in ("", ".", "..") or Path(self.card).name != self.card:
            raise WeightsError(f"manifest: {self.name}: file {self.file!r} and card {self.card!r} must be plain names")
        if not (self.sha256 or self.git_blob or self.md5 or self.unverified):
            raise WeightsError(f"manifest: {self.name}: no sha256, git_blob or md5; it could not be verified")
        if not self.licence:
            raise WeightsError(f"manifest: {self.name}: no licence; nobody could know whether it may be used")
        if self.url and not self.url.startswith(("https://", "http://")):
            raise WeightsError(f"manifest: {self.name}: url {self.url!r} is not of http or https")

    def metadata(self) -> dict[str, Any]:
        """The same facts as they stand inside a weights file of ours; for old files, which carry none."""
        labels = "conventions" if self.kind == "segmenter" else "classes"
        facts = {"format": 1, "kind": self.kind, "architecture": self.architecture, "input": self.input}
        return {**facts, labels: list(self.labels)}

    def verify(self, path: Path) -> None:
        """Raise `WeightsError` unless a file is this one: its size, then its hash."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            raise WeightsError(f"{path}: {size:,} bytes, {self.name} has {self.size:,}; damaged or another file")
        for what, expected, digest in (
            ("SHA-256", self.sha256, sha256),
            ("git blob id", self.git_blob, git_blob_id),
            ("MD5", self.md5, _file_md5),
        ):
            if expected:
                content = digest(path)
                if not content.startswith(expected):
                    raise WeightsError(
                        f"{path}: its {what} is {content}, {expected} expected for {self.name}; damaged or another file"
                    )
                return
        recorded = record_of(path)
        if recorded.is_file() and sha256(path) != recorded.read_text().strip():
            raise WeightsError(
                f"{path}: not the file that was downloaded first; to accept it, delete {recorded.name} beside it"
            )


def record_of(path: Path) -> Path:
    """Where the SHA-256 of the first download of a file without a published hash is kept."""
    return path.with_name(f"{path.name}.sha256")


def read(path: Path | None = None) -> dict[str, Entry]:
    """All entries by name; `WeightsError` if the manifest is damaged."""
    path = PATH if path is None else Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError("of another version")
        return {name: Entry(name=name, **facts) for name, facts in content["weights"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a manifest of weights of format {FORMAT}, or a damaged one") from error


def write(entries: dict[str, Entry], path: Path | None = None) -> Path:
    """Write a manifest, whole or not at all; what an entry leaves empty is left out."""
    path = PATH if path is None else Path(path)
    content = {}
    for name, entry in sorted(entries.items()):
        facts = dataclasses.asdict(entry)
        del facts["name"]
        content[name] = {key: value for key, value in facts.items() if value not in ("", None, (), [], {}, False)}
    with whole_file(path) as partial:
        partial.write_text(json.dumps({"format": FORMAT, "weights": content}, indent=2) + "\n", encoding="utf-8")
    return path


def git_blob_id(path: str | os.PathLike[str]) -> str:
    """Id under which git stores a file's content: SHA-1 of ``blob <size>\\0`` and the content."""
    digest = hashlib.sha1(f"blob {os.path.getsize(path)}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _file_md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
