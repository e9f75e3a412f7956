"""The command `covidcxnet benchmark`: how fast each engine runs a network here, and how far it is from Keras."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from covidcxnet.cli._common import RESEARCH_ONLY, add_data
from enhancement.command_line import Parser, at_least, command, named_values
from enhancement.errors import InputError
from enhancement.files import check_output, whole_file

SECONDS = 0.4  # of passes in one measurement, at least


@command("covidcxnet benchmark")
def main(argv: list[str], prog: str) -> int:
    """Measure every engine that is installed, each in a process of its own."""
    text = "Time a network's predictions from prepared stacks by engine, precision and batch size, beside Keras."
    parser = Parser(prog=prog, description=f"{text} {RESEARCH_ONLY}")
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="weights file, run folder or released name")
    add("--batch", type=at_least(1), nargs="+", default=[1, 16], metavar="N", help="batch sizes; default 1 16")
    add("--rounds", type=at_least(1), default=5, metavar="N", help="measurements of each, of which the median counts")
    add("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    add_data(parser, narrow=False)
    arguments = parser.parse_args(argv)
    if arguments.json:
        check_output(arguments.json)
    where = named_values(arguments.where, "--where")

    from covidcxnet.pretrained import resolve
    from covidcxnet.training.run_folder import environment
    from segmentation.engines import ENGINES

    weights = str(resolve(arguments.weights))
    batches = sorted({1, *arguments.batch})
    combinations = [("keras", "f32"), *(("openvino", p) for p in ("f32", "bf16", "int8")), ("onnxruntime", "f32")]
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        data = {"data": arguments.data, "root": arguments.root, "where": where, "store": Path(folder) / "stacks.h5"}
        for engine, precision in combinations:
            if engine in ENGINES and not ENGINES[engine].installed:
                continue
            print(f"{engine}, {precision} ...", file=sys.stderr, flush=True)
            row: dict[str, Any] = {"engine": engine, "precision": precision}
            try:
                # A process of its own, so that memory is one engine's and nothing is warm.
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    row |= process.submit(measure, weights, engine, precision, batches, arguments.rounds).result()
                    if arguments.data:
                        row["auroc"] = process.submit(auroc, weights, engine, precision, folder, data).result()
            except InputError as error:
                if not rows:
                    raise
                print(f"{engine}, {precision}: left out; {error}", file=sys.stderr)
                continue
            rows.append(row)
    reference = rows[0]["outputs"]
    for row in rows:
        row["largest_difference"] = float(abs(row.pop("outputs") - reference).max())
    print(_table(rows, batches))
    about = environment(0, "f32")
    print(f"{about['processor'] or about['system']}, {about['cores']} processors; {RESEARCH_ONLY}")
    if arguments.json:
        facts = {"weights": weights, "processor": about["processor"], "cores": about["cores"], "rows": rows}
        with whole_file(arguments.json) as partial:
            partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        print(arguments.json)
    return 0


def measure(weights: str, engine: str, precision: str, batches: list[int], rounds: int) -> dict[str, Any]:
    """Seconds to load and predict once, images a second by batch size, memory, and the outputs of fixed stacks."""
    import numpy as np

    from covidcxnet.pretrained import load_model

    if engine != "keras":  # converted before the clock starts, as it is for everyone but the first user
        load_model(weights, engine=engine, precision=precision)
    start = time.perf_counter()
    classifier = load_model(weights, engine=engine, precision=precision)
    loaded = time.perf_counter() - start
    shape = (classifier.input.size, classifier.input.size, len(classifier.input.channels))
    stacks = np.random.default_rng(0).integers(0, 256, (max(batches), *shape)).astype(np.uint8)
    start = time.perf_counter()
    classifier.predict_stacks(stacks[:1])
    first = time.perf_counter() - start
    speeds = {}
    for batch in batches:
        classifier.predict_stacks(stacks[:batch], batch)  # traced, or compiled, for this size
        times = [_seconds(classifier, stacks[:batch]) for _ in range(rounds)]
        speeds[str(batch)] = batch / statistics.median(times)
    return {
        "load_seconds": loaded,
        "first_prediction_seconds": first,
        "milliseconds_at_batch_1": 1000 / speeds["1"],
        "images_per_second": speeds,
        "memory_mb": _peak_memory(),
        "outputs": classifier.predict_stacks(stacks),
    }


def _seconds(classifier, stacks) -> float:
    """Mean time of a pass, over passes that take `SECONDS` in all, or one that takes longer."""
    passes, start = 0, time.perf_counter()
    while not passes or time.perf_counter() - start < SECONDS:
        classifier.predict_stacks(stacks, len(stacks))
        passes += 1
    return (time.perf_counter() - start) / passes


def _peak_memory() -> float | None:
    """Largest resident size of this process in MB; None where the system does not count it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)


def auroc(weights: str, engine: str, precision: str, folder: str, data: dict[str, Any]) -> float:
    """AUROC, mean over classes, on a data set."""
    from covidcxnet.evaluation.evaluator import evaluate

    how: dict[str, Any] = {"explain": False, "bootstrap": 0, "progress": False, "engine": engine}
    report = evaluate(weights, **data, out=Path(folder) / "report", precision=precision, **how)
    return report.metrics.overall["auroc"].value


def _table(rows: list[dict[str, Any]], batches: list[int]) -> str:
    from covidcxnet.reporting.table import Table

    header = ["engine", "precision", "load, s", "first, s", "one image, ms"]
    header += [f"images/s, batch {batch}" for batch in batches if batch > 1] + ["memory, MB", "difference to Keras"]
    header += ["AUROC", "change"] if "auroc" in rows[0] else []
    cells = []
    for row in rows:
        line = [row["engine"], row["precision"], f"{row['load_seconds']:.1f}", f"{row['first_prediction_seconds']:.2f}"]
        line += [f"{row['milliseconds_at_batch_1']:.0f}"]
        line += [f"{row['images_per_second'][str(batch)]:.1f}" for batch in batches if batch > 1]
        memory = row["memory_mb"]
        line += ["" if memory is None else f"{memory:,.0f}", f"{row['largest_difference']:.1g}"]
        line += [f"{row['auroc']:.4f}", f"{row['auroc'] - rows[0]['auroc']:+.4f}"] if "auroc" in rows[0] else []
        cells.append(line)
    return Table(header, cells).text()
