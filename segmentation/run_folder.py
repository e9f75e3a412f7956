"""The folder of a training run: its settings, its pairs and their split, its state and its log."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enhancement.errors import InputError
from enhancement.files import whole_file
from weights import locate
from weights.format import read_metadata

from .augmentation import MaskAugmentation
from .inputs import SegmenterInput
from .pairs import Pair, pairs_from_csv
from .splits import split_pairs
from .unet import CONVENTIONS

BEST, STATE, SPLIT_TABLE, SETTINGS, LOG = "best.weights.h5", "state.h5", "split.csv", "settings.json", "log.csv"


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that a training run depends on besides its pairs.

    Parameters
    ----------
    width, batch_norm, scaling
        As in `unet`.
    input : SegmenterInput
    augmentation : MaskAugmentation or None
    epochs, batch_size : int
    learning_rate : float
        Of Adam: one epoch of warm-up, then a cosine to zero at the last step.
    loss : {"combined", "dice", "bce"}
    precision : {"float32", "bfloat16"}
        bfloat16 computes a third faster on CPUs that have it; weights stay float32.
    fractions, split_by, holdout
        As in `split_pairs`.
    seed : int
    workers : int
        Threads that augment.
    init : str
        Weights to begin with: a file or a released name, of the same network; empty for random ones.
    """

    width: int = 16
    batch_norm: bool = True
    scaling: str = "unit"
    input: SegmenterInput = field(default_factory=SegmenterInput)
    augmentation: MaskAugmentation | None = field(default_factory=MaskAugmentation)
    epochs: int = 36
    batch_size: int = 8
    learning_rate: float = 1e-3
    loss: str = "combined"
    precision: str = "float32"
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    split_by: str = "patient"
    holdout: tuple[str, ...] = ()
    seed: int = 0
    workers: int = 2
    init: str = ""

    def __post_init__(self):
        for name in ("fractions", "holdout"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("width", "epochs", "batch_size", "learning_rate", "workers"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}: {getattr(self, name)} given, a number above 0 expected")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"precision: {self.precision!r} given, float32 or bfloat16 expected")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return json.loads(json.dumps({**dataclasses.asdict(self), "input": self.input.to_dict()}))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingSettings:
        """Inverse of `to_dict`."""
        values = dict(values)
        values["input"] = SegmenterInput.from_dict(values["input"])
        if values["augmentation"] is not None:
            scale = tuple(values["augmentation"]["scale"])
            values["augmentation"] = MaskAugmentation(**{**values["augmentation"], "scale": scale})
        return cls(**values)


def start_run(pairs: Sequence[Pair], settings: TrainingSettings, out: str | Path) -> Path:
    """Split the pairs and write a run folder that `train` can be called on.

    Raises
    ------
    InputError
        If `out` already holds a run, the pairs cannot be split, nothing is left to train or validate on, or the
        initial weights do not fit. Nothing is written then.
    """
    out = Path(out)
    if (out / SETTINGS).exists():
        raise InputError(f"{out}: holds a training run already; go on with it by --resume, or give another --out")
    sides = split_pairs(pairs, settings.fractions, by=settings.split_by, holdout=settings.holdout, seed=settings.seed)
    pairs = [dataclasses.replace(pair, split=side) for pair, side in zip(pairs, sides, strict=True)]
    usable_pairs(pairs)
    if settings.init:
        initial_weights(settings, trained_conventions(pairs))
    files = [p for pair in pairs for p in (pair.image, *pair.masks)]
    root = Path(os.path.commonpath([p.resolve().parent for p in files]))
    with whole_file(out / SPLIT_TABLE) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask", "source", "convention", "group_id", "split"])
        for pair in pairs:
            image, *masks = (p.resolve().relative_to(root).as_posix() for p in (pair.image, *pair.masks))
            writer.writerow([image, ";".join(masks), pair.source, pair.convention, pair.group, pair.split])
    with whole_file(out / SETTINGS) as partial:
        partial.write_text(json.dumps({"root": str(root), "settings": settings.to_dict()}, indent=1), "utf-8")
    return out


def read_run(run: str | Path) -> tuple[list[Pair], TrainingSettings]:
    """The pairs (with their split) and settings of a run folder."""
    path = Path(run) / SETTINGS
    if not path.is_file():
        raise InputError(f"{run}: not a training run of the segmenter ({SETTINGS} is missing)")
    values = json.loads(path.read_text("utf-8"))
    return pairs_from_csv(Path(run) / SPLIT_TABLE, values["root"]), TrainingSettings.from_dict(values["settings"])


def trained_conventions(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The mask conventions of the training pairs: the network's outputs, since it can learn no others."""
    return tuple(c for c in CONVENTIONS if any(p.split == "train" and p.convention == c for p in pairs))


def network_options(settings: TrainingSettings, conventions: tuple[str, ...]) -> dict[str, Any]:
    """What `unet` is called with, but for the size of its input."""
    return {
        "width": settings.width,
        "batch_norm": settings.batch_norm,
        "outputs": len(conventions),
        "scaling": settings.scaling,
    }


def initial_weights(settings: TrainingSettings, conventions: tuple[str, ...]) -> Path:
    """The file that `settings.init` names, by path or released name.

    Raises
    ------
    InputError
        If there is none, or it is of another network or of other masks.
    """
    init, options = settings.init, network_options(settings, conventions)
    path = locate(init)
    known = read_metadata(path)
    if known.get("kind") != "segmenter":
        raise InputError(f"init: {path} holds no segmenter")
    if known["architecture"]["options"] != options or tuple(known["conventions"]) != conventions:
        raise InputError(
            f"init: {path} is {known['architecture']['options']} for {', '.join(known['conventions'])}; "
            f"this run is {options} for {', '.join(conventions)}"
        )
    return path


def usable_pairs(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The pairs to train on, and those of validation whose convention is trained.

    Parameters
    ----------
    pairs : sequence of Pair
        With their split.

    Returns
    -------
    dict
        "train" and "validation" to pairs.

    Raises
    ------
    InputError
        If one of them is empty.
    """
    conventions = trained_conventions(pairs)
    usable = {s: [p for p in pairs if p.split == s and p.convention in conventions] for s in ("train", "validation")}
    for side, chosen in usable.items():
        given = [p for p in pairs if p.split == side]
        if given and not chosen:
            known = ", ".join(sorted({p.convention for p in given}))
            raise InputError(
                f"split: masks of all {len(given)} validation pairs are {known}, "
                f"those of the training pairs {', '.join(conventions)}; validation pairs of that kind are expected"
            )
        if not chosen:
            raise InputError(
                f"split: no pair in {side}, one at least expected; change the split column or the fractions"
            )
    return usable


def untrained(pairs: Sequence[Pair]) -> list[str]:
    """What to say of pairs whose convention no training pair has: a line for each part and convention."""
    conventions = trained_conventions(pairs)
    lines = []
    for side in ("validation", "test"):
        for convention in CONVENTIONS:
            own = [p for p in pairs if p.split == side and p.convention == convention]
            if own and convention not in conventions:
                sources = ", ".join(sorted({p.source or "(no source)" for p in own}))
                lines.append(
                    f"{len(own)} {side} pairs ({sources}) have masks of {convention}, which no training pair has: "
                    f"the network gets no output for it, and they are left out"
                )
    return lines


def save_state(path: Path, model, rows: list[dict]) -> None:
    """Write weights, optimizer and log so far, whole or not at all."""
    import h5py
    import keras

    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
            for i, variable in enumerate(variables):
                file[f"{kind}/{i:04d}"] = keras.ops.convert_to_numpy(variable)
        file.create_dataset("rows", data=json.dumps(rows))


def restore(path: Path, model) -> list[dict]:
    """Put a saved state into model and optimizer; the log so far (empty where there is no state)."""
    import h5py

    if not path.is_file():
        return []
    try:
        with h5py.File(path, "r") as file:
            for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
                for i, variable in enumerate(variables):
                    variable.assign(file[f"{kind}/{i:04d}"][()])
            return json.loads(file["rows"][()])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: the saved state cannot be restored ({error}); start a new run") from None


def write_log(path: Path, rows: list[dict]) -> None:
    """Write one line an epoch as CSV."""
    with whole_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
