"""Golden outputs: what a checkout computes on phantoms, kept and compared with what another one computes.

    python tools/golden.py make OUT             run in a checkout: train, evaluate, compare, sweep, predict
    python tools/golden.py compare OLD NEW      numbers equal to the last digit? keys and columns unchanged?
    python tools/golden.py resume OLD OUT       this checkout goes on with OLD's half run, store and partial store

The three commands use the command line and names that packages export, nothing below them, so that one script serves
both sides of a redesign. `compare` and `resume` end with exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

CHECKOUT = Path.cwd()
TINY = (
    "--options={filters: [4, 8], hidden: [8], dropout: 0.2}",
    "--input.size=48",
    "--batch_size=9",
    "--learning_rate=0.003",
    "--fractions=[0.5,0.25,0.25]",
    "--augment.noise=4",
    "--jobs=1",
)
# Measured on the clock, or naming the folder or the checkout that a run lies in.
VOLATILE = {"created", "seconds", "environment", "commands", "path", "weights", "openings", "sha256", "size", "store"}
VOLATILE |= {
    "test_openings",
    "seconds_per_epoch",
    "versions",
    "made",
    "started",
    "recipe",
    "run",
    "folder",
    "data_sha256",
}
# Settings of an older checkout that a newer one no longer has; see docs/experiments.md.
RETIRED = {"erase_shortcuts", "spectrum"}
RELEASED = ("base-cnn", "covid-cxnet", "covid-cxnet-multiclass")


def run(*command: str | Path, ok: tuple[int, ...] = (0,)) -> None:
    """Run a command in this checkout, its output into the log of the same name."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode not in ok:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr[-3000:]}")


def cli(name: str, *arguments: str | Path) -> None:
    """Run one sub-command of `covidcxnet`."""
    arguments_out = arguments[arguments.index("--out") + 1] if "--out" in arguments else None
    if arguments_out is None or not Path(arguments_out).exists():
        run("-m", "covidcxnet", name, *arguments)


def make(out: Path) -> None:
    """All golden outputs of this checkout; what is there already is not made again."""
    out.mkdir(parents=True, exist_ok=True)
    tables = make_data(out / "data")
    train(out / "two", tables["phantom"], "--classes=[normal,covid19]", "--epochs=3", "--seed=3")
    train(out / "two-b", tables["phantom"], "--classes=[normal,covid19]", "--epochs=2", "--seed=4")
    train(out / "three", tables["phantom"], "--epochs=3", "--seed=3", "--ema=0.5", "--label_smoothing=0.1")
    findings = ("--multilabel=true", "--classes=[effusion,mass]", "--where={sex: [F, M]}")
    train(out / "findings", tables["findings"], *findings, "--epochs=3", "--seed=3")
    train(out / "findings-b", tables["findings"], *findings, "--epochs=2", "--seed=4")

    quick = ("--bootstrap", "200", "--lime", "1", "--lime-samples", "40", "--no-progress")
    for name in ("two", "two-b", "three", "findings", "findings-b"):
        evaluate(out / name / "report", out / name, *quick)
    other = ("--no-explain", "--bootstrap", "200", "--no-progress")
    evaluate(out / "two-auto", out / "two", "--threshold", "auto", *other)
    seen = ("--seen", out / "three" / "split.csv", "--where", "source=B")
    evaluate(out / "three-seen", out / "three", "--data", tables["phantom"], *seen, *other)
    weights = out / "two" / "best.weights.h5"
    evaluate(out / "two-counted", weights, "--data", tables["phantom"], "--count", "pneumonia=covid19", *other)
    evaluate(out / "findings-all", out / "findings", "--data", tables["findings"], *other)

    quick = ("--bootstrap", "200", "--no-progress")
    for name, pair in (("compare", ("two", "two-b")), ("compare-findings", ("findings", "findings-b"))):
        cli(
            "compare",
            *(out / run_name for run_name in pair),
            "--out",
            out / name,
            "--bootstrap",
            "200",
            "--no-progress",
        )
    recipe = out / "tiny.yaml"
    recipe.write_text("model: small-cnn\n")
    grid = ("--over", "learning_rate=0.001,0.003", "--repeats", "2", "--bootstrap", "100", "--no-progress")
    tiny = [flag for flag in TINY if "learning_rate" not in flag]
    cli("sweep", recipe, *grid, "--out", out / "sweep", "--data", tables["phantom"], "--epochs=1", *tiny)
    released(out / "released.npz")

    train(out / "half", tables["phantom"], "--epochs=1", "--seed=3")
    shutil.copytree(out / "half", out / "half-resumed")
    run("train.py", "--resume", out / "half-resumed", "--epochs", "3")
    prepare(out, tables["large"], "whole.h5")
    prepare(out, tables["large"], "broken.h5", kill=True)


def make_data(folder: Path) -> dict[str, Path]:
    """Phantoms as three tables: three classes from two sources, two findings partly unknown, and a larger set."""
    from covidcxnet.datasets import make_phantoms

    tables = {name: folder / f"{name}.csv" for name in ("phantom", "findings")}
    tables["large"] = folder / "large" / "phantom.csv"
    if tables["findings"].exists():
        return tables
    make_phantoms(folder / "small", 72, seed=1, size=64, progress=False)
    make_phantoms(folder / "large", 240, seed=2, size=256, progress=False)
    table = pd.read_csv(folder / "small" / "phantom.csv")
    number = np.arange(len(table))
    table["patient"] = [f"p{n // 2}" for n in number]
    table["source"] = np.where(number // 2 % 3 == 0, "B", "A")
    table["sex"] = np.where(number // 2 % 2 == 0, "F", "M")
    table["path"] = "small/" + table["path"]
    plain = table[["path", "label", "patient", "source", "sex"]]
    plain.to_csv(folder / "phantom.csv", index=False)
    ill = (plain["label"] != "normal").astype(int)
    findings = plain.drop(columns="label").assign(effusion=ill, mass=np.where(number % 3, 1 - number % 2, -1))
    findings.to_csv(folder / "findings.csv", index=False)
    return tables


def train(out: Path, table: Path, *flags: str) -> None:
    """A tiny training."""
    if out.exists():
        return
    flags = (*TINY, *flags)
    run("train.py", "--data", table, "--store", out.with_name("stacks") / f"{out.name}.h5", "--out", out, *flags)


def evaluate(report: Path, *arguments: str | Path) -> None:
    """One report."""
    if not report.exists():
        run("evaluate.py", *arguments, "--out", report)


def prepare(out: Path, table: Path, name: str, *, kill: bool = False) -> None:
    """A store of the larger set; with `kill` the process is killed when half of the images are done."""
    command = ["-m", "covidcxnet", "prepare", "--data", table, "--store", out / name, "--input.size=224", "--jobs=1"]
    if not kill:
        run(*command)
        return
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=CHECKOUT, stderr=subprocess.DEVNULL)
    while process.poll() is None and not partial_stores(out, name):
        time.sleep(0.02)
    time.sleep(1.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (out / name).exists():
        sys.exit(f"{name}: finished before it was killed; take more images")


def partial_stores(out: Path, name: str) -> list[Path]:
    """Files of a store that is being made."""
    return [path for path in out.iterdir() if name.removesuffix(".h5") in path.name and "partial" in path.name]


def released(file: Path) -> None:
    """Probabilities, masks and heatmaps of the released weights on three phantoms."""
    from covidcxnet import load_model
    from covidcxnet.datasets import make_phantoms
    from segmentation import LungSegmenter

    folder = file.with_name("data") / "three"
    paths = make_phantoms(folder, 3, seed=7, size=400, progress=False).paths
    arrays: dict[str, np.ndarray] = {}
    masks = LungSegmenter("lung-unet").predict(paths)
    arrays |= {f"mask {k}": mask.mask for k, mask in enumerate(masks)}
    for name in RELEASED:
        classifier = load_model(name)
        arrays[f"{name} probabilities"] = np.array([list(p.probabilities.values()) for p in classifier.predict(paths)])
        for k, explanation in enumerate(classifier.explain(paths)):
            arrays[f"{name} heatmap {k}"] = np.asarray(explanation.heatmap)
    np.savez_compressed(file, **arrays)


def compare(old: Path, new: Path) -> list[str]:
    """Everything that differs, a line each."""
    problems: list[str] = []
    for file in sorted(old.rglob("*")):
        where = file.relative_to(old)
        if where.parts[0] in ("data", "half", "stacks") or not file.is_file() or file.name.startswith("."):
            continue
        check = CHECKS.get(file.suffix) if file.name not in SKIPPED else None
        if check is None:
            continue
        if not (new / where).is_file():
            problems.append(f"{where}: missing")
            continue
        problems += [f"{where}: {text}" for text in check(file, new / where)]
    return problems


def compare_json(old: Path, new: Path) -> list[str]:
    """Keys in order, and values."""
    return list(differences(json.loads(old.read_text()), json.loads(new.read_text()), ""))


def differences(a, b, where: str):
    """Where two JSON values differ. A report made twice warns that the test set was opened again: no difference."""
    if where == "/warnings":
        a, b = ([warning for warning in each if warning["key"] != "test_reopened"] for each in (a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        if [key for key in a if key not in RETIRED] != [key for key in b if key not in RETIRED]:
            yield f"{where or '/'}: keys {sorted(set(a) ^ set(b)) or 'in another order'}"
        for key in a.keys() & b.keys():
            if key not in VOLATILE:
                yield from differences(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from differences(x, y, f"{where}/{k}")
    elif a != b and not (isinstance(a, str) and isinstance(b, str)):  # sentences may be worded anew
        yield f"{where}: {str(a)[:80]} became {str(b)[:80]}"


def compare_csv(old: Path, new: Path) -> list[str]:
    """Columns, and cells but for times."""
    # A path of the outputs' own folder differs for a good reason.
    a, b = (pd.read_csv(file, dtype=str).replace(r"^/.*", "PATH", regex=True) for file in (old, new))
    if list(a) != list(b):
        return [f"columns {list(a)} became {list(b)}"]
    columns = [name for name in a if not any(word in name for word in ("seconds", "path", "folder", "run"))]
    return [] if a[columns].equals(b[columns]) else [f"cells differ in {[c for c in columns if not a[c].equals(b[c])]}"]


def compare_numbers(old: Path, new: Path) -> list[str]:
    """Figures of a page or a card with three decimals or a percent sign: none may be lost."""
    lost = figures(old) - figures(new)
    return [f"lost {sorted(lost)}"] if lost else []


def figures(file: Path) -> set[str]:
    """Figures as they are printed."""
    text = file.read_text()
    if file.suffix == ".html":
        text = re.sub(r"<(style|script|svg).*?</\1>|data:[^\"]*|<[^>]+>", " ", text, flags=re.DOTALL)
    return set(re.findall(r"-?\d+\.\d{3}\b|\d+\.\d%", html.unescape(text)))


def compare_npz(old: Path, new: Path) -> list[str]:
    """Arrays bit by bit."""
    with np.load(old) as a, np.load(new) as b:
        if sorted(a) != sorted(b):
            return [f"arrays {sorted(set(a) ^ set(b))}"]
        return [
            f"{k}: differs by {np.abs(a[k].astype(float) - b[k]).max():.3g}"
            for k in a
            if not np.array_equal(a[k], b[k])
        ]


def compare_h5(old: Path, new: Path) -> list[str]:
    """Data sets bit by bit, and names of attributes."""
    import h5py

    def content(file):
        with h5py.File(file) as h5:
            values: dict[str, object] = {}
            h5.visititems(
                lambda name, item: values.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
            return values, sorted(h5.attrs)

    (a, names_a), (b, names_b) = content(old), content(new)
    problems = [] if names_a == names_b else [f"attributes {sorted(set(names_a) ^ set(names_b))}"]
    if sorted(a) != sorted(b):
        return [*problems, f"data sets {sorted(set(a) ^ set(b))[:5]}"]
    return problems + [f"{name} differs" for name in a if not equal(a[name], b[name])]


def equal(a, b) -> bool:
    """Whether two arrays hold the same values; NaN equals NaN."""
    return np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")


CHECKS = {
    ".json": compare_json,
    ".csv": compare_csv,
    ".html": compare_numbers,
    ".md": compare_numbers,
    ".npz": compare_npz,
    ".h5": compare_h5,
}
SKIPPED = {"environment.json", "test_opened.json", "broken.h5", "state.h5"}


def resume(old: Path, out: Path) -> list[str]:
    """This checkout goes on with what `old` left half done, and must reach the same end."""
    shutil.copytree(old, out)
    shutil.rmtree(out / "half-resumed")
    shutil.copytree(out / "half", out / "half-resumed")
    run("train.py", "--resume", out / "half-resumed", "--epochs", "3")
    if not partial_stores(out, "broken.h5"):
        return ["broken.h5: no partial store to go on with"]
    prepare(out, out / "data" / "large" / "phantom.csv", "broken.h5")
    problems = compare_h5(old / "whole.h5", out / "broken.h5")
    # the report of a run of the old checkout, made again by this one
    run("evaluate.py", out / "two", "--bootstrap", "200", "--lime", "1", "--lime-samples", "40", "--no-progress")
    before = Counter(compare(old, old))
    return problems + list((Counter(compare(old, out)) - before).elements())


def main() -> int:
    """Exit code 0 if nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("make", "compare", "resume"))
    parser.add_argument("folders", nargs="+", type=lambda text: Path(text).absolute())
    arguments = parser.parse_args()
    sys.path.insert(0, str(CHECKOUT))
    if arguments.command == "make":
        make(arguments.folders[0])
        return 0
    problems = (compare if arguments.command == "compare" else resume)(*arguments.folders)
    print("\n".join(problems) or "equal")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
