"""`evaluate`: from a run, or weights and data, to a report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.cases import choose
from covidcxnet.evaluation.findings import Findings, Model
from covidcxnet.evaluation.metrics import measure
from covidcxnet.evaluation.predictions import Predictions, youden_threshold
from covidcxnet.evaluation.report import Report, write_report
from covidcxnet.evaluation.sources import by_source
from covidcxnet.evaluation.subject import Subject, find_run, newest_run, subject_of_data, subject_of_run
from enhancement.errors import InputError
from enhancement.files import whole_file

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.preparation import Store
    from covidcxnet.training import Run

OPENINGS = "test_opened.json"
_CHUNK = 256  # stacks read at once: 75 MB at 320 x 320 x 3


def evaluate(
    target: str | Path | Run | None = None,
    *,
    data: str | Path | None = None,
    root: str | Path | None = None,
    where: Mapping[str, Any] | None = None,
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
        Other data: a folder with one folder per class, a CSV, or "phantom" (phantoms that no training has seen). They
        are prepared as the weights ask for.
    root, where
        Of `data`: folder that a CSV's paths are relative to, and rows to use as column to value or values.
    split : {"test", "validation", "train", "all"}, optional
        Of a run without `data`; "test" by default.
    out : str or Path, optional
        Folder of the report; by default `report` in the run, and under reports/ for weights alone.
    explain : bool
        Show right and wrong cases with Grad-CAM.
    lime, lime_samples : int
        For how many of them LIME is computed too, and from how many perturbed stacks each.
    bootstrap : int
        Resamples of patients; 0 for none.
    threshold : float or "auto"
        Two classes: probability from which the second is called. "auto" takes Youden's on the run's validation split.
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
    _check(data, root, where, split, lime, bootstrap, threshold, batch_size)
    from covidcxnet.pretrained import load_model

    given: str | Path = newest_run() if target is None else target if isinstance(target, (str, Path)) else target.path
    if len(Path(given).parts) > 1 and not Path(given).exists():
        raise InputError(f"{given}: no such run folder or weights file")
    run = find_run(given)
    classifier = load_model(run.best_weights if run is not None and Path(given).is_dir() else given)
    folder = _folder(out, run, classifier, given, data, split)
    if data is not None:
        subject = subject_of_data(classifier, run, data, folder, root=root, where=where, jobs=jobs, progress=progress)
    elif run is not None:
        subject = subject_of_run(run, classifier, split or "test")
    else:
        raise InputError(f"{given}: weights alone say nothing about images; give --data FOLDER or CSV")
    table = subject.store.table.iloc[subject.rows].reset_index(drop=True)
    cut, origin = _threshold(subject, threshold, batch_size, progress)
    probabilities = _predict(subject.store, subject.rows, classifier, batch_size, progress, subject.data.split)
    predictions = Predictions(table, probabilities, classifier.classes, cut)
    model = _model(classifier)
    openings = _open_test(subject, model.sha256, cut)
    resampled = Bootstrap(predictions.column("patient"), len(predictions), resamples=bootstrap, seed=seed)
    truth = (predictions.targets, probabilities)
    cases: tuple = ()
    if explain:
        from covidcxnet.evaluation.drawing import draw_cases

        options: dict[str, Any] = {"lime": lime, "samples": lime_samples, "seed": seed, "progress": progress}
        cases = draw_cases(choose(predictions), predictions, subject.store, subject.rows, classifier, **options)
    own = run if subject.own else None
    findings = Findings(
        model=model,
        data=subject.data,
        predictions=predictions,
        metrics=measure(*truth, classifier.classes, resampled, predictions.predicted),
        sources=by_source(predictions.column("source"), *truth, predictions.predicted, classifier.classes, resampled),
        resamples=bootstrap,
        seed=seed,
        unknown_patients=resampled.unknown,
        threshold_from=origin,
        openings=openings,
        cases=cases,
        log=run.log if run is not None and (run.path / "log.csv").is_file() else None,
        best_epoch=_best_epoch(run, classifier),
        input_settings=classifier.input.to_dict(),
        recipe=run.recipe.to_dict() if run is not None else {},
        environment=_environment(seed),
        commands=_commands(own, given, data, root, where, subject.data.split, bootstrap, threshold, seed),
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    return write_report(findings, folder)


def _check(data, root, where, split, lime, bootstrap, threshold, batch_size) -> None:
    if data is None and (root or where):
        raise InputError(f"{'root' if root else 'where'}: belongs to --data, which is not given")
    if data is not None and split is not None:
        raise InputError(f"split: {split!r} given, but splits belong to a run's own images; --data is evaluated whole")
    if data is not None and str(data) != "phantom" and not Path(data).exists():
        raise InputError(f"{data}: no such folder or CSV file (or give the word phantom)")
    for name, value, least in (("lime", lime, 0), ("bootstrap", bootstrap, 0), ("batch_size", batch_size, 1)):
        if value < least:
            raise InputError(f"{name}: {value} given, {least} or more expected")
    if threshold != "auto" and not (isinstance(threshold, (int, float)) and 0 < threshold < 1):
        raise InputError(f"threshold: {threshold!r} given, auto or a number between 0 and 1 expected")


def _folder(out, run, classifier, given, data, split) -> Path:
    if out is not None:
        return Path(out)
    part = Path(data).absolute().stem if data is not None else ("" if split in (None, "test") else split)
    if run is not None:
        return run.path / f"report-{part}" if part else run.path / "report"
    name = (classifier.path or Path(str(given))).name.removesuffix(".weights.h5")
    return Path("reports") / f"{name}-{part}"


def _threshold(subject: Subject, threshold: float | str, batch_size: int, progress: bool) -> tuple[float, str]:
    """The probability to decide at, and in words where it comes from."""
    if threshold == 0.5:
        return 0.5, "the default"
    if len(subject.classifier.classes) != 2:
        raise InputError("threshold: is for two classes; with more, the most probable class is called")
    if threshold != "auto":
        return float(threshold), "as asked for"
    run = subject.run
    if run is None:
        raise InputError("threshold: auto is chosen on a run's validation split; these weights come without their run")
    rows, store = run.rows("validation"), run.store
    probabilities = _predict(store, rows, subject.classifier, batch_size, progress, "validation")
    cut = youden_threshold(probabilities[:, 1], store.targets[rows] == 1)
    return cut, "highest sensitivity + specificity on the validation split"


def _predict(store: Store, rows, classifier: Classifier, batch_size: int, progress: bool, name: str) -> np.ndarray:
    """Probabilities float32 [n, C] of rows of a store; memory stays flat."""
    from tqdm import tqdm

    parts = []
    with tqdm(total=len(rows), desc=f"predicting {name}", unit="image", disable=not progress) as bar:
        for start in range(0, len(rows), _CHUNK):
            stacks = store.read(rows[start : start + _CHUNK])
            parts.append(classifier.predict_stacks(stacks, batch_size=batch_size))
            bar.update(len(stacks))
    return np.concatenate(parts) if parts else np.empty((0, len(classifier.classes)), np.float32)


def _open_test(subject: Subject, sha256: str, threshold: float) -> tuple[dict[str, Any], ...]:
    """Write down in the run that its test set was looked at; every time so far, oldest first."""
    if not subject.own or subject.run is None or subject.data.split not in ("test", "all"):
        return ()
    path = subject.run.path / OPENINGS
    try:
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); it says how often the test set was opened") from error
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    openings = [*before, {"date": now, "weights_sha256": sha256, "threshold": threshold, "images": len(subject.rows)}]
    with whole_file(path) as partial:
        partial.write_text(json.dumps(openings, indent=2) + "\n", encoding="utf-8")
    return tuple(openings)


def _model(classifier: Classifier) -> Model:
    from segmentation.weight_files import file_sha256

    path = classifier.path
    architecture = classifier.metadata.get("architecture", {})
    return Model(
        name=str(architecture.get("name") or classifier.model.name),
        weights=str(path or "not from a file"),
        sha256=file_sha256(path) if path is not None else "",
        parameters=int(classifier.model.count_params()),
        training=classifier.metadata.get("training") or {},
    )


def _best_epoch(run: Run | None, classifier: Classifier) -> int | None:
    trained = classifier.metadata.get("training") or {}
    epoch = trained.get("epoch", run.status.get("best_epoch") if run is not None else None)
    return None if epoch is None else int(epoch)


def _environment(seed: int) -> dict[str, Any]:
    from covidcxnet.training.environment import environment

    return environment(seed, "float32")


def _commands(run: Run | None, target, data, root, where, split, bootstrap, threshold, seed) -> tuple[str, ...]:
    words = ["python", "evaluate.py", str(target)]
    if data is not None:
        words += ["--data", str(data)]
        words += ["--root", str(root)] if root else []
        for key, value in (where or {}).items():
            values = value if isinstance(value, (list, tuple)) else [value]
            words += ["--where", f"{key}={','.join(map(str, values))}"]
    else:
        words += ["--split", split]
    words += ["--bootstrap", str(bootstrap), "--seed", str(seed)]
    words += ["--threshold", str(threshold)] if threshold != 0.5 else []
    again = shlex.join(words)
    return (
        (again,) if run is None else (shlex.join(["python", "train.py", "--recipe", f"{run.path}/recipe.yaml"]), again)
    )
