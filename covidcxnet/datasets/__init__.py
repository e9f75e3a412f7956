"""Labelled radiographs: one table over image files, wherever they come from, and how they are split."""

from covidcxnet.datasets.dataset import Dataset, merge
from covidcxnet.datasets.load import load, load_files
from covidcxnet.datasets.phantom import PHANTOM_CLASSES, make_phantoms
from covidcxnet.datasets.splits import SPLITS, read_split, save_split, split

load_dataset = load  # its name where `covidcxnet` exports it

__all__ = [
    "PHANTOM_CLASSES",
    "SPLITS",
    "Dataset",
    "load",
    "load_dataset",
    "load_files",
    "make_phantoms",
    "merge",
    "read_split",
    "save_split",
    "split",
]
