"""The command `covidcxnet datasets`: what sets there are, what is in one, what is wrong with it, and it as a CSV."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from covidcxnet.cli.datasets_arguments import build_parser
from enhancement import command_line
from enhancement.errors import InputError
from enhancement.files import check_output


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet datasets") -> int:
    """Run one of ``list``, ``show``, ``summary``, ``check``, ``duplicates``, ``bias``, ``opacities``, ``convert``
    and ``dicom``.

    Returns
    -------
    int
        0 done, 1 done but the check found files to reject, 2 the input cannot be used, 130 interrupted.
    """
    return command_line.run(partial(_run, prog=prog), argv, prog=prog)


def _run(argv: list[str], prog: str) -> int:
    arguments = build_parser(prog).parse_args(argv)
    commands = {
        "list": _list,
        "show": _show,
        "summary": _summary,
        "check": _check,
        "duplicates": _duplicates,
        "bias": _bias,
        "opacities": _opacities,
        "convert": _convert,
        "dicom": _dicom,
    }
    return commands[arguments.command](arguments)


def _list(arguments) -> int:
    from covidcxnet.datasets.named import NAMES, facts_of

    for name in NAMES:
        about = facts_of(name)
        print(f"{name:<12} {about.title}: {about.size}")
    print("\ncovidcxnet datasets show NAME says more; datasets.md says all of it. Use one as --data NAME:FOLDER.")
    return 0


def _show(arguments) -> int:
    from covidcxnet.datasets.named import facts_of

    print(facts_of(arguments.name).text())
    return 0


def _summary(arguments) -> int:
    dataset = _open(arguments.data, arguments.root)
    print(f"{dataset.name}: {len(dataset)} images in {dataset.root}\n")
    print(dataset.summary().to_string())
    for column in ("published_split", "view", "sex", "population"):
        if column in dataset.table:
            counts = dataset.table[column].fillna("unknown").value_counts()
            print(f"\n{column}: " + ", ".join(f"{value} {n}" for value, n in counts.items()))
    if "age" in dataset.table and dataset.table["age"].notna().any():
        ages = dataset.table["age"].astype(float)
        print(f"\nage: median {ages.median():g}, {ages.min():g} to {ages.max():g}, unknown {ages.isna().sum()}")
    if dataset.findings is not None:
        counts = dataset.findings.agg(
            [lambda c: int(c.eq(1).sum()), lambda c: int(c.eq(0).sum()), lambda c: int(c.isna().sum())]
        )
        counts.index = ["present", "absent", "unknown"]
        print(f"\n{counts.T.astype(int).to_string()}")
    if dataset.group is None:
        print("\npatients unknown: a split by patient is not possible (split_by: image must be said aloud)")
    return 0


def _check(arguments) -> int:
    from covidcxnet.datasets.check import PROBLEMS, check, save_verdicts

    check_output(arguments.out, overwrite=arguments.overwrite)
    dataset = _open(arguments.data, arguments.root)
    pixels = tuple(arguments.pixels) if arguments.pixels else None
    table = check(dataset, pixels=pixels, jobs=arguments.jobs, progress=not arguments.quiet)
    out = save_verdicts(table, arguments.out)
    counts = table["verdict"].value_counts()
    print(
        f"{dataset.name}: {len(dataset)} images listed; "
        + ", ".join(f"{v} {counts.get(v, 0)}" for v in ("use", "look", "reject"))
    )
    for problem, (verdict, meaning) in PROBLEMS.items():
        rows = table[table["problems"].str.split(";").map(lambda found, p=problem: p in found)]
        if len(rows):
            print(f"  {problem}: {len(rows)} ({verdict}; {meaning}), the first {rows['path'].iloc[0]}")
    print(f"{out}: verdicts; edit the column verdict where you know better, then train --verdicts {out}")
    return 1 if counts.get("reject", 0) else 0


def _duplicates(arguments) -> int:
    from covidcxnet.datasets.contact_sheet import contact_sheet
    from covidcxnet.datasets.duplicates import find_duplicates
    from enhancement.files import whole_file

    out = check_output(arguments.out, overwrite=arguments.overwrite)
    groups = check_output(out.with_suffix(".groups.csv"), overwrite=arguments.overwrite)
    dataset = _open_all(arguments, plain=True)
    found = find_duplicates(dataset, jobs=arguments.jobs, progress=not arguments.quiet)
    for table, path in ((found.pairs, out), (found.groups, groups)):
        with whole_file(path) as temporary:
            table.to_csv(temporary, index=False)
    pairs, members = found.pairs, dataset.table.set_index("path").loc[found.groups["path"]]
    exact = int((pairs["kind"] == "exact").sum())
    number = found.groups["duplicate_group"].nunique()
    print(f"{dataset.name}: {len(dataset)} images; {exact} exact and {len(pairs) - exact} near pairs, {number} groups")
    for column in ("label", "patient", "source"):
        if column in members:
            apart = members[column].groupby(found.groups["duplicate_group"].to_numpy()).nunique()
            print(f"  groups with more than one {column}: {int((apart > 1).sum())}")
    if len(found.unreadable):
        first = found.unreadable.iloc[0]
        print(f"  not compared: {len(found.unreadable)}, the first {first['path']} ({first['reason']})")
    print(f"{out}: pairs")
    print(
        f"{groups}: groups; convert --duplicates keeps each on one side of a split, train --verdicts drops the copies"
    )
    if len(pairs):
        print(
            f"{contact_sheet(pairs, dataset.root, out.with_suffix('.png'))}: pairs to look at, the least certain first"
        )
    return 0


def _bias(arguments) -> int:
    from covidcxnet.datasets.bias import find_bias
    from covidcxnet.evaluation.bias_page import save

    check_output(arguments.out)
    found = find_bias(_open_all(arguments), jobs=arguments.jobs, progress=not arguments.quiet)
    print(f"{found.name}: {found.images} images measured, {found.unreadable} could not be read")
    for probe in found.probes:
        without = f" (without {', '.join(probe.left_out)}: too few)" if probe.left_out else ""
        told = f"{probe.target}: {', '.join(probe.values)}{without}"
        print(f"  {told}: balanced accuracy {probe.accuracy:.2f}, chance {probe.chance:.2f}")
    for warning in found.warnings:
        print(f"warning: {warning}")
    print(f"{save(found, arguments.out)}: the page")
    return 0


def _opacities(arguments) -> int:
    import pandas as pd

    from covidcxnet.datasets.opacity_pairs import make_opacity_pairs
    from segmentation import LungSegmenter

    check_output(arguments.out, folder=True)
    dataset = _open(arguments.data, arguments.root)
    if arguments.label not in dataset.classes:
        raise InputError(f"--label: {arguments.label!r} given, one of {', '.join(dataset.classes)} expected")
    dataset, split = dataset.filter(label=arguments.label), None
    if arguments.split:
        try:
            split = pd.read_csv(arguments.split)[["path", "split"]]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"--split: {arguments.split}: no CSV with columns path and split ({error})") from error
        used = set(split["path"][split["split"].isin(["train", "validation"])])
        dataset = dataset.filter(path=[path for path in dataset.table["path"] if path in used])
    table, left = make_opacity_pairs(
        dataset,
        arguments.out,
        LungSegmenter(arguments.segmenter),
        size=arguments.size,
        seed=arguments.seed,
        split=split,
        progress=not arguments.quiet,
    )
    print(f"{arguments.out}: {len(table) // 2} radiographs, each with and without a drawn opacity")
    if len(left):
        print(f"  left out: {len(left)}, the first: {left['reason'].iloc[0]}")
    named = f" --split {Path(arguments.out) / 'pairs.csv'}" if split is not None else ""
    print(f"train.py --data {Path(arguments.out) / 'pairs.csv'}{named} --classes normal,opacity")
    return 0


def _convert(arguments) -> int:
    from covidcxnet.datasets.check import with_verdicts
    from covidcxnet.datasets.dataset import Dataset, merge
    from covidcxnet.datasets.duplicates import with_groups
    from enhancement.files import whole_file

    out = check_output(arguments.out, overwrite=arguments.overwrite)
    if arguments.verdicts and len(arguments.verdicts) != len(arguments.data):
        raise InputError(f"--verdicts: {len(arguments.verdicts)} given for {len(arguments.data)} sets; one for each")
    datasets = [_open(data, arguments.root) for data in arguments.data]
    if arguments.verdicts:
        datasets = [with_verdicts(d, v) for d, v in zip(datasets, arguments.verdicts, strict=True)]
    if arguments.classes:
        wanted = [label.strip() for label in arguments.classes.split(",")]
        datasets = [d.filter(label=[c for c in wanted if c in d.classes] or wanted) for d in datasets]
        datasets = [
            Dataset(d.table, d.root, (), d.name, {k: v for k, v in d.definitions.items() if k in wanted})
            for d in datasets
        ]
    dataset = merge(*datasets, accept=arguments.accept)
    if arguments.duplicates:
        dataset = with_groups(dataset, arguments.duplicates)
    table = _relative_to(dataset, out.absolute().parent)
    with whole_file(out) as temporary:
        table.to_csv(temporary, index=False)
    print(f"{out}: {len(table)} images, {', '.join(dataset.classes)}")
    if dataset.group is None or dataset.table["patient"].isna().any():
        print(f"{out}: patients are not all known; see split_by", file=sys.stderr)
    return 0


def _dicom(arguments) -> int:
    import platformdirs

    from covidcxnet.datasets.archive import UNKNOWN, read_archive
    from covidcxnet.datasets.dataset import Dataset
    from enhancement.dicom_header import patient_key
    from enhancement.files import whole_file

    out = check_output(arguments.out, overwrite=arguments.overwrite)
    key = Path(arguments.key) if arguments.key else platformdirs.user_config_path("covidcxnet") / "patients.key"
    chosen = {
        name: ["" if v.strip().lower() == "none" else v.strip() for v in getattr(arguments, name).split(",")]
        for name in ("modalities", "body_parts", "views")
        if getattr(arguments, name)
    }
    table, left, root = read_archive(
        arguments.inputs, patient_key(key), labels=arguments.labels, progress=not arguments.quiet, **chosen
    )
    moved = _relative_to(Dataset(table, root, (), "archive"), out.absolute().parent)
    with whole_file(out) as temporary:
        moved.to_csv(temporary, index=False)
    print(f"{out}: {len(table)} radiographs, {table['patient'].nunique()} patients; {len(left)} files left out")
    for reason, rows in left.groupby("reason"):
        print(f"  {len(rows)}: {reason} (the first {rows['path'].iloc[0]})")
    if nameless := int(table["label"].eq(UNKNOWN).sum()):
        print(f"  {nameless} without a label stand as {UNKNOWN}; train --classes with the others leaves them out")
    print(f"{key}: key of the patient hashes; keep it apart from the table")
    return 0


def _relative_to(dataset, folder: Path):
    """The table with paths relative to another folder, which need not hold them."""
    from covidcxnet.datasets.dataset import moved

    table, root = dataset.table.copy(), dataset.root.resolve()
    if table["path"].map(lambda p: ";" in p).any():
        raise InputError(f"{dataset.name}: a file name has a semicolon, which separates names in a cell; rename it")
    try:
        prefix = os.path.relpath(root, folder.resolve())
    except ValueError as error:  # another drive
        raise InputError(f"{folder}: is on another drive than {root}; name a CSV on the same one") from error
    for column in {"path", "mask", "lesion"} & set(table.columns):
        table[column] = table[column].map(
            lambda cell: moved(cell, lambda one: Path(os.path.normpath(Path(prefix, one))).as_posix())
        )
    return table


def _open_all(arguments, plain: bool = False):
    """One set or several merged, whatever their labels rest on: the question is about pictures.

    `plain`: a folder stands for all images below it, not for one folder a class.
    """
    from covidcxnet.datasets.dataset import merge
    from covidcxnet.datasets.load import load_files

    datasets = [
        load_files(data, arguments.exclude) if plain and Path(data).is_dir() else _open(data, arguments.root)
        for data in arguments.data
    ]
    labels = sorted({label for dataset in datasets for label in dataset.classes})
    return merge(*datasets, accept=labels) if len(datasets) > 1 else datasets[0]


def _open(data: str, root: str | None):
    from covidcxnet.datasets import load

    return load(data, root=root, for_training=False)
