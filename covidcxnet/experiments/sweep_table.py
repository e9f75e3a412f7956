"""The table of a sweep: a row of figures for each training, means with t intervals over the repeats of each cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import LEVEL
from covidcxnet.experiments.compared_runs import called_normal, report_of
from covidcxnet.experiments.sweep_plan import Trial, text_of
from covidcxnet.reporting.table import Estimate, frame_csv
from covidcxnet.training.recipe import Recipe
from covidcxnet.training.run_folder import Run

TEST = {
    "f1": "F1, mean over classes",
    "accuracy": "Accuracy",
    "auroc": "AUROC",
    "auroc_seen": "AUROC within seen sources",
    "auroc_held_out": "AUROC within held-out sources",
}
PROBES = {"probe_seen": "within seen sources", "probe_held_out": "within held-out sources"}
VALIDATION = {"val_f1": "F1, validation", "val_accuracy": "Accuracy, validation", "val_auroc": "AUROC, validation"}
_REPORTED = {"f1": "macro_f1", "accuracy": "accuracy", "auroc": "auroc"}
MISSED = "_called_normal"
_INTERNAL = r"_undefined$|^resamples$|^cell$"  # columns that only pages and plots need


@dataclass(frozen=True)
class Sweep:
    """What came out of a sweep; its folder holds the page, the tables, the plot, the split and a folder a cell."""

    folder: Path
    keys: tuple[str, ...]  # what was swept
    trials: tuple[Trial, ...]  # those that were run, failed ones too
    runs: pd.DataFrame  # a row a trial: cell, values, seed, folder, figures; `failed` says why there are none
    repeats: int  # trainings of each cell
    tested: bool  # whether the test set was opened
    recipe: Recipe  # what was not swept
    created: str = ""  # local date and time

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / "sweep.html"

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Name and reason of each training without figures."""
        return [(t.name, reason) for t, reason in zip(self.trials, self.runs["failed"], strict=True) if reason]

    @property
    def cells(self) -> pd.DataFrame:
        """A row for each combination of values, in the order of the grid: mean, deviation and interval of figures."""
        cells = self.runs.groupby("cell", sort=False)
        values = {name: self.trials[runs.index[0]].values for name, runs in cells}
        texts = {name: {key: text_of(value) for key, value in pairs.items()} for name, pairs in values.items()}
        return pd.DataFrame([{"cell": name} | texts[name] | _summary(runs) for name, runs in cells])


def row_of(trial: Trial, folder: Path) -> dict[str, Any]:
    """What is known of a training before it begins."""
    values = {key: text_of(value) for key, value in trial.values.items()}
    return {"cell": trial.cell} | values | {"seed": trial.seed, "run": trial.folder.relative_to(folder).as_posix()}


def figures_of(run: Run, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Figures of a finished run: its log's and its test report's, made with `options`; None leaves the test closed."""
    status, log = run.status, run.log
    # the log of a run in two stages holds the figures of the second level alone
    best = status.get("whole_model") or status.get("best", {})
    line: dict[str, Any] = {name: float(best[name]) for name in VALIDATION if best.get(name) is not None}
    line |= {"best_epoch": float(status.get("best_epoch", math.nan)), "epochs": float(len(log))}
    line["seconds"] = float(log["seconds"].median()) if "seconds" in log else math.nan
    if options is None:
        zeros = [name.removeprefix("val_f1_") for name, v in best.items() if name.startswith("val_f1_") and v == 0]
        return line | {"zero_f1_classes": ";".join(zeros), "failed": ""}
    report, _ = report_of(run, **options)
    for name, key in _REPORTED.items():
        if key in report["overall"]:
            figure = Estimate.from_dict(report["overall"][key], report["bootstrap"]["resamples"])
            line[name] = figure.value
            if not math.isnan(figure.low):
                line |= {f"{name}_low": figure.low, f"{name}_high": figure.high, f"{name}_undefined": figure.undefined}
    line |= _within(report)
    for name, (missed, images) in called_normal(report).items():
        line |= {f"{name}{MISSED}": missed, f"{name}_images": images}
    zeros = [label for label, part in report["by_class"].items() if (part.get("f1") or {}).get("value") == 0]
    line["resamples"] = report["bootstrap"]["resamples"]
    return line | {"zero_f1_classes": ";".join(zeros), "failed": ""}


def _within(report: Mapping[str, Any]) -> dict[str, float]:
    """Means of the AUROCs within single sources, where no source can be recognised instead of a disease.

    Seen in training and held out, of the model and of the intensity probe.
    """
    line: dict[str, float] = {}
    rows = [row for row in (report.get("places") or {}).get("rows", ()) if row["kind"] == "within"]
    for seen, place in ((True, "seen"), (False, "held_out")):
        pairs = [pair for row in rows if row["seen"] is seen for pair in row["comparisons"]]
        for name, key in (("auroc", "auroc"), ("probe", "statistics")):
            estimates = [Estimate.from_dict(pair.get(key)) for pair in pairs]
            defined = [estimate for estimate in estimates if not math.isnan(estimate.value)]
            if defined:
                line[f"{name}_{place}"] = float(np.mean([estimate.value for estimate in defined]))
            if len(defined) == 1 and name == "auroc" and not math.isnan(defined[0].low):
                line |= {f"auroc_{place}_low": defined[0].low, f"auroc_{place}_high": defined[0].high}
    return line


def _summary(runs: pd.DataFrame) -> dict[str, Any]:
    """All repeats of one cell as one row."""
    finished = runs[runs["failed"] == ""]
    line: dict[str, Any] = {"repeats": len(runs), "finished": len(finished)}
    for name in (*VALIDATION, *TEST, *PROBES, "best_epoch", "seconds"):
        values = finished[name].dropna().to_numpy(float) if name in finished else np.empty(0)
        if not len(values):
            continue
        line[name] = float(values.mean())
        if name in ("best_epoch", "seconds", *PROBES):
            continue
        figure = t_interval(values)
        line[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        line |= {f"{name}_low": figure.low, f"{name}_high": figure.high}
        if len(runs) == 1:
            # a single planned training keeps its own interval over patients
            columns = ("resamples", *(f"{name}_{part}" for part in ("low", "high", "undefined")))
            line |= {key: finished[key].iloc[0] for key in columns if key in finished}
    for column in map(str, finished):
        images = column.removesuffix(MISSED) + "_images"
        if column.endswith(MISSED) and finished[column].notna().any():
            line |= {column: float(finished[column].mean()), images: int(finished[images].dropna().iloc[0])}
    reasons = [f"failed: {reason}" for reason in runs["failed"] if reason]
    zeros = [f"F1 0 for {names.replace(';', ', ')}" for names in runs["zero_f1_classes"] if names]
    counted = [(text, texts.count(text)) for texts in (reasons, zeros) for text in dict.fromkeys(texts)]
    return line | {"notes": "; ".join(f"{number} of {len(runs)}: {text}" for text, number in counted)}


def t_interval(values: np.ndarray) -> Estimate:
    """Mean of proportions float [n] with the 95% interval of Student's t, cut at 0 and 1; none for fewer than two."""
    if len(values) < 2:
        return Estimate(float(values[0]) if len(values) else math.nan)
    from scipy.stats import t

    mean = float(np.mean(values))
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))


def to_csv(frame: pd.DataFrame) -> str:
    """Runs or cells of a sweep as CSV."""
    internal = frame.columns[frame.columns.str.contains(_INTERNAL)]
    return frame_csv(frame.drop(columns=internal), float_format="%.6g")
