"""The actions of `covidcxnet datasets` that look at data: summary, check, duplicates, bias."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import pandas as pd

from covidcxnet.datasets import load
from covidcxnet.datasets.bias import find_bias, save_bias
from covidcxnet.datasets.check import PROBLEMS
from covidcxnet.datasets.check import check as check_files
from covidcxnet.datasets.duplicates import draw_pairs, find_duplicates
from covidcxnet.datasets.load import load_all
from covidcxnet.datasets.tables import save_table
from covidcxnet.datasets.vocabulary import UNKNOWN
from covidcxnet.reporting.table import count
from enhancement.files import check_output


def summary(arguments: Namespace) -> int:
    """Print what is in a data set."""
    dataset = load(arguments.data, root=arguments.root, for_training=False)
    table = dataset.table
    print(f"{dataset.name}: {len(dataset)} images in {dataset.root}\n")
    print(dataset.summary().to_string())
    for column in ("published_split", "view", "sex", "population"):
        if column in table:
            counts = table[column].fillna("unknown").value_counts()
            print(f"\n{column}: " + ", ".join(f"{value} {n}" for value, n in counts.items()))
    if "age" in table and table["age"].notna().any():
        ages = table["age"].astype(float)
        print(f"\nage: median {ages.median():g}, {ages.min():g} to {ages.max():g}, unknown {ages.isna().sum()}")
    if dataset.findings is not None:
        findings = dataset.findings
        states = {"present": findings.eq(1).sum(), "absent": findings.eq(0).sum(), "unknown": findings.isna().sum()}
        print(f"\n{pd.DataFrame(states).to_string()}")
    # Printed here, as it decides what can be trained: a split by image lets one patient stand on both sides.
    if dataset.group is None:
        print("\npatients unknown: a split by patient is not possible; to split by image, give train --split-by image")
    return 0


def check(arguments: Namespace) -> int:
    """Write a table of verdicts; 1 where a file is to be rejected."""
    # Before every file is opened. Verdicts may have been edited by hand, so that a table is not replaced unasked.
    check_output(arguments.out, overwrite=arguments.overwrite)
    dataset = load(arguments.data, root=arguments.root, for_training=False, labelled=False)
    if dataset.classes == (UNKNOWN,):
        print(f"{arguments.data}: no labels; files alone are checked", file=sys.stderr)
    pixels = tuple(arguments.pixels) if arguments.pixels else None
    # A table may list a part of a folder on purpose; what else lies there is no concern of it.
    unlisted = ["*"] if Path(arguments.data).is_file() else None
    work = {"jobs": arguments.jobs, "progress": arguments.progress}
    table = check_files(dataset, pixels=pixels, unlisted=unlisted, **work)
    out = save_table(table, arguments.out)
    counts = {verdict: int((table["verdict"] == verdict).sum()) for verdict in ("use", "look", "reject")}
    print(f"{dataset.name}: {count(len(dataset), 'image')} listed; {', '.join(f'{v} {n}' for v, n in counts.items())}")
    for problem, (verdict, meaning) in PROBLEMS.items():
        rows = table[[problem in problems.split(";") for problems in table["problems"]]]
        if len(rows):
            print(f"  {problem}: {len(rows)} ({verdict}; {meaning}), the first {rows['path'].iloc[0]}")
    print(f"{out}: verdicts; edit the column verdict where you know better, then train --verdicts {out}")
    return 1 if counts["reject"] else 0


def duplicates(arguments: Namespace) -> int:
    """Write pairs, groups and a picture of copies."""
    # Three files are written, and a comparison takes minutes: all names are checked before it.
    out = check_output(arguments.out, overwrite=arguments.overwrite)
    groups = check_output(out.with_suffix(".groups.csv"), overwrite=arguments.overwrite)
    dataset = load_all(arguments.data, root=arguments.root, exclude=arguments.exclude)
    result = find_duplicates(dataset, jobs=arguments.jobs, progress=arguments.progress)
    for table, path in ((result.pairs, out), (result.groups, groups)):
        save_table(table, path)
    # Copies under several labels or patients are what spoils a split, so that these are counted.
    pairs, members = result.pairs, dataset.table.set_index("path").loc[result.groups["path"]]
    exact = int((pairs["kind"] == "exact").sum())
    group = result.groups["duplicate_group"].to_numpy()
    near = len(pairs) - exact
    print(f"{dataset.name}: {len(dataset)} images; {exact} exact and {near} near pairs, {len(set(group))} groups")
    for column in ("label", "patient", "source"):
        if column in members:
            print(f"  groups with more than one {column}: {int((members[column].groupby(group).nunique() > 1).sum())}")
    if len(result.unreadable):
        first = result.unreadable.iloc[0]
        print(f"  not compared: {len(result.unreadable)}, the first {first['path']} ({first['reason']})")
    print(f"{out}: pairs")
    print(f"{groups}: groups; convert --duplicates keeps each on one side of a split, train --verdicts drops copies")
    if len(pairs):
        sheet = draw_pairs(pairs, dataset.root, out.with_suffix(".png"))
        print(f"{sheet}: pairs to look at, the least certain first")
    return 0


def bias(arguments: Namespace) -> int:
    """Write the page about shortcuts."""
    # Its page is a result of computation alone, so that it may be replaced.
    check_output(arguments.out)
    result = find_bias(load_all(arguments.data, root=arguments.root), jobs=arguments.jobs, progress=arguments.progress)
    print(f"{result.name}: {result.images} images measured, {result.unreadable} could not be read")
    for probe in result.probes:
        without = f" (without {', '.join(probe.left_out)}: too few)" if probe.left_out else ""
        print(
            f"  {probe.target}: {', '.join(probe.values)}{without}: balanced accuracy {probe.accuracy:.2f}, "
            f"chance {probe.chance:.2f}"
        )
    for warning in result.warnings:
        print(f"warning: {warning}")
    print(f"{save_bias(result, arguments.out)}: the page")
    return 0


ACTIONS = {"summary": summary, "check": check, "duplicates": duplicates, "bias": bias}
