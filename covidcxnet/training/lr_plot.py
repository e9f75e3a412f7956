"""A range test as a picture and as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from enhancement.files import whole_file

if TYPE_CHECKING:
    from .lr_finder import RangeTest


def draw_range_test(found: RangeTest, path: str | Path, *, title: str = "") -> Path:
    """Draw the loss over the learning rate, as a PNG; the suggested rate is marked."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, ".", color="#aab7b8", markersize=4, label="loss of a batch")
    axes.plot(found.rates, found.smoothed, color="#1b4f72", linewidth=1.8, label="smoothed")
    if found.suggested is not None:
        axes.axvline(found.suggested, color="#b9770e", linestyle="--", label=f"steepest fall: {found.suggested:.2g}")
    # What ran away would press everything before it flat.
    first = float(np.median(found.losses[:10]))
    low = min(float(found.losses.min()), float(found.smoothed.min()))
    axes.set_ylim(low - 0.08 * (first - low + 0.1), min(float(found.losses.max()), 2 * first) + 0.05 * first)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    return Path(path)


def save_range_test(found: RangeTest, path: str | Path) -> Path:
    """Write step, learning_rate, loss and smoothed as CSV."""
    import pandas as pd

    columns = {"learning_rate": found.rates, "loss": found.losses, "smoothed": found.smoothed}
    with whole_file(path) as partial:
        pd.DataFrame(columns).rename_axis("step").to_csv(partial, float_format="%.7g")
    return Path(path)
