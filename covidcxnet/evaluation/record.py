"""What a report records beside its figures: the model, the openings of the test set, settings and command lines."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Any

from covidcxnet.evaluation.description import Model
from enhancement.errors import InputError
from enhancement.files import whole_file

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.evaluation.settings import EvaluationSettings
    from covidcxnet.evaluation.subject import Subject
    from covidcxnet.training import Run

OPENINGS = "test_opened.json"


def model_of(classifier: Classifier) -> Model:
    """Which model it is, and whose file."""
    from enhancement.parallel import sha256

    path = classifier.path
    architecture = classifier.metadata.get("architecture", {})
    return Model(
        name=str(architecture.get("name") or classifier.model.name),
        weights=str(path or "not from a file"),
        sha256=sha256(path) if path is not None else "",
        parameters=int(classifier.model.count_params()),
        size=path.stat().st_size if path is not None else 0,
        training=classifier.metadata.get("training") or {},
    )


def circumstances(run: Run | None, classifier: Classifier, seed: int) -> dict[str, Any]:
    """What `Evaluation` records of the training, the settings and the machine, by its names."""
    from covidcxnet.training.environment import environment

    trained = classifier.metadata.get("training") or {}
    epoch = trained.get("epoch", run.status.get("best_epoch") if run is not None else None)
    return {
        "log": run.log if run is not None and (run.path / "log.csv").is_file() else None,
        "best_epoch": None if epoch is None else int(epoch),
        "input_settings": classifier.input.to_dict(),
        "recipe": run.recipe.to_dict() if run is not None else {},
        "environment": environment(seed, "float32"),
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
    }


def open_test(subject: Subject, sha256: str, threshold: float | str) -> tuple[dict[str, Any], ...]:
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


def commands(run: Run | None, target, data, of_data, split, settings: EvaluationSettings) -> tuple[str, ...]:
    """Command lines that make the report again; the training of `run` among them where there is one."""
    words = ["python", "evaluate.py", str(target)]
    if data is not None:
        words += ["--data", str(data)]
        words += ["--root", str(of_data["root"])] if of_data["root"] else []
        for key, value in (of_data["where"] or {}).items():
            values = value if isinstance(value, (list, tuple)) else [value]
            words += ["--where", f"{key}={','.join(map(str, values))}"]
        for path in of_data["seen"]:
            words += ["--seen", str(path)]
        for label, name in (of_data["count"] or {}).items():
            words += ["--count", f"{label}={name}"]
    else:
        words += ["--split", split]
    words += ["--bootstrap", str(settings.bootstrap), "--seed", str(settings.seed)]
    words += ["--threshold", str(settings.threshold)] if settings.threshold != 0.5 else []
    again = shlex.join(words)
    return (
        (again,) if run is None else (shlex.join(["python", "train.py", "--recipe", f"{run.path}/recipe.yaml"]), again)
    )
