"""`evaluate`: from a run, or weights and data, to a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.evaluation.asked import word_for
from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.cases import choose
from covidcxnet.evaluation.findings import Findings
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.places import compare_places
from covidcxnet.evaluation.predicting import predict_subject, predict_validation
from covidcxnet.evaluation.predictions import Predictions, youden_threshold
from covidcxnet.evaluation.record import circumstances, commands, model_of, open_test
from covidcxnet.evaluation.report import Report, write_report
from covidcxnet.evaluation.settings import EvaluationSettings
from covidcxnet.evaluation.sources import by_source
from covidcxnet.evaluation.subject import Subject, find_run, newest_run, subject_of_data, subject_of_run
from covidcxnet.preparation import stack_statistics
from enhancement.errors import InputError
from enhancement.files import check_output

if TYPE_CHECKING:
    from covidcxnet.training import Run


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
    explain: bool = True,
    lime: int = 3,
    lime_samples: int = 1000,
    bootstrap: int = 2000,
    threshold: float | str = 0.5,
    seed: int = 0,
    batch_size: int = 16,
    jobs: int | None = None,
    progress: bool = True,
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
        `seen.read_seen`). Images that stand there as train or validation, and images of their patients, are left out.
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
    explain : bool
        Show right and wrong cases with Grad-CAM. Where the model sees whole radiographs, lungs are looked for in
        these cases alone, to be drawn as an outline.
    lime, lime_samples : int
        For how many of them LIME is computed too, and from how many perturbed stacks each.
    bootstrap : int
        Resamples of patients; 0 for none.
    threshold : float or "auto"
        Two classes: probability from which the second is called. "auto" takes Youden's on the run's validation split.
        Independent findings: each has its own, which the weights bring; "auto" chooses them anew on validation, and a
        number other than 0.5 is taken for all.
    seed : int
        Of bootstrap and LIME.
    batch_size, jobs, progress
        Stacks in a forward pass, processes that prepare, and whether bars are shown.

    Returns
    -------
    Report
        With `.path` (the page) and `.findings`.

    Raises
    ------
    InputError
        If there is nothing to evaluate, or it does not fit the model.
    """
    lists: tuple[str | Path, ...] = (seen,) if isinstance(seen, (str, Path)) else tuple(seen)
    of_data: dict[str, Any] = {"root": root, "where": where, "seen": lists, "count": count, "store": store}
    _check(data, of_data, split)
    settings = EvaluationSettings(
        threshold=threshold,
        bootstrap=bootstrap,
        seed=seed,
        explain=explain,
        lime=lime,
        lime_samples=lime_samples,
        batch_size=batch_size,
        progress=progress,
    )
    from covidcxnet.pretrained import load_model

    given: str | Path = newest_run() if target is None else target if isinstance(target, (str, Path)) else target.path
    if len(Path(given).parts) > 1 and not Path(given).exists():
        raise InputError(f"{given}: no such run folder or weights file")
    run = find_run(given)
    classifier = load_model(run.best_weights if run is not None and Path(given).is_dir() else given)
    folder = check_output(_folder(out, run, classifier, given, data, split), folder=True)
    if data is not None:
        subject = subject_of_data(classifier, run, data, folder, **of_data, jobs=jobs, progress=progress)
    elif run is not None:
        subject = subject_of_run(run, classifier, split or "test")
    else:
        raise InputError(f"{given}: weights alone say nothing about images; give --data FOLDER or CSV")
    own = run if subject.own else None
    asked = commands(own, given, data, of_data, subject.data.split, settings)
    if classifier.multilabel:
        from covidcxnet.evaluation.multilabel import evaluate_findings

        return evaluate_findings(subject, run, folder, settings, asked)
    return evaluate_classes(subject, run, folder, settings, asked)


def evaluate_classes(
    subject: Subject, run: Run | None, folder: Path, settings: EvaluationSettings, commands: tuple[str, ...]
) -> Report:
    """Evaluate a classifier of classes that exclude each other and write the report; `commands` make it again."""
    classifier = subject.classifier
    cut, origin = _threshold(subject, settings)
    probabilities = predict_subject(subject, settings)
    everything = Predictions(subject.table, probabilities, classifier.classes, cut)
    # What is only counted as a class may not water down the figures of that class's own images.
    kept = np.flatnonzero(~everything.apart)
    predictions = everything if len(kept) == len(everything) else everything.only(kept)
    model = model_of(classifier)
    openings = open_test(subject, model.sha256, cut)
    draws = Bootstrap(everything.column("patient"), len(everything), resamples=settings.bootstrap, seed=settings.seed)
    resampled = draws if predictions is everything else draws.part(kept)
    truth = (predictions.targets, predictions.probabilities)
    sources, trained_sources = predictions.column("source"), subject.data.trained_sources
    cases: tuple = ()
    if settings.explain:
        from covidcxnet.evaluation.drawing import draw_cases

        cases = draw_cases(
            choose(predictions),
            predictions,
            subject.store,
            subject.rows[kept],
            classifier,
            lime=settings.lime,
            samples=settings.lime_samples,
            seed=settings.seed,
            progress=settings.progress,
        )
    findings = Findings(
        model=model,
        data=subject.data,
        predictions=predictions,
        metrics=measure(*truth, classifier.classes, resampled, predictions.predicted),
        sources=by_source(sources, *truth, predictions.predicted, classifier.classes, resampled, trained_sources),
        resamples=settings.bootstrap,
        seed=settings.seed,
        unknown_patients=resampled.unknown,
        threshold_from=origin,
        openings=openings,
        cases=cases,
        commands=commands,
        places=compare_places(
            everything.table,
            everything.targets,
            probabilities,
            classifier.classes,
            draws,
            seen_sources=trained_sources,
            trained_on=subject.trained_on,
            labelled=everything.labelled,
            statistics=None if sources is None else stack_statistics(subject.store, subject.rows, settings.progress),
        ),
        with_counted=None if predictions is everything else everything,
        **circumstances(run, classifier, settings.seed),
    )
    return write_report(findings, folder)


def _check(data, of_data: dict[str, Any], split) -> None:
    from covidcxnet.datasets.named import folder_of

    alone = [name for name, value in of_data.items() if value]
    if data is None and alone:
        raise InputError(f"{alone[0]}: belongs to --data, which is not given")
    if data is not None and split is not None:
        raise InputError(f"split: {split!r} given, but splits belong to a run's own images; --data is evaluated whole")
    if data is not None and str(data) != "phantom" and not folder_of(data).expanduser().exists():
        raise InputError(f"{data}: no such folder or CSV file (nor the word phantom, nor a set as NAME:FOLDER)")


def _folder(out, run, classifier, given, data, split) -> Path:
    if out is not None:
        return Path(out)
    part = word_for(data) if data is not None else ("" if split in (None, "test") else split)
    if run is not None:
        return run.path / f"report-{part}" if part else run.path / "report"
    name = (classifier.path or Path(str(given))).name.removesuffix(".weights.h5")
    return Path("reports") / f"{name}-{part}"


def _threshold(subject: Subject, settings: EvaluationSettings) -> tuple[float, str]:
    """The probability to decide at, and in words where it comes from."""
    if settings.threshold == 0.5:
        return 0.5, "the default"
    if len(subject.classifier.classes) != 2:
        raise InputError("threshold: is for two classes; with more, the most probable class is called")
    if settings.threshold != "auto":
        return float(settings.threshold), "as asked for"
    store, rows, probabilities = predict_validation(subject, settings)
    cut = youden_threshold(probabilities[:, 1], store.targets[rows] == 1)
    return cut, "highest sensitivity + specificity on the validation split"
