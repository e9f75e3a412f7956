"""Speed on a GPU: ``python benchmarks/gpu.py [--engines A,B] [--out FILE] [--quick]``; installs nothing.

DenseNet121 in bfloat16 at 224 and 320 pixels, training and inference: Keras on JAX (XLA) and on PyTorch beside the same
network in plain PyTorch (torchvision, channels last, with and without `torch.compile`). Each runs in a process of its
own, since Keras chooses its backend once. Then one real training on phantoms with `train.py`. Prints images a second
and the peak of memory as they are measured; what is not installed or not finished in time is named. Compiling takes
most of the time: a first step of 80 s is normal. The stacks are random: only time is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ENGINES = {
    "torch": "PyTorch alone, channels last",
    "torch-compiled": "PyTorch alone, channels last, torch.compile",
    "keras-torch": "Keras on PyTorch",
    "keras-torch-compiled": "Keras on PyTorch, torch.compile",
    "keras-jax": "Keras on JAX, XLA",
}
TRAININGS = ("train-jax", "train-torch")
BATCH = {224: 128, 320: 64}
STEPS = 20


def main() -> int:
    """Print one line a measurement, and write all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script on a CPU")
    parser.add_argument("--engines", default=",".join((*ENGINES, *TRAININGS)), help="what to run, in this order")
    parser.add_argument("--limit", type=int, default=120, help="seconds for each of them")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine:
        for row in measure(given.engine, given.quick):
            print(json.dumps(row), flush=True)
        return 0
    chosen = given.engines.split(",")
    if unknown := sorted({*chosen} - {*ENGINES, *TRAININGS}):
        parser.error(f"no engine {unknown[0]}, one of {', '.join((*ENGINES, *TRAININGS))} expected")
    report: dict = {"engines": {}, "training": {}}
    for engine in (name for name in chosen if name in ENGINES):
        print(ENGINES[engine], flush=True)
        command = [sys.executable, __file__, "--engine", engine, *(["--quick"] if given.quick else [])]
        report["engines"][engine] = rows = run(command, engine, given.limit)
        for row in rows:
            print(line(row), flush=True)
    for backend in (name.removeprefix("train-") for name in chosen if name in TRAININGS):
        report["training"][backend] = figures = train(backend, given.quick, given.limit)
        print(f"train.py on phantoms, {backend}: {json.dumps(figures)}", flush=True)
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def run(command: list[str], engine: str, limit: int) -> list[dict]:
    """What one engine measured, and why it measured no more."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if engine.startswith("keras"):
        environment["KERAS_BACKEND"] = engine.split("-")[1]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, text=True, env=environment)
        try:
            failed = process.wait(limit) != 0
            reason = "no message"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            failed, reason = True, f"not finished within {limit} s"
        for stream in (out, errors):
            stream.seek(0)
        rows = [json.loads(text) for text in out if text.startswith("{")]
        last_words = errors.read().strip().splitlines()[-1:]
    if not failed:
        return rows
    return [*rows, {"error": reason if process.returncode < 0 else (last_words or [reason])[0]}]


def line(row: dict) -> str:
    """A measurement as text."""
    if "error" in row:
        return f"  {row['error']}"
    return (
        f"  {row['work']:<9} {row['size']} px, batch {row['batch']:>3}: {row['images_per_second']:8.0f} images/s, "
        f"{row['memory_gib']:5.1f} GiB, first step {row['first_step_s']:5.1f} s ({row['device']})"
    )


def measure(engine: str, quick: bool):
    """Images a second of training and inference at each size, as soon as they are known."""
    global STEPS
    STEPS = 1 if quick else STEPS
    sizes = {32: 2} if quick else BATCH
    device, build, memory = (keras_network if engine.startswith("keras") else torch_network)(engine)
    for size, batch in sizes.items():
        for work in ("training", "inference"):
            steps = build(work, size, batch)
            start = time.perf_counter()
            steps(1)
            first = time.perf_counter() - start
            rate = batch * steps_per_second(steps, seconds=0.2 if quick else 4.0)
            row = {"work": work, "size": size, "batch": batch, "images_per_second": rate}
            yield row | {"memory_gib": memory(), "first_step_s": first, "device": device}


def steps_per_second(steps, seconds: float) -> float:
    """Steady rate: some steps to warm up, then as many as fit into the time."""
    steps(STEPS)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        steps(STEPS)
        done += STEPS
    return done / (time.perf_counter() - start)


def stacks(size: int, batch: int, steps: int):
    """Random uint8 stacks and targets of some steps, in the host's memory as a store gives them."""
    import numpy as np

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (steps * batch, size, size, 3), dtype=np.uint8)
    return images, random.integers(0, 2, (steps * batch, 1)).astype("float32")


def torch_network(engine: str):
    """Plain PyTorch as its own users would write it."""
    import torch
    import torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True

    def build(work, size, batch):
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        network = torchvision.models.densenet121(num_classes=1).to(device, memory_format=torch.channels_last)
        images, targets = (torch.from_numpy(array) for array in stacks(size, batch, STEPS))
        if device == "cuda":
            images, targets = images.pin_memory(), targets.pin_memory()
        optimizer = torch.optim.Adam(network.parameters(), fused=device == "cuda")
        loss = torch.nn.BCEWithLogitsLoss()
        network.train(work == "training")
        compiled = torch.compile(network) if engine.endswith("compiled") else network

        def forward(step):
            rows = slice(step * batch, (step + 1) * batch)
            # [N, H, W, C] in memory is what PyTorch calls channels last
            pictures = images[rows].to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
            with torch.autocast(device, torch.bfloat16):
                return compiled(pictures), targets[rows].to(device, non_blocking=True)

        def train_steps(count):
            for step in range(count):
                optimizer.zero_grad(set_to_none=True)
                output, truth = forward(step)
                loss(output.float(), truth).backward()
                optimizer.step()
            wait()

        @torch.no_grad()
        def predict_steps(count):
            torch.cat([forward(step)[0] for step in range(count)]).float().cpu()

        return train_steps if work == "training" else predict_steps

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    return torch_device(torch, device), build, lambda: torch_memory(torch, device)


def keras_network(engine: str):
    """Our DenseNet121, trained by `fit` and run by `predict` with Keras on the backend of the environment."""
    import keras

    from covidcxnet.models import create

    backend = keras.backend.backend()
    keras.config.set_dtype_policy("mixed_bfloat16")

    def build(work, size, batch):
        model = create("covid-cxnet", size=size, channels=3)
        jit = backend == "jax" or engine.endswith("compiled")
        model.compile("adam", "binary_crossentropy", jit_compile=jit)
        images, targets = stacks(size, batch, STEPS)

        def train_steps(count):
            rows = slice(0, count * batch)
            model.fit(images[rows], targets[rows], batch_size=batch, shuffle=False, verbose=0)

        def predict_steps(count):
            model.predict(images[: count * batch], batch_size=batch, verbose=0)

        return train_steps if work == "training" else predict_steps

    if backend == "torch":
        import torch

        torch.backends.cudnn.benchmark = True
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return torch_device(torch, device), build, lambda: torch_memory(torch, device)
    import jax

    device = jax.devices()[0]
    return str(device.device_kind), build, lambda: (device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**30


def torch_device(torch, device: str) -> str:
    """Name of the card."""
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def torch_memory(torch, device: str) -> float:
    """Peak of the memory in use, in GiB."""
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0


def train(backend: str, quick: bool, limit: int) -> dict:
    """One real training with `train.py`: best validation AUROC and seconds of its last epoch."""
    size, images, epochs, batch = (96, 40, 1, 16) if quick else (224, 300, 3, 32)
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--phantom-images", images, "--input.size", size, "--epochs", epochs, "--batch-size", batch]
        flags += ["--model", "small-cnn" if quick else "covid-cxnet", "--out", Path(folder) / "run"]
        flags += ["--store", Path(folder) / "stacks.h5", "--precision", "float32" if quick else "mixed_bfloat16"]
        command = [sys.executable, str(ROOT / "train.py"), *map(str, flags)]
        environment = os.environ | {"KERAS_BACKEND": backend, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        if done.returncode:
            return {"error": (done.stderr.strip() or "no message").splitlines()[-1]}
        import pandas as pd

        log = pd.read_csv(Path(folder) / "run" / "log.csv")
        return {
            "val_auroc": float(log["val_auroc"].max()),
            "seconds_last_epoch": float(log["seconds"].iloc[-1]),
            "seconds_in_all": round(time.perf_counter() - start, 1),
            "images": images,
            "size": size,
        }


if __name__ == "__main__":
    sys.exit(main())
