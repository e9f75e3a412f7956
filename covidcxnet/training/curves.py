"""Learning curves of a run as one picture, readable without colour vision."""

from __future__ import annotations

from pathlib import Path

from enhancement.files import whole_file

NAMES = {
    "val_auroc": "AUROC",
    "val_average_precision": "average precision",
    "val_accuracy": "accuracy",
    "val_loss": "loss",
}


def draw_curves(history: list[dict[str, float]], path: str | Path, *, best_epoch: int = 0, monitor: str = "") -> Path:
    """Draw losses, validation figures and learning rate over epochs.

    Parameters
    ----------
    history : list of dict
        Rows of the log.
    path : path-like
        PNG to write.
    best_epoch : int
        Marked by a line; 0 for none.
    monitor : str
        Name of the figure that picked it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss, figures, rate = figure.subplots(1, 3)
    for axes, names, title in (
        (loss, {"loss": "training", "val_loss": "validation"}, "loss"),
        (figures, {name: NAMES[name] for name in NAMES if name != "val_loss"}, "validation figures"),
        (rate, {"learning_rate": "learning rate"}, "learning rate"),
    ):
        styles = (("-", "o", "#1b4f72"), ("--", "s", "#b9770e"), (":", "^", "#616a6b"))
        for (name, label), (line, marker, colour) in zip(names.items(), styles, strict=False):
            values = [row.get(name, float("nan")) for row in history]
            axes.plot(epochs, values, line, marker=marker, color=colour, label=label, markersize=4, linewidth=1.6)
        if best_epoch:
            axes.axvline(best_epoch, color="#7f8c8d", linewidth=0.9, linestyle=(0, (1, 2)))
            if axes is figures:
                label = _best(best_epoch, monitor)
                axes.plot([], [], color="#7f8c8d", linewidth=0.9, linestyle=(0, (1, 2)), label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        if len(names) > 1:
            axes.legend(fontsize=8)
    if any(row.get("learning_rate", 0) > 0 for row in history):
        rate.set_yscale("log")
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    return Path(path)


def _best(epoch: int, monitor: str) -> str:
    return f"epoch {epoch}: best {NAMES.get(monitor, monitor)}"
