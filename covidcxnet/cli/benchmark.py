"""The command `covidcxnet benchmark`: how fast each engine runs a network here, and how far it is from Keras."""

from __future__ import annotations

import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from covidcxnet.cli._common import RESEARCH_ONLY, add_data
from enhancement.command_line import Parser, at_least, command, named_values
from enhancement.errors import InputError
from enhancement.files import check_output, find_images, whole_file

Figure = tuple[float | None, str]  # a value and its format

SUMMARY = f"""Time a network by engine, precision and batch size, beside Keras: from prepared stacks to probabilities
and, with --images or --data, the whole way from files. The last table sets Keras against the engine that is taken where
none is named. Engines convert the network, once, before they are timed. {RESEARCH_ONLY}"""
SECONDS = 0.4  # of passes in one measurement, at least
BATCH = 16  # of the whole way, where the networks alone are measured too


@command("covidcxnet benchmark")
def main(argv: list[str], prog: str) -> int:
    """Measure every engine that is installed."""
    parser = Parser(prog=prog, description=SUMMARY)
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="weights file, run folder or released name")
    add("--batch", type=at_least(1), nargs="+", default=[1, 16], metavar="N", help="batch sizes; default 1 16")
    add("--rounds", type=at_least(1), default=5, metavar="N", help="measurements of each, of which the median counts")
    add("--images", nargs="+", metavar="FILE", help="time the whole way from these radiographs, folders or patterns")
    add("--most", type=at_least(1), default=32, metavar="N", help="most files of --images, or else of --data, to use")
    add("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    add_data(parser, narrow=False)
    arguments = parser.parse_args(argv)
    if arguments.json:
        check_output(arguments.json)
    where = named_values(arguments.where, "--where")
    images = find_images(arguments.images) if arguments.images else []

    from covidcxnet.datasets import load
    from covidcxnet.pretrained import resolve
    from covidcxnet.training.run_folder import environment
    from segmentation.engines import ENGINES

    weights = str(resolve(arguments.weights))
    data = {"data": arguments.data, "root": arguments.root, "where": where}
    if arguments.data and not images:
        dataset = load(data["data"], root=data["root"], where=where or None, for_training=False)
        images = [path for path in dataset.paths if path.is_file()]
    # From one end of the list to the other, as folders and tables are sorted by label and source.
    images = images[:: -(-len(images) // arguments.most)] if images else []
    batches = sorted({1, *arguments.batch})
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        data["store"] = Path(folder) / "stacks.h5"
        combinations = [("keras", "f32"), *(("openvino", p) for p in ("f32", "bf16", "int8")), ("onnxruntime", "f32")]
        for engine, precision in combinations:
            if engine in ENGINES and not ENGINES[engine].installed:
                continue
            print(f"{engine}, {precision} ...", file=sys.stderr, flush=True)
            try:
                if engine in ENGINES:
                    _alone(convert, weights, engine, precision, bool(images))
                row = _alone(measure, weights, engine, precision, batches, arguments.rounds)
                if images:
                    row["whole_way"] = _alone(whole_way, weights, engine, precision, images, arguments.rounds)
                if arguments.data:
                    row["auroc"] = _alone(auroc, weights, engine, precision, folder, data)
            except InputError as error:
                if not rows:
                    raise
                print(f"{engine}, {precision}: left out; {error}", file=sys.stderr)
                continue
            rows.append({"engine": engine, "precision": precision} | row)
    reference = rows[0]["outputs"]
    for row in rows:
        row["largest_difference"] = float(abs(row.pop("outputs") - reference).max())
        if "auroc" in row:
            row["auroc_change"] = row["auroc"] - rows[0]["auroc"]
    chosen = {"engine": _alone(engine_of, weights), "precision": "f32"}
    about = environment(0, "f32")
    facts = {"weights": weights, "processor": about["processor"], "cores": about["cores"], "rows": rows}
    facts |= {"reference": {"engine": "keras", "precision": "f32"}, "default": chosen}
    print(text_of(facts))
    print(f"{about['processor'] or about['system']}, {about['cores']} processors; {RESEARCH_ONLY}")
    if arguments.json:
        with whole_file(arguments.json) as partial:
            partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        print(arguments.json)
    return 0


def _alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of work in a process of its own, so that memory is one engine's and nothing is warm."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(work, *arguments).result()
        except BrokenProcessPool as error:
            where = " ".join(str(argument) for argument in arguments[:3])
            raise InputError(f"{where}: its process was ended from outside, for example for want of memory") from error


def convert(weights: str, engine: str, precision: str, lungs: bool) -> None:
    """Fill the cache, as it is for all but the first user: what is measured then neither converts nor pays for it."""
    from covidcxnet.pretrained import load_model

    classifier = load_model(weights, engine=engine, precision=precision)
    if lungs and classifier.segmenter is not None:
        classifier.segmenter.load()


def engine_of(weights: str) -> str:
    """What predicts where no engine is named."""
    from covidcxnet.pretrained import load_model

    return load_model(weights).engine


def measure(weights: str, engine: str, precision: str, batches: list[int], rounds: int) -> dict[str, Any]:
    """Seconds to load and predict once, images a second by batch size, memory, and the outputs of fixed stacks."""
    import numpy as np

    from covidcxnet.pretrained import load_model

    start = time.perf_counter()
    classifier = load_model(weights, engine=engine, precision=precision)
    loaded = time.perf_counter() - start
    shape = (classifier.input.size, classifier.input.size, len(classifier.input.channels))
    stacks = np.random.default_rng(0).integers(0, 256, (max(batches), *shape)).astype(np.uint8)
    start = time.perf_counter()
    classifier.predict_stacks(stacks[:1])
    first = time.perf_counter() - start
    speeds = {
        str(batch): batch / _seconds(partial(classifier.predict_stacks, stacks[:batch], batch), rounds)
        for batch in batches
    }
    return {
        "load_seconds": loaded,
        "first_prediction_seconds": first,
        "milliseconds_at_batch_1": 1000 / speeds["1"],
        "images_per_second": speeds,
        "memory_mb": _peak_memory(),
        "outputs": classifier.predict_stacks(stacks),
    }


def whole_way(weights: str, engine: str, precision: str, images: list[Path], rounds: int) -> dict[str, Any]:
    """From files to probabilities: seconds to the first one, images a second, and what the networks alone allow."""
    import numpy as np

    start = time.perf_counter()
    from covidcxnet.pretrained import load_model

    classifier = load_model(weights, engine=engine, precision=precision)
    classifier.predict_proba(images[:1])
    first = time.perf_counter() - start
    seconds = _seconds(lambda: classifier.predict_proba(images, batch_size=BATCH), rounds)
    memory = _peak_memory()
    shape = (classifier.input.size, classifier.input.size, len(classifier.input.channels))
    stacks = np.random.default_rng(0).integers(0, 256, (BATCH, *shape)).astype(np.uint8)
    networks = _seconds(lambda: classifier.predict_stacks(stacks, BATCH), rounds)
    if (segmenter := classifier.segmenter) is not None:
        squares = np.random.default_rng(0).integers(0, 256, (BATCH, segmenter.input.size, segmenter.input.size))
        networks += _seconds(lambda: segmenter.outputs_of(list(squares.astype(np.uint8))), rounds)
    speed, alone = len(images) / seconds, BATCH / networks
    return {
        "images": len(images),
        "first_seconds": first,
        "images_per_second": speed,
        "networks_alone_images_per_second": alone,
        "share_of_networks_alone": speed / alone,
        "memory_mb": memory,
    }


def _seconds(work: Callable[[], Any], rounds: int) -> float:
    """Median of the mean times of passes that take `SECONDS` together, after a pass that traces or compiles."""
    work()
    times = []
    for _ in range(rounds):
        passes, start = 0, time.perf_counter()
        while not passes or time.perf_counter() - start < SECONDS:
            work()
            passes += 1
        times.append((time.perf_counter() - start) / passes)
    return statistics.median(times)


def _peak_memory() -> float | None:
    """Largest resident size of this process in MB; None where the system does not count it."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, whose getrusage counts the process that started this one too
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
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
    figure = report.metrics.overall.get("auroc")
    if figure is None or not math.isfinite(figure.value):  # JSON has no NaN
        raise InputError(f"--data: {data['data']} has no images both with and without a class, so there is no AUROC")
    return figure.value


def text_of(facts: dict[str, Any]) -> str:
    """The tables of what was measured: by engine, the whole way, and Keras beside what is taken by default."""
    from covidcxnet.reporting.table import Table

    rows = facts["rows"]
    parts = {"From prepared stacks to probabilities": [_of_network(row) for row in rows]}
    if ways := [row["whole_way"] for row in rows if "whole_way" in row]:
        parts[f"From {ways[0]['images']} files to probabilities"] = [_of_whole_way(way) for way in ways]
    cells: list[Any]
    lines, chosen = [], [(row["engine"], row["precision"]) for row in rows]
    for title, figures in parts.items():
        cells = [[*names, *map(_text, row.values())] for names, row in zip(chosen, figures, strict=True)]
        lines += [f"{title}:", Table(["engine", "precision", *figures[0]], cells).text(), ""]
    name = facts["default"]["engine"]
    now = chosen.index((name, "f32")) if (name, "f32") in chosen else 0
    if not now:
        return "\n".join([*lines, f"Where no engine is named, {name} predicts here: nothing to set beside Keras.", ""])
    cells = []
    for title, figures in parts.items():
        cells.append(title)
        for what, reference in figures[0].items():
            default = figures[now][what]
            cells.append([what, _text(reference), _text(default), _ratio(reference, default)])
    header = ["", "keras", f"{name} (default)", f"{name} / keras"]
    return "\n".join([*lines, Table(header, cells).text(), ""])


def _of_network(row: dict[str, Any]) -> dict[str, Figure]:
    """Figures by the titles of their columns."""
    speeds = {f"images/s, batch {b}": (speed, ".1f") for b, speed in row["images_per_second"].items() if b != "1"}
    figures = {
        "load, s": (row["load_seconds"], ".1f"),
        "first, s": (row["first_prediction_seconds"], ".2f"),
        "one image, ms": (row["milliseconds_at_batch_1"], ".0f"),
        **speeds,
        "memory, MB": (row["memory_mb"], ",.0f"),
        "difference to Keras": (row["largest_difference"], ".1g"),
    }
    if "auroc" in row:
        figures |= {"AUROC": (row["auroc"], ".4f"), "change": (row["auroc_change"], "+.4f")}
    return figures


def _of_whole_way(way: dict[str, Any]) -> dict[str, Figure]:
    return {
        "load and first file, s": (way["first_seconds"], ".1f"),
        "images/s": (way["images_per_second"], ".1f"),
        "networks alone, images/s": (way["networks_alone_images_per_second"], ".1f"),
        "share": (way["share_of_networks_alone"], ".0%"),
        "memory, MB": (way["memory_mb"], ",.0f"),
    }


def _text(figure: Figure) -> str:
    value, form = figure
    return "" if value is None else format(value, form)


def _ratio(reference: Figure, default: Figure) -> str:
    # of a share, as of no difference, it would say nothing
    (below, form), (above, _) = reference, default
    return f"{above / below:.2f}" if below and above and not form.endswith("%") else ""
