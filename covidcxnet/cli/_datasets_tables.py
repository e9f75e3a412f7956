"""The actions of `covidcxnet datasets` on known sets and on tables: list, show, opacities, convert, dicom."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import platformdirs

from covidcxnet.cli._common import words
from covidcxnet.datasets import load
from covidcxnet.datasets.archive import UNKNOWN, read_archive
from covidcxnet.datasets.dataset import Dataset, merge, table_for, with_groups, with_verdicts
from covidcxnet.datasets.named import NAMES, facts_of
from covidcxnet.datasets.opacities import make_opacity_pairs
from covidcxnet.datasets.tables import listed_path, read_text, save_table
from enhancement.dicom import patient_key
from enhancement.errors import InputError
from enhancement.files import check_output


def list_names(arguments: Namespace) -> int:
    """Print the sets known by name."""
    for name in NAMES:
        facts = facts_of(name)
        print(f"{name:<12} {facts.title}: {facts.size}")
    print("\ncovidcxnet datasets show NAME prints the facts; datasets.md has more. Use a set as --data NAME:FOLDER.")
    return 0


def show(arguments: Namespace) -> int:
    """Print what is known of a set."""
    print(facts_of(arguments.name).text())
    return 0


def opacities(arguments: Namespace) -> int:
    """Write pairs of radiographs without and with a drawn opacity."""
    from segmentation import LungSegmenter

    out = check_output(arguments.out, folder=True)
    dataset = load(arguments.data, root=arguments.root, for_training=False)
    if arguments.label not in dataset.classes:
        raise InputError(f"--label: {arguments.label!r} given, one of {', '.join(dataset.classes)} expected")
    dataset, split = dataset.filter(label=arguments.label), None
    if arguments.split:
        try:
            split = read_text(arguments.split, "a CSV table")[["path", "split"]]
        except KeyError:
            raise InputError(f"--split: {arguments.split}: no columns path and split") from None
        split["path"] = [listed_path(path, dataset.root) for path in split["path"]]
        # Opacities drawn on test images would make training images of them.
        used = set(split["path"][split["split"].isin(["train", "validation"])])
        dataset = dataset.filter(path=[path for path in dataset.table["path"] if path in used])
    settings = {"size": arguments.size, "seed": arguments.seed, "split": split, "progress": arguments.progress}
    segmenter = LungSegmenter(arguments.segmenter, engine=arguments.engine)
    table, left_out = make_opacity_pairs(dataset, out, segmenter, **settings)
    print(f"{out}: {len(table) // 2} radiographs, each with and without a drawn opacity")
    if len(left_out):
        print(f"  left out: {len(left_out)}, the first: {left_out['reason'].iloc[0]}")
    pairs = out / "pairs.csv"
    print(f"train.py --data {pairs}{'' if split is None else f' --split {pairs}'} --classes normal,opacity")
    return 0


def convert(arguments: Namespace) -> int:
    """Write one CSV of all sets."""
    out = check_output(arguments.out, overwrite=arguments.overwrite)
    # Paths in verdicts are those of one set: which set each belongs to must be certain.
    if arguments.verdicts and len(arguments.verdicts) != len(arguments.data):
        raise InputError(f"--verdicts: {len(arguments.verdicts)} given for {len(arguments.data)} sets; one for each")
    datasets = [load(data, root=arguments.root, for_training=False) for data in arguments.data]
    if arguments.verdicts:
        datasets = [with_verdicts(d, v) for d, v in zip(datasets, arguments.verdicts, strict=True)]
    if wanted := words(arguments.classes):
        datasets = [d.filter(label=[c for c in wanted if c in d.classes] or list(wanted)) for d in datasets]
        # Definitions of labels that are left out must not stop the merge.
        kept = [{k: v for k, v in d.definitions.items() if k in wanted} for d in datasets]
        datasets = [replace(d, classes=(), definitions=k) for d, k in zip(datasets, kept, strict=True)]
    dataset = merge(*datasets, accept=arguments.accept)
    if arguments.duplicates:
        dataset = with_groups(dataset, arguments.duplicates)
    # Paths relative to the table: both can move together.
    table = table_for(dataset, out.absolute().parent)
    save_table(table, out)
    print(f"{out}: {len(table)} images, {', '.join(dataset.classes)}")
    if dataset.group is None or dataset.table["patient"].isna().any():
        print(f"{out}: patients are not all known; see train --split-by", file=sys.stderr)
    return 0


def dicom(arguments: Namespace) -> int:
    """Write a table of DICOM files."""
    out = check_output(arguments.out, overwrite=arguments.overwrite)
    key = Path(arguments.key) if arguments.key else platformdirs.user_config_path("covidcxnet") / "patients.key"
    # Flags that are not given keep the defaults of `read_archive`; "none" stands for a tag that a file has not.
    chosen = {
        name: ["" if value.lower() == "none" else value for value in words(getattr(arguments, name))]
        for name in ("modalities", "body_parts", "views")
        if getattr(arguments, name)
    }
    settings = {"labels": arguments.labels, "progress": arguments.progress, **chosen}
    table, left_out, root = read_archive(arguments.inputs, patient_key(key), **settings)
    save_table(table_for(Dataset(table, root, (), "archive"), out.absolute().parent), out)
    print(f"{out}: {len(table)} radiographs, {table['patient'].nunique()} patients; {len(left_out)} files left out")
    for reason, rows in left_out.groupby("reason"):
        print(f"  {len(rows)}: {reason} (the first {rows['path'].iloc[0]})")
    if unlabelled := int(table["label"].eq(UNKNOWN).sum()):
        print(f"  {unlabelled} without a label have the label {UNKNOWN}; leave them out by train --classes")
    # Whoever has both can undo the hashes.
    print(f"{key}: key of the patient hashes; store it apart from the table")
    return 0


ACTIONS = {"list": list_names, "show": show, "opacities": opacities, "convert": convert, "dicom": dicom}
