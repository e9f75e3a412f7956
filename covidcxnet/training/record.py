"""What is recorded of a training: the machine, what a weights file says of itself, learning curves."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from covidcxnet import pretrained
from covidcxnet.backend import devices
from covidcxnet.reporting import pages, plots
from enhancement.parallel import sha256

from .recipe import Recipe
from .run import Run

PACKAGES = (
    *("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python-headless", "opencv-python", "scikit-image"),
    *("scikit-learn", "h5py", "pandas", "pydicom", "matplotlib", "lime", "jsonargparse"),
)
AS_GIVEN = (
    *("trainable", "batch_size", "optimizer", "learning_rate", "schedule", "label_smoothing", "class_weights"),
    *("sampling", "precision"),
)
"""Recipe keys that weights files hold as they are."""

FIGURES = {
    "val_auroc": "AUROC",
    "val_average_precision": "average precision",
    "val_accuracy": "accuracy",
    "val_f1": "macro F1",
    "val_loss": "loss",
}


def environment(seed: int, precision: str) -> dict[str, Any]:
    """Versions of what is installed, the machine and the devices that Keras uses."""
    import keras

    # From the installed packages: importing all of them would take seconds.
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "covidcxnet": pages.generator(),
        "python": platform.python_version(),
        "packages": {name: number for name, number in versions.items() if number},
        "backend": keras.backend.backend(),
        "devices": devices(),
        "precision": precision,
        "seed": seed,
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def weights_metadata(
    run: Run, recipe: Recipe, options: dict[str, Any], epoch: int, figures: dict[str, float]
) -> dict[str, Any]:
    """Metadata of the weights after an epoch, from 1: everything needed to use them, and how they came about."""
    plain, status = recipe.to_dict(), run.status
    return {
        "kind": "classifier",
        "architecture": {"name": recipe.model, "options": options},
        "classes": list(recipe.classes),
        "input": run.store.settings.to_dict(),
        "segmenter": dict(run.store.segmenter or {}),
        "training": {
            "run": run.path.name,
            "data": run.store.name,
            "images": {name: status["counts"][name] for name in ("train", "validation")},
            "epoch": int(epoch),
            "monitor": recipe.monitor,
            # Six digits are enough to compare runs and hide the last bit, which differs between machines.
            "figures": {name: round(float(v), 6) for name, v in figures.items() if name.startswith("val_")},
            "seed": recipe.seed,
            "augment": plain["augment"],
            "init": published_name(recipe.init),
            **{name: plain[name] for name in AS_GIVEN},
        },
    }


def published_name(init: str) -> str:
    """Initial weights as a weights file may name them: a name, or a file's name and content, never a machine's path."""
    # A path would reveal the machine to other people and mean nothing to them.
    path = Path(init)
    return f"{path.name}, SHA-256 {sha256(pretrained.resolve(init))}" if path.exists() else path.name


def draw_curves(history: list[dict[str, float]], path: str | Path, *, best_epoch: int = 0, monitor: str = "") -> Path:
    """Draw loss and F1 of training and validation, validation figures and learning rate over epochs, as a PNG.

    A line marks the best epoch, if there is one, and the legend names the figure that picked it.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure, panels = plots.figure(14, 3.6, 1, 4, dpi=110)
    shown = [name for name in ("val_auroc", "val_average_precision", "val_accuracy") if any(name in r for r in history)]
    contents = (
        ("loss", {"loss": "training", "val_loss": "validation"}),
        ("macro F1", {"f1": "training", "val_f1": "validation"}),
        ("validation figures", {name: FIGURES[name] for name in shown}),
        ("learning rate", {"learning_rate": "learning rate"}),
    )
    for axes, (title, names) in zip(panels, contents, strict=True):
        for k, (name, label) in enumerate(names.items()):
            axes.plot(
                epochs, [row.get(name, float("nan")) for row in history], label=label, **plots.line(k, marker=True)
            )
        if best_epoch:
            axes.axvline(best_epoch, **plots.REFERENCE)
            if title == "validation figures":
                label = f"epoch {best_epoch}: best {FIGURES.get(monitor, monitor)}"
                axes.plot([], [], **plots.REFERENCE, label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plots.grid(axes)
        if title == "learning rate" and any(row.get("learning_rate", 0) > 0 for row in history):
            axes.set_yscale("log")
        if axes.get_legend_handles_labels()[0] and title != "learning rate":
            axes.legend(fontsize=8)
    return plots.save(figure, path)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            # platform.processor() is empty on most Linux systems.
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
