"""Where a report's figures come from: the model, images that training saw, openings of the test set, commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.tables import listed_path, read_text
from covidcxnet.evaluation.report import Model
from covidcxnet.explain.lime import check_samples
from covidcxnet.preparation.build import content_sha256
from covidcxnet.training.run_folder import environment
from enhancement.errors import InputError
from enhancement.files import whole_file
from enhancement.parallel import sha256
from segmentation.engines import choose

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.training import Run

OPENINGS = "test_opened.json"

TRAINING = ("train", "validation")
"""Parts of a split that leave a trace in the weights: validation chooses the epoch."""

_ALIASES = {
    "path": ("path", "image", "filename"),
    "file": ("file", "original"),
    "split": ("split",),
    # as for data sets: the group is what must stay on one side of a split
    "patient": ("patient", "group_id", "group", "patient_id", "patientid", "subject"),
    "source": ("source",),
    "label": ("label", "finding", "class"),
    "sha256": ("sha256",),
}
_SPLITS = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How an evaluation is done, whatever model and images it is of; see `evaluate`."""

    threshold: float | str = 0.5
    bootstrap: int = 2000
    seed: int = 0
    explain: bool = True
    lime: int = 3
    lime_samples: int | str = 1000
    batch_size: int = 16
    progress: bool = True
    engine: str | None = None
    precision: str = "f32"

    def __post_init__(self):
        choose(self.engine, self.precision)
        for name, least in (("lime", 0), ("bootstrap", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value < least:
                raise InputError(f"{name}: {value} given, {least} or more expected")
        check_samples(self.lime_samples)
        cut = self.threshold
        if cut != "auto" and not (isinstance(cut, (int, float)) and 0 < cut < 1):
            raise InputError(f"threshold: {cut!r} given, auto or a number between 0 and 1 expected")


@dataclass(frozen=True)
class Marks:
    """What lists say about the images of a data set, row by row."""

    split: np.ndarray  # object [N]: train, validation, test ..., "" where the image is not listed
    patient: np.ndarray  # bool [N]: not in train or validation itself, but an image of the same patient is
    sources: frozenset[str] | None  # that train or validation has images of; None where nothing tells

    @property
    def image(self) -> np.ndarray:
        """Stands in train or validation itself: bool [N]."""
        return np.isin(self.split.astype(str), TRAINING)

    @property
    def trained(self) -> np.ndarray:
        """Stands in train or validation itself, or its patient does: bool [N]."""
        return self.image | self.patient


@dataclass(frozen=True)
class TrainingLists:
    """Lists of images with the part of the split that each was in."""

    # `split`, `list` (number of the file), and of `path`, `file`, `sha256` at least one; `patient`, `source`, `label`
    # where known. All text, missing values "".
    table: pd.DataFrame
    names: tuple[str, ...]  # the files that were read

    def marks(self, table: pd.DataFrame, root: Path, *, patients: bool = True) -> Marks:
        """The images of a data set on the lists.

        `table` is whole, before any filter: a patient's other images tell about this one. Files below `root` are only
        opened where the lists hold SHA-256 sums. Without `patients`, a patient's name on the lists is believed only if
        some image of the data is listed too, as other data may use the same names for other people.
        """
        split = self._splits(table, root)
        trained = np.isin(split.astype(str), TRAINING)
        listed = self.table[self.table["split"].isin(TRAINING)]
        patient = np.zeros(len(table), bool)
        if "patient" in table:
            column = table["patient"].map(_text)
            names = set(column[trained])
            if "patient" in listed and (patients or (split != "").any()):
                names |= set(listed["patient"])
            patient = column.isin(names - {""}).to_numpy() & ~trained
        sources: set[str] = set(listed["source"]) if "source" in listed else set()
        if "source" in table:
            sources |= set(table["source"].map(_text)[trained])
        return Marks(split, patient, frozenset(sources - {""}) or None)

    def _splits(self, table: pd.DataFrame, root: Path) -> np.ndarray:
        """Part of the split of each row, object [N]; one list's test image may be another's training image."""
        paths = [_path(p) for p in table["path"]]
        hashed = "sha256" in self.table and (self.table["sha256"] != "").any()
        content = [content_sha256(root / path) for path in table["path"]] if hashed else []
        # The path decides before the name: images of two patients may be called alike.
        known: list[tuple[list, tuple[str, ...]]] = [(paths, ("path",))]
        for column in ("path", "original") if "source" in table else ():
            if column in table:
                files = [PurePosixPath(_path(p)).name for p in table[column]]
                pairs = zip(table["source"].map(_text), files, strict=True)
                known.append(([(s, f) if f else None for s, f in pairs], ("source", "file")))
        merged = np.full(len(table), "", dtype=object)
        lists = self.table
        if "path" in lists:
            lists = lists.assign(path=[listed_path(p, root) if p else "" for p in lists["path"]])
        for _, listed in lists.groupby("list", sort=False):
            split = np.full(len(table), "", dtype=object)
            # an exact copy of a training image is known whatever it is called
            for images, columns in (*known, (content, ("sha256",))):
                if images and set(columns) <= set(listed):
                    _fill(split, images, listed, columns)
            merged = np.where(np.isin(merged.astype(str), TRAINING) | (split == ""), merged, split)
        return merged


def _fill(split: np.ndarray, images: list, listed: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Note in `split` what one list says of images that were not known yet, by the key that stands in `columns`."""
    keys = list(listed[columns[-1]])
    if "file" in columns:
        keys = [(s, PurePosixPath(f).name) for s, f in zip(listed["source"], keys, strict=True)]
    sides: dict = {}
    for key, side in zip(keys, listed["split"], strict=True):
        if sides.get(key) not in TRAINING:
            sides[key] = side
    for k, key in enumerate(images):
        if key and key in sides and (not split[k] or (columns == ("sha256",) and sides[key] in TRAINING)):
            split[k] = sides[key]


def read_training_lists(files: Sequence[str | Path]) -> TrainingLists:
    """Read lists such as a run's ``split.csv`` or the list that lies beside released weights.

    They are CSV tables with a column ``split`` and one that names the image: ``path``, ``source`` with ``file``, or
    ``sha256``; optionally ``patient`` or ``group_id``, ``source``, ``label``.
    """
    tables = [_read(Path(file)).assign(list=k) for k, file in enumerate(files)]
    return TrainingLists(pd.concat(tables, ignore_index=True).fillna(""), tuple(str(file) for file in files))


def list_beside(weights: Path | None) -> TrainingLists | None:
    """The list that lies beside a weights file (``NAME.csv`` by ``NAME.weights.h5``); None where there is none.

    Nobody named it: a table that happens to lie there and is no such list is no error.
    """
    if weights is None or not weights.name.endswith(".weights.h5"):
        return None
    path = weights.with_name(weights.name.removesuffix(".weights.h5") + ".csv")
    try:
        return read_training_lists([path])
    except InputError:  # also where there is no such file
        return None


def _read(path: Path) -> pd.DataFrame:
    try:
        table = read_text(path, "a CSV table that can be read")
    except InputError as error:
        raise InputError(f"seen: {error}") from error
    lower = {str(c).strip().lower(): c for c in reversed(table.columns)}
    chosen = {ours: next((lower[a] for a in names if a in lower), None) for ours, names in _ALIASES.items()}
    there = ", ".join(map(str, table.columns)) or "none"
    if chosen["split"] is None:
        raise InputError(f"seen: {path}: no column split (train, validation, test); there are {there}")
    if chosen["path"] is None and chosen["sha256"] is None and not (chosen["file"] and chosen["source"]):
        raise InputError(f"seen: {path}: no column that names the images (path, source and file, or sha256): {there}")
    listed = pd.DataFrame({ours: table[theirs].map(_text) for ours, theirs in chosen.items() if theirs is not None})
    listed["split"] = listed["split"].str.lower().replace(_SPLITS)
    if "path" in listed:
        listed["path"] = listed["path"].map(_path)
    if not listed["split"].isin(TRAINING).any():
        values = ", ".join(sorted(set(listed["split"]))[:5]) or "no rows"
        raise InputError(f"seen: {path}: column split holds {values}; train or validation expected in some row")
    return listed


def _path(value) -> str:
    return _text(value).replace("\\", "/").removeprefix("./")


def _text(value) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None or value is pd.NA or value != value else str(value).strip()


def training_images(run: Run | None) -> pd.DataFrame | None:
    """Rows of the run's store that left a trace in its weights; None where the run or its store is not known."""
    if run is None:
        return None
    try:
        return run.store.table.iloc[np.concatenate([run.rows(side) for side in TRAINING])]
    except InputError:
        return None


def model_of(classifier: Classifier) -> Model:
    """Which model it is, and whose file."""
    path = classifier.path
    return Model(
        name=classifier.architecture,
        weights=str(path or "not from a file"),
        sha256=sha256(path) if path is not None else "",
        parameters=classifier.parameters,
        size=path.stat().st_size if path is not None else 0,
        training=classifier.metadata.get("training") or {},
        engine=classifier.engine,
        precision=classifier.precision,
    )


def circumstances(run: Run | None, classifier: Classifier, seed: int) -> dict[str, Any]:
    """What `Report` records of the training, the settings and the machine, by its names."""
    trained = classifier.metadata.get("training") or {}
    epoch = trained.get("epoch", run.status.get("best_epoch") if run is not None else None)
    return {
        "log": run.log if run is not None and (run.path / "log.csv").is_file() else None,
        "best_epoch": None if epoch is None else int(epoch),
        "input_settings": classifier.input.to_dict(),
        "recipe": run.recipe.to_dict() if run is not None else {},
        "environment": environment(seed, classifier.precision),
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
    }


def log_opening(run: Run, sha256: str, threshold: float | str, images: int) -> tuple[dict[str, Any], ...]:
    """Write down in the run that its test set was looked at; every time so far, oldest first."""
    path = run.path / OPENINGS
    try:
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError as error:
        raise InputError(f"{path}: damaged; it says how often the test set was opened") from error
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    openings = [*before, {"date": now, "weights_sha256": sha256, "threshold": threshold, "images": images}]
    with whole_file(path) as partial:
        partial.write_text(json.dumps(openings, indent=2) + "\n", encoding="utf-8")
    return tuple(openings)


def commands(run: Run | None, target, data, options: Mapping[str, Any], split: str, settings: EvaluationSettings):
    """Command lines that make the report again; the training of `run` among them where there is one.

    `options` are those of `data`: root, where, seen and count.
    """
    flags: list[tuple[str, Any]] = [("--split", split)]
    if data is not None:
        flags = [("--data", data), *([("--root", options["root"])] if options["root"] else [])]
        for key, value in (options["where"] or {}).items():
            values = value if isinstance(value, (list, tuple)) else [value]
            flags.append(("--where", f"{key}={','.join(map(str, values))}"))
        flags += [("--seen", path) for path in options["seen"]]
        flags += [("--count", f"{label}={name}") for label, name in (options["count"] or {}).items()]
    words = ["python", "evaluate.py", str(target), *(str(word) for pair in flags for word in pair)]
    words += ["--bootstrap", str(settings.bootstrap), "--seed", str(settings.seed)]
    words += ["--threshold", str(settings.threshold)] if settings.threshold != 0.5 else []
    words += ["--engine", settings.engine] if settings.engine else []
    words += ["--precision", settings.precision] if settings.precision != "f32" else []
    training = () if run is None else (shlex.join(["python", "train.py", "--recipe", f"{run.path}/recipe.yaml"]),)
    return (*training, shlex.join(words))
