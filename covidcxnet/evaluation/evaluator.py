"""`evaluate`: from a run, or weights and data, to a report on disk, step by step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from covidcxnet.datasets.load import address_of, folder_of
from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.by_source import by_source
from covidcxnet.evaluation.card import card
from covidcxnet.evaluation.cases import choose, draw
from covidcxnet.evaluation.cautions import cautions
from covidcxnet.evaluation.images import find_run, images_of_data, images_of_run, newest_run
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.page import page
from covidcxnet.evaluation.predictions import Predictions, filled, truth_of
from covidcxnet.evaluation.provenance import EvaluationSettings, circumstances, commands, log_opening, model_of
from covidcxnet.evaluation.report import Case, Report
from covidcxnet.evaluation.thresholds import thresholds_for
from covidcxnet.preparation import stack_statistics
from covidcxnet.pretrained import load_model
from covidcxnet.training import Run
from enhancement.errors import InputError
from enhancement.files import check_output, write_all


def evaluate(
    target: str | Path | Run | None = None,
    *,
    data: str | Path | None = None,
    root: str | Path | None = None,
    where: Mapping[str, Any] | None = None,
    seen: str | Path | Sequence[str | Path] = (),
    count: Mapping[str, str] | None = None,
    store: str | Path | None = None,
    split: str | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    **settings: Any,
) -> Report:
    """Evaluate a run on its own split, or weights on other data, and write the report.

    Parameters
    ----------
    target : str, Path or Run, optional
        A run folder (its best weights), a weights file or a released name; the newest run under runs/ by default.
    data : str or Path, optional
        Other data: ``NAME:FOLDER`` of a public set, a folder with one folder per class, a CSV, or "phantom" (phantoms
        that no training has seen). They are prepared as the weights ask for; lungs are looked for in all of them only
        where the weights' region of interest needs them.
    root, where
        Of `data`: folder that a CSV's paths are relative to, and rows to use as column to value or values.
    seen : path-like or sequence of them
        Of `data`: lists of what was trained on, such as a run's split.csv or the list beside released weights (see
        `provenance.read_training_lists`). Images that stand there as train or validation, and images of their
        patients, are left out.
    count : mapping, optional
        Of `data`: labels that the model does not know, to the class that their images are counted as, such as
        ``{"pneumonia": "covid19"}``. The report says that they are not.
    store : path-like, optional
        Of `data`: file that keeps the prepared stacks, for other weights with the same input; what it lacks is added.
        By default a store in the report's folder.
    split : {"test", "validation", "train", "all"}, optional
        Of a run without `data`; "test" by default.
    out : str or Path, optional
        Folder of the report; by default `report` in the run, and under reports/ for weights alone.
    jobs : int, optional
        Processes that prepare `data`; one for each core by default.
    **settings
        Of `provenance.EvaluationSettings`: explain, lime, lime_samples, bootstrap, threshold, seed, batch_size,
        progress, engine, precision.

    Returns
    -------
    Report
        Everything that stands in the report, and with `.path` the page.

    Raises
    ------
    InputError
        If there is nothing to evaluate, or it does not fit the model.
    """
    how = EvaluationSettings(**settings)
    lists: tuple[str | Path, ...] = (seen,) if isinstance(seen, (str, Path)) else tuple(seen)
    of_data: dict[str, Any] = {"root": root, "where": where, "seen": lists, "count": count, "store": store}
    part = _check(data, of_data, split)

    # The model, and the images it is evaluated on.
    given: str | Path = newest_run() if target is None else target.path if isinstance(target, Run) else target
    run = find_run(given)
    weights = run.best_weights if run is not None and Path(given).is_dir() else given
    classifier = load_model(weights, engine=how.engine, precision=how.precision)
    folder = check_output(_folder(out, run, classifier, given, part), folder=True)
    if data is not None:
        images = images_of_data(classifier, run, data, folder, **of_data, jobs=jobs, progress=how.progress)
    elif run is not None:
        images = images_of_run(run, classifier, split or "test")
    else:
        raise InputError(f"{given}: weights need images to evaluate; give --data FOLDER or CSV")

    # Predictions. Thresholds are chosen before, on validation, and the look at the test set is written down.
    truth = truth_of(images.table, classifier.classes, classifier.task)
    if np.isnan(truth).all():
        raise InputError(f"{images.data.name}: none of {', '.join(classifier.classes)} is known of any image")
    thresholds, origin = thresholds_for(images, how)
    # Stacks are read once, here: the intensity probe measures them while they are in memory.
    measured: list[np.ndarray] = []
    probabilities = classifier.predict_rows(
        images.store,
        images.rows,
        how.batch_size,
        how.progress,
        images.data.split,
        # Without sources there is nothing to probe.
        look=(lambda stacks: measured.append(stack_statistics(stacks, classifier.input.channels)))
        if filled(images.table, "source")
        else None,
    )
    predictions = Predictions(images.table, truth, probabilities, classifier.classes, thresholds, classifier.task)
    model = model_of(classifier)
    openings: tuple[dict[str, Any], ...] = ()
    if images.own_run is not None and images.data.split in ("test", "all"):
        cut = float(thresholds[-1]) if predictions.task == "exclusive" else ",".join(f"{t:.5g}" for t in thresholds)
        openings = log_opening(images.own_run, model.sha256, cut, len(predictions))

    # Figures: of graded images, and by source of all of them, from the same draws of patients.
    draws = Bootstrap(predictions.column("patient"), len(predictions), resamples=how.bootstrap, seed=how.seed)
    graded = np.flatnonzero(~predictions.ungraded)
    resampled = draws if len(graded) == len(predictions) else draws.part(graded)
    metrics = measure(predictions.graded, resampled)
    training: dict[str, Any] = {"trained_sources": images.data.trained_sources, "trained_on": images.trained_on}
    statistics = np.concatenate(measured) if measured else None
    measured.clear()
    sites = by_source(predictions, draws, statistics=statistics, **training)

    # Cases, then everything together.
    cases: tuple[Case, ...] = ()
    if how.explain:
        shown = predictions.graded
        cases = draw(choose(shown), shown, images.store, images.rows[graded], classifier, how)
    report = Report(
        folder,
        model,
        images.data,
        predictions,
        metrics,
        sites,
        resamples=how.bootstrap,
        seed=how.seed,
        unknown_patients=resampled.unknown,
        threshold_from=origin,
        openings=openings,
        cases=cases,
        commands=commands(images.own_run, given, data, of_data, images.data.split, how),
        **circumstances(run, classifier, how.seed),
    )
    report = replace(report, cautions=cautions(report))
    write(report)
    return report


def write(report: Report) -> None:
    """Write the four files into the report's folder, all or none; the page takes its name last."""
    numbers = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    texts = {report.path: page(report), report.card_path: card(report), report.metrics_path: numbers}
    files: dict[str, Any] = {path.name: text.encode() for path, text in texts.items()}
    write_all(report.folder, files | {report.predictions_path.name: report.predictions.to_csv})


def _check(data, of_data: Mapping[str, Any], split: str | None) -> str:
    """Refuse what does not fit together; what the report's folder is named after, empty for a run's test split."""
    if data is None:
        if alone := [name for name, value in of_data.items() if value]:
            raise InputError(f"{alone[0]}: belongs to --data, which is not given")
        return "" if split in (None, "test") else str(split)
    if split is not None:
        raise InputError(f"split: {split!r} given, but splits belong to a run's own images; --data is evaluated whole")
    # Before the model is loaded, which takes seconds: a mistyped folder is the commonest mistake.
    if str(data) != "phantom" and not folder_of(data).expanduser().exists():
        raise InputError(f"{data}: no such folder or CSV file (nor the word phantom, nor a set as NAME:FOLDER)")
    address = address_of(data)
    return Path(data).absolute().stem if address is None else address[0]


def _folder(out, run: Run | None, classifier, given, part: str) -> Path:
    if out is not None:
        return Path(out)
    if run is not None:
        return run.path / f"report-{part}" if part else run.path / "report"
    name = (classifier.path or Path(str(given))).name.removesuffix(".weights.h5")
    return Path("reports") / f"{name}-{part}"
