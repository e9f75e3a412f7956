"""What a classifier's weights file says of itself: everything needed to use it, and how it came about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .initial_weights import named

if TYPE_CHECKING:
    from .recipe import Recipe
    from .run import Run

TOLD = (
    "trainable",
    "batch_size",
    "optimizer",
    "learning_rate",
    "schedule",
    "label_smoothing",
    "class_weights",
    "sampling",
    "precision",
)
"""Recipe keys that are written as they are."""


def weights_metadata(
    run: Run, recipe: Recipe, options: dict[str, Any], epoch: int, figures: dict[str, float]
) -> dict[str, Any]:
    """Metadata of the weights after an epoch; epochs count from 1.

    Parameters
    ----------
    run : Run
        Prepared: its store and counts are read.
    recipe : Recipe
        With its classes.
    options : dict
        What `models.create` needs to build the model again.
    epoch : int
    figures : dict
        Of the epoch; those of validation are kept.
    """
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
            "figures": {name: round(float(v), 6) for name, v in figures.items() if name.startswith("val_")},
            "seed": recipe.seed,
            "augment": plain["augment"],
            "init": named(recipe.init),
            **{name: plain[name] for name in TOLD},
        },
    }
