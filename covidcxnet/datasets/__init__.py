"""Labelled radiographs: one table over image files, wherever they come from, and how they are split."""

from covidcxnet.datasets.dataset import Dataset, merge
from covidcxnet.datasets.named import load_named
from covidcxnet.datasets.phantom import make_phantoms
from covidcxnet.datasets.sources import from_csv, from_folder, load_dataset, open_dataset
from covidcxnet.datasets.splits import SPLITS, read_split, save_split, split

__all__ = [
    "SPLITS",
    "Dataset",
    "from_csv",
    "from_folder",
    "load_dataset",
    "load_named",
    "make_phantoms",
    "merge",
    "open_dataset",
    "read_split",
    "save_split",
    "split",
]
