"""Train a lung U-Net in a run folder: it can be resumed after every epoch and keeps the best weights by Dice."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from enhancement.errors import InputError
from enhancement.files import whole_file, write_csv
from enhancement.lock import locked
from enhancement.progress import ProgressBar
from segmentation.backend import keras
from weights.format import load_weights, naming, open_weights, save_weights
from weights.hdf5 import new_hdf5

from .augmentation import MaskAugmentation
from .backend import fuse_batch_norm
from .batches import PairBatches
from .losses import loss_named
from .model import CONVENTIONS, SegmenterInput, check_network, unet
from .pairs import SPLITS, Pair, pairs_from_csv, split_pairs

BEST, STATE, SPLIT_TABLE, SETTINGS, LOG = "best.weights.h5", "state.h5", "split.csv", "settings.json", "log.csv"


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that a training run depends on besides its pairs."""

    width: int = 16  # this and the next three as in `unet`
    batch_norm: bool = True
    scaling: str = "unit"
    stride: int = 1
    input: SegmenterInput = field(default_factory=SegmenterInput)
    augmentation: MaskAugmentation | None = field(default_factory=MaskAugmentation)
    epochs: int = 36
    batch_size: int = 8
    learning_rate: float = 1e-3  # of Adam: one epoch of warm-up, then a cosine to zero at the last step
    loss: str = "combined"
    precision: str = "float32"  # bfloat16 computes a third faster on CPUs that have it; weights stay float32
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)  # this and the next two as in `split_pairs`
    split_by: str = "patient"
    holdout: tuple[str, ...] = ()
    seed: int = 0
    workers: int = 2  # threads that augment
    init: str = ""  # initial weights, a file or a released name, of the same network; empty for random ones

    def __post_init__(self):
        for name in ("fractions", "holdout"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("width", "epochs", "batch_size", "learning_rate", "workers"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}: {getattr(self, name)} given, a number above 0 expected")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"precision: {self.precision!r} given, float32 or bfloat16 expected")
        check_network(self.width, 1, 1, self.input.size, self.scaling, self.stride)

    def network(self, conventions: tuple[str, ...]) -> dict[str, Any]:
        """What `unet` is called with for these masks, but for the size of its input."""
        outputs = len(conventions)
        options = {"width": self.width, "batch_norm": self.batch_norm, "outputs": outputs, "scaling": self.scaling}
        # Left out at 1, so that files of networks without it can be loaded by earlier versions.
        return options if self.stride == 1 else options | {"stride": self.stride}

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


def train(run: str | Path, *, progress: bool = True) -> Path:
    """Train, or go on training, the run in a folder made by `start_run`; the path of the best weights.

    After each epoch ``state.h5`` (weights and optimizer), ``log.csv`` and, where validation Dice improved,
    ``best.weights.h5`` are written, each whole or not at all. Killed at any moment, the same call goes on after the
    last whole epoch and ends where an uninterrupted run would have. `InputError` while another process trains there.
    """
    run = Path(run)
    pairs, settings = read_run(run)
    with locked(run / ".lock", "trains in this folder"):
        return _train(run, pairs, settings, progress)


def _train(run: Path, pairs: Sequence[Pair], settings: TrainingSettings, progress: bool) -> Path:
    conventions = trained_conventions(pairs)
    # Before the network is built: files that cannot be read are the likelier and the quicker failure.
    served = {}
    for side, chosen in usable_pairs(pairs).items():
        augmentation = settings.augmentation if side == "train" else None
        kinds = settings.input, conventions, settings.batch_size, augmentation
        served[side] = PairBatches(chosen, *kinds, settings.seed, settings.workers, progress)

    # After the reading, and right before the weights are drawn: nothing else has drawn numbers by then.
    keras.utils.set_random_seed(settings.seed)
    options = settings.network(conventions)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if settings.precision == "bfloat16" else "float32")
    try:
        model = unet(**options, size=settings.input.size)
    finally:
        keras.config.set_dtype_policy(policy)
    if settings.init and not (run / STATE).exists():
        load_weights(model, initial_weights(settings, conventions))
    optimizer = keras.optimizers.Adam(settings.learning_rate)
    # Its variables must exist before a saved state is put into them.
    optimizer.build(model.trainable_variables)
    fuse_batch_norm(model)
    loss = loss_named(settings.loss)
    model.compile(optimizer, loss=loss)
    rows = _restore(run / STATE, model)

    steps = len(served["train"])
    begun = len(rows)
    for epoch in range(begun, settings.epochs):
        start = time.monotonic()
        mean_loss = _one_epoch(model, served["train"], epoch, settings, disable=not progress, compiles=epoch == begun)
        row = {"epoch": epoch + 1, "loss": mean_loss, **_validate(model, served["validation"], loss)}
        row["learning_rate"] = _learning_rate(settings, (epoch + 1) * steps - 1, steps)
        row["seconds"] = time.monotonic() - start
        rows.append({k: v if isinstance(v, int) else float(f"{v:.6g}") for k, v in row.items()})
        # Both sides rounded: a resumed run reads its earlier rows as they were written.
        if rows[-1]["val_dice"] >= max(r["val_dice"] for r in rows):
            metadata = {
                "kind": "segmenter",
                "architecture": {"name": "unet", "options": options},
                "conventions": list(conventions),
                "input": settings.input.to_dict(),
                "training": _summary(pairs, settings, rows),
            }
            save_weights(model, run / BEST, metadata)
        # The state comes last but for the log: an epoch counts once it can be resumed from.
        _save_state(run / STATE, model, rows)
        write_csv(run / LOG, rows)
    return run / BEST


def start_run(pairs: Sequence[Pair], settings: TrainingSettings, out: str | Path) -> Path:
    """Split the pairs and write a run folder that `train` can be called on.

    Raises `InputError`, and writes nothing, if `out` already holds a run, the pairs cannot be split, nothing is left to
    train or validate on, or the initial weights do not fit.
    """
    out = Path(out)
    if (out / SETTINGS).exists():
        raise InputError(f"{out}: already holds a training run; resume it with --resume, or give another --out")
    sides = split_pairs(pairs, settings.fractions, by=settings.split_by, holdout=settings.holdout, seed=settings.seed)
    pairs = [dataclasses.replace(pair, split=side) for pair, side in zip(pairs, sides, strict=True)]
    usable_pairs(pairs)
    if settings.init:
        initial_weights(settings, trained_conventions(pairs))
    files = [p for pair in pairs for p in (pair.image, *pair.masks)]
    # One root and relative paths: for data that moved, one entry of the settings is to be changed.
    root = Path(os.path.commonpath([p.resolve().parent for p in files]))
    rows = []
    for pair in pairs:
        image, *masks = (p.resolve().relative_to(root).as_posix() for p in (pair.image, *pair.masks))
        rows.append({"image": image, "mask": ";".join(masks), "source": pair.source, "convention": pair.convention})
        rows[-1] |= {"group_id": pair.group, "split": pair.split}
    write_csv(out / SPLIT_TABLE, rows)
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


def usable_pairs(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The pairs of "train", and those of "validation" whose convention is trained; `InputError` if either is empty."""
    conventions = trained_conventions(pairs)
    usable = {}
    for side in ("train", "validation"):
        of_side = [p for p in pairs if p.split == side]
        usable[side] = [p for p in of_side if p.convention in conventions]
        if of_side and not usable[side]:
            known = ", ".join(sorted({p.convention for p in of_side}))
            raise InputError(
                f"split: masks of all {len(of_side)} validation pairs are {known}, "
                f"those of the training pairs {', '.join(conventions)}; validation pairs of that kind are expected"
            )
        if not usable[side]:
            raise InputError(
                f"split: no pair in {side}, one at least expected; change the split column or the fractions"
            )
    return usable


def untrained(pairs: Sequence[Pair]) -> list[str]:
    """Notes on pairs whose convention no training pair has: a line for each part and convention."""
    conventions = trained_conventions(pairs)
    lines = []
    for side in ("validation", "test"):
        for convention in (c for c in CONVENTIONS if c not in conventions):
            left_out = [p for p in pairs if p.split == side and p.convention == convention]
            if left_out:
                sources = ", ".join(sorted({p.source or "(no source)" for p in left_out}))
                lines.append(
                    f"{len(left_out)} {side} pairs ({sources}) have masks of {convention}, which no training pair has: "
                    f"the network gets no output for it, and they are left out"
                )
    return lines


def initial_weights(settings: TrainingSettings, conventions: tuple[str, ...]) -> Path:
    """The file that `settings.init` names; `InputError` if there is none, or it is of another network or masks."""
    options = settings.network(conventions)
    with naming("init"):
        file = open_weights(settings.init)
    path, known = file.path, file.metadata
    if known.get("kind") != "segmenter":
        raise InputError(f"init: {path} holds no segmenter")
    if known["architecture"]["options"] != options or tuple(known["conventions"]) != conventions:
        raise InputError(
            f"init: {path} is {known['architecture']['options']} for {', '.join(known['conventions'])}; "
            f"this run is {options} for {', '.join(conventions)}"
        )
    return path


def _one_epoch(model, batches: PairBatches, epoch: int, settings: TrainingSettings, **shown: bool) -> float:
    steps, losses = len(batches), []
    bar = ProgressBar(total=len(batches.pairs), desc=f"epoch {epoch + 1}/{settings.epochs}", unit="pair", **shown)
    with bar:
        for step, (squares, targets) in enumerate(batches.epoch(epoch), epoch * steps):
            model.optimizer.learning_rate.assign(_learning_rate(settings, step, steps))
            # Keras would return the mean of the epoch so far.
            model.reset_metrics()
            losses.append(float(model.train_on_batch(squares, targets)))
            if not math.isfinite(losses[-1]):
                raise InputError(f"loss became {losses[-1]} in epoch {epoch + 1}; try a smaller learning_rate")
            bar.update(len(squares))
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}")
    return float(np.mean(losses))


def _learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    # Adam's estimates of variance are noise in its first steps (Liu et al. 2020), so that these are kept short.
    warm = min(1.0, (step + 1) / steps)
    return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / (settings.epochs * steps)))


def _validate(model, batches: PairBatches, loss: Callable) -> dict[str, float]:
    """Loss, and Dice of the thresholded map: by source, by convention, and the mean over conventions."""
    losses: list[float] = []
    scores: dict[str, list[float]] = {}
    done = 0
    for squares, targets in batches.epoch(0):
        missing = batches.batch_size - len(squares)
        # One batch shape for all: nothing is traced twice.
        padded = np.concatenate([squares, np.zeros((missing, *squares.shape[1:]), squares.dtype)])
        maps = np.asarray(model.predict_on_batch(padded))[: len(squares)]
        losses += np.asarray(loss(targets, maps)).tolist()
        for pair, target, soft in zip(batches.pairs[done : done + len(squares)], targets, maps, strict=True):
            k = batches.conventions.index(pair.convention)
            mask, truth = soft[..., k] >= 0.5, target[..., k] >= 0.5
            sizes = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
            dice = 2 * int(np.count_nonzero(mask & truth)) / max(1, sizes)
            scores.setdefault(f"val_dice_{pair.convention}", []).append(dice)
            if pair.source:
                scores.setdefault(f"val_dice_{pair.source}", []).append(dice)
        done += len(squares)
    means = {name: float(np.mean(values)) for name, values in sorted(scores.items())}
    overall = np.mean([means[f"val_dice_{c}"] for c in batches.conventions if f"val_dice_{c}" in means])
    return {"val_loss": float(np.mean(losses)), "val_dice": float(overall), **means}


def _summary(pairs: Sequence[Pair], settings: TrainingSettings, rows: list[dict]) -> dict[str, Any]:
    """What the weights file tells of its training."""
    counts = {side: dict(Counter(pair.source for pair in pairs if pair.split == side)) for side in SPLITS}
    return {
        "settings": settings.to_dict() | {"init": Path(settings.init).name},
        "pairs": counts,
        "epoch": len(rows),
        "validation": {k: v for k, v in rows[-1].items() if k.startswith("val_")},
        "seconds": round(sum(r["seconds"] for r in rows)),
        "cores": os.cpu_count(),
        "backend": keras.backend.backend(),
        "versions": {"keras": keras.__version__, "numpy": np.__version__, "opencv": cv2.__version__},
    }


def _variables(model):
    for kind, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        for i, variable in enumerate(variables):
            yield f"{kind}/{i:04d}", variable


def _save_state(path: Path, model, rows: list[dict]) -> None:
    """Write weights, optimizer and log so far, whole or not at all."""
    with new_hdf5(path) as file:
        for name, variable in _variables(model):
            file[name] = variable.numpy()
        file.create_dataset("rows", data=json.dumps(rows))


def _restore(path: Path, model) -> list[dict]:
    """Put a saved state into model and optimizer; the log so far (empty where there is no state)."""
    import h5py

    if not path.is_file():
        return []
    try:
        with h5py.File(path, "r") as file:
            for name, variable in _variables(model):
                variable.assign(file[name][()])
            return json.loads(file["rows"][()])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: the saved state is damaged and cannot be restored; start a new run") from error
