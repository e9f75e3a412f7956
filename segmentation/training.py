"""Train a lung U-Net in a run folder: it can be resumed after every epoch and keeps the best weights by Dice."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enhancement.errors import InputError
from weights.format import load_weights, save_weights

from .batches import PairBatches
from .pairs import SPLITS, Pair
from .run_folder import (
    BEST,
    LOG,
    STATE,
    TrainingSettings,
    initial_weights,
    network_options,
    read_run,
    restore,
    save_state,
    trained_conventions,
    usable_pairs,
    write_log,
)
from .unet import unet


def train(run: str | Path, *, progress: bool = True) -> Path:
    """Train, or go on training, the run in a folder made by `start_run`.

    After each epoch ``state.h5`` (weights and optimizer), ``log.csv`` and, where validation Dice improved,
    ``best.weights.h5`` are written, each whole or not at all. Killed at any moment, the same call goes on after the
    last whole epoch and ends where an uninterrupted run would have.

    Returns
    -------
    Path
        The best weights.
    """
    import keras

    from .backend import fuse_batch_norm
    from .losses import loss_named

    run = Path(run)
    pairs, settings = read_run(run)
    conventions = trained_conventions(pairs)
    served = {
        side: PairBatches(
            chosen,
            settings.input,
            conventions,
            settings.batch_size,
            settings.augmentation if side == "train" else None,
            settings.seed,
            settings.workers,
            progress,
        )
        for side, chosen in usable_pairs(pairs).items()
    }
    keras.utils.set_random_seed(settings.seed)
    options = network_options(settings, conventions)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if settings.precision == "bfloat16" else "float32")
    try:
        model = unet(**options, size=settings.input.size)
    finally:
        keras.config.set_dtype_policy(before)
    if settings.init and not (run / STATE).exists():
        load_weights(model, initial_weights(settings, conventions))
    optimizer = keras.optimizers.Adam(settings.learning_rate)
    optimizer.build(model.trainable_variables)
    fuse_batch_norm(model)
    model.compile(optimizer, loss=loss_named(settings.loss))
    rows = restore(run / STATE, model)

    steps = len(served["train"])
    for epoch in range(len(rows), settings.epochs):
        begun = time.monotonic()
        loss = _one_epoch(model, served["train"], epoch, settings, progress)
        row = {"epoch": epoch + 1, "loss": loss, **_validate(model, served["validation"], settings.loss)}
        row["learning_rate"] = _learning_rate(settings, (epoch + 1) * steps - 1, steps)
        row["seconds"] = time.monotonic() - begun
        rows.append({k: v if isinstance(v, int) else float(f"{v:.6g}") for k, v in row.items()})
        if rows[-1]["val_dice"] >= max(r["val_dice"] for r in rows):  # both rounded
            metadata = {
                "kind": "segmenter",
                "architecture": {"name": "unet", "options": options},
                "conventions": list(conventions),
                "input": settings.input.to_dict(),
                "training": _summary(pairs, settings, rows),
            }
            save_weights(model, run / BEST, metadata)
        save_state(run / STATE, model, rows)
        write_log(run / LOG, rows)
    return run / BEST


def _one_epoch(model, batches: PairBatches, epoch: int, settings: TrainingSettings, progress: bool) -> float:
    from tqdm import tqdm

    steps, losses = len(batches), []
    bar = tqdm(total=len(batches.pairs), desc=f"epoch {epoch + 1}/{settings.epochs}", unit="pair", disable=not progress)
    with bar:
        for step, (squares, targets) in enumerate(batches.epoch(epoch), epoch * steps):
            model.optimizer.learning_rate.assign(_learning_rate(settings, step, steps))
            model.reset_metrics()
            losses.append(float(model.train_on_batch(squares, targets)))
            if not math.isfinite(losses[-1]):
                raise InputError(f"loss became {losses[-1]} in epoch {epoch + 1}; try a smaller learning_rate")
            bar.update(len(squares))
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}")
    return float(np.mean(losses))


def _learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / steps)
    return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / (settings.epochs * steps)))


def _validate(model, batches: PairBatches, loss: str) -> dict[str, float]:
    """Loss, and Dice of the thresholded map: by source, by convention, and the mean over conventions."""
    from .losses import loss_named

    losses: list[float] = []
    scores: dict[str, list[float]] = {}
    done = 0
    for squares, targets in batches.epoch(0):
        missing = batches.batch_size - len(squares)
        # One batch shape for all: nothing is traced twice.
        padded = np.concatenate([squares, np.zeros((missing, *squares.shape[1:]), squares.dtype)])
        maps = np.asarray(model.predict_on_batch(padded))[: len(squares)]
        losses += np.asarray(loss_named(loss)(targets, maps)).tolist()
        for pair, target, soft in zip(batches.pairs[done : done + len(squares)], targets, maps, strict=True):
            k = batches.conventions.index(pair.convention)
            found, true = soft[..., k] >= 0.5, target[..., k] >= 0.5
            sizes = int(np.count_nonzero(found)) + int(np.count_nonzero(true))
            dice = 2 * int(np.count_nonzero(found & true)) / max(1, sizes)
            scores.setdefault(f"val_dice_{pair.convention}", []).append(dice)
            if pair.source:
                scores.setdefault(f"val_dice_{pair.source}", []).append(dice)
        done += len(squares)
    means = {name: float(np.mean(values)) for name, values in sorted(scores.items())}
    overall = np.mean([means[f"val_dice_{c}"] for c in batches.conventions if f"val_dice_{c}" in means])
    return {"val_loss": float(np.mean(losses)), "val_dice": float(overall), **means}


def _summary(pairs: Sequence[Pair], settings: TrainingSettings, rows: list[dict]) -> dict[str, Any]:
    import cv2
    import keras

    counts: dict[str, dict[str, int]] = {s: {} for s in SPLITS}
    for pair in pairs:
        counts[pair.split][pair.source] = counts[pair.split].get(pair.source, 0) + 1
    versions = {"keras": keras.__version__, "numpy": np.__version__, "opencv": cv2.__version__}
    return {
        "settings": settings.to_dict() | {"init": Path(settings.init).name},
        "pairs": counts,
        "epoch": len(rows),
        "validation": {k: v for k, v in rows[-1].items() if k.startswith("val_")},
        "seconds": round(sum(r["seconds"] for r in rows)),
        "cores": os.cpu_count(),
        "backend": keras.backend.backend(),
        "versions": versions,
    }
