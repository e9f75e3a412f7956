"""`covidcxnet benchmark`: each engine that is here, measured beside Keras; those that cannot run are named."""

import json
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from covidcxnet.cli import benchmark
from covidcxnet.models import create
from enhancement.errors import InputError
from weights import save_weights

OPTIONS = {"filters": [4, 8], "hidden": [8]}


@contextmanager
def in_this_process(workers, context):
    def submit(function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except InputError as error:
            future.set_exception(error)
        return future

    yield type("Pool", (), {"submit": staticmethod(submit)})


@pytest.mark.usefixtures("eager")
def test_engines_are_set_against_keras_and_one_that_cannot_run_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", in_this_process)
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)
    measure = benchmark.measure

    def measured(weights, engine, precision, *others):
        if precision == "bf16":
            raise InputError("precision: this processor has no bfloat16")
        row = measure(weights, "keras", precision, *others)
        return row | {"outputs": row["outputs"] + (0.25 if engine == "openvino" else 0)}

    monkeypatch.setattr(benchmark, "measure", measured)
    metadata = {"kind": "classifier", "classes": ["normal", "covid19"], "input": {"size": 96, "channels": ["raw"]}}
    metadata["architecture"] = {"name": "small-cnn", "options": {"size": 96, "channels": 1, **OPTIONS}}
    model = create("small-cnn", size=96, channels=1, classes=["normal", "covid19"], **OPTIONS)
    path = save_weights(model, tmp_path / "tiny.weights.h5", metadata)
    out = tmp_path / "figures.json"
    assert benchmark.main([str(path), "--batch", "2", "--rounds", "1", "--json", str(out)]) == 0
    printed = capsys.readouterr()
    assert "openvino, bf16: left out; precision: this processor has no bfloat16" in printed.err
    assert "images/s, batch 2" in printed.out and "AUROC" not in printed.out
    rows = {row["engine"]: row for row in json.loads(out.read_text())["rows"] if row["precision"] == "f32"}
    assert rows["keras"]["largest_difference"] == 0 and rows["openvino"]["largest_difference"] == pytest.approx(0.25)
    assert all(set(row["images_per_second"]) == {"1", "2"} and row["load_seconds"] > 0 for row in rows.values())
    assert benchmark.main(["no-such-weights"]) == 2
