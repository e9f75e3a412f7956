"""The one door to data: a published set by name, a folder per class, a CSV or the phantom becomes a `Dataset`."""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from platformdirs import user_cache_path

from covidcxnet.datasets.dataset import TASKS, Dataset, merge
from covidcxnet.datasets.named import NAMES, facts_of, load_named
from covidcxnet.datasets.phantom import PHANTOM_CLASSES, VERSION, make_phantoms
from covidcxnet.datasets.tables import (
    ALIASES,
    as_numbers,
    cell_paths,
    is_text,
    listed_path,
    moved,
    named_columns,
    plain_word,
    read_text,
)
from covidcxnet.datasets.vocabulary import PREFIX, UNKNOWN, finding_name, findings_of, with_findings
from covidcxnet.reporting.table import count
from enhancement.command_line import did_you_mean
from enhancement.errors import InputError, listed, printable
from enhancement.files import find_images, is_radiograph, passed_over
from enhancement.progress import note

# one letter is a Windows drive
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9_-]+)((?:,[^:,]*)*):(.+)", re.S)
# first words of the names of split folders (Kaggle, Keras, Ultralytics), in lower case, to the split
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}
# a capital, a mark or a number ends the first word, so that valley_fever does not begin with one
_SPLIT_WORD = re.compile(rf"(?i:({'|'.join(_SPLIT_WORDS)}))(?![a-z])")
_SPLIT_NAME = re.compile(rf"(?i:({'|'.join(_SPLIT_WORDS)})(?:[-_ ]?(?:data)?(?:set|data|images?|imgs?|split|\d+))*)")

_MOST_CLASSES = 1000  # more are names or numbers of images; a split or confusion matrix of them would fill the memory
_MASK_FOLDERS = {"mask", "masks", "lung_masks", "lung masks"}


def load(
    data: str | Path,
    *,
    root: str | Path | None = None,
    classes: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    task: str = "exclusive",
    for_training: bool = True,
    labelled: bool = True,
    phantom_images: int = 600,
    phantom_size: int = 256,
    seed: int = 0,
) -> Dataset:
    """The data set that a command line or a recipe names.

    Parameters
    ----------
    data : str or Path
        ``"phantom"``; ``NAME:FOLDER`` for a published set (``NAME,option=value:FOLDER`` with options, see
        `covidcxnet.datasets.named`); a folder with one folder per class; or a CSV file.

        In a CSV, columns are found by name, in this order of preference: path, image, filename, file; label, finding,
        class; patient, group_id, patient_id, patientid, subject; mask; lesion. Others are kept as they are.
        Independent findings are columns ``finding_NAME``; or a column of lists such as NIH's (``labels`` or ``Finding
        Labels`` with ``Effusion|Mass``), where what is not listed is absent, and what no list names unknown; or a
        column for each finding named in `classes` or known to the vocabulary. In columns 1 is present, 0 absent, -1
        or nothing unknown.
    root : str or Path, optional
        What the CSV's paths are relative to (default: its folder, or the parent where only that holds the files); for
        the phantom the folder to keep it under (default: the user's cache).
    classes : sequence of str
        Classes to keep, in the order of the model's outputs, except that a label ``normal`` always comes first; none:
        all there are (of findings those that are present in one image and absent in another).
    where : mapping, optional
        Column to value or list of values: only such rows are kept.
    columns : mapping, optional
        For a CSV: our column name to the table's own, e.g. ``{"label": "diagnosis"}``; goes before the names above.
    task : {"exclusive", "independent"}
        Whether an image has exactly one of the classes or any number of them; see `Dataset`.
    for_training : bool
        Whether there must be two classes or more to tell apart. False takes whatever there is: images of a single
        class, and findings of which the data say nothing (unknown in every image) as long as they speak of one.
    labelled : bool
        Whether images must have labels. False takes folders without class folders and tables without labels too, for
        questions about files alone; the label is then ``unknown``, or the first folder.
    phantom_images, phantom_size, seed : int
        Number, side in pixels and seed of the phantoms.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If there is no such data, nothing is left, a class is unknown, two labels differ only in case, or the classes
        cannot be told apart.
    """
    classes = [plain_word(c) for c in classes]
    if task not in TASKS:
        raise InputError(f"task: {task!r} given, one of {', '.join(TASKS)} expected")
    independent, phantom, place = task == "independent", str(data) == "phantom", Path(data)
    check_place(data)
    if independent and (phantom or place.is_dir()):
        what = "the phantom has" if phantom else f"{data} is a folder per class, which gives"
        raise InputError(f"multilabel: {what} one label an image; give a CSV with findings, or NAME:FOLDER")
    if phantom:
        drawn = tuple(classes) or PHANTOM_CLASSES
        name = f"v{VERSION}-{phantom_images}x{phantom_size}-seed{seed}-{'-'.join(drawn)}"
        cache = user_cache_path("covidcxnet") / "phantom" if root is None else Path(root)
        dataset = make_phantoms(cache / name, phantom_images, seed, phantom_size, drawn)
    elif address := address_of(data):
        dataset = load_named(address[0], Path(address[2]).expanduser(), **address[1])
    elif os.path.isdir(place):
        dataset = _open_folder(place, labelled)
    else:
        dataset = _open_csv(place, root, columns, UNKNOWN if independent or not labelled else None)
    if where:
        dataset = dataset.filter(**where)
    if independent:
        return _independent(dataset, classes, for_training)
    if not (phantom or address):
        _check_case(data, dataset)
    if classes:
        there = set(dataset.table["label"])
        unknown = [c for c in classes if c not in there]
        if unknown:
            raise InputError(f"{data}: no image is labelled {unknown[0]!r}; labels are {listed(dataset.classes)}")
        rows = dataset.table["label"].isin(list(classes))
        if not rows.all():
            others = dataset.table.loc[~rows, "label"].value_counts()
            counts = ", ".join(f"{label} {number}" for label, number in others.head(8).items())
            more = f" and {len(others) - 8} other labels" if len(others) > 8 else ""
            note(f"{data}: {others.sum()} of {len(dataset)} images left out, of other classes ({counts}{more})")
        dataset = replace(dataset, table=dataset.table[rows], classes=tuple(classes))
    if not for_training:
        return dataset
    present = dataset.table["label"].unique()
    if len(present) < 2:
        hint = _class_folders_below(dataset) if place.is_dir() else ""
        raise InputError(f"{data}: only one class, {present[0]!r}; a classifier needs at least two{hint}")
    if len(present) > _MOST_CLASSES:
        what = f"{len(present):,} different labels ({listed(present)}) in {len(dataset):,} images"
        raise InputError(f"{data}: {what}; is it a column of classes? At most {_MOST_CLASSES:,} can be learned")
    known = set(present)
    return replace(dataset, classes=tuple(c for c in dataset.classes if c in known))


def check_place(data: str | Path) -> None:
    """`InputError` where `data` names no folder, table or known set; nothing is read but a file's first bytes."""
    _check_given(data)
    place = Path(data)
    if str(data) == "phantom" or address_of(data) or os.path.isdir(place):
        return
    if not os.path.isfile(place):
        raise InputError(
            f"{data}: no such folder or CSV file (nor the word phantom, "
            f"nor a set as NAME:FOLDER with one of {', '.join(NAMES)})"
        )
    if is_radiograph(place):
        raise InputError(f"{data}: is an image; give a folder with one folder per class, or a CSV table")


def _check_case(data: str | Path, dataset: Dataset) -> None:
    """`InputError` for labels such as Normal and normal, which would become two classes."""
    spellings: dict[str, str] = {}
    for label in dataset.classes:
        other = spellings.setdefault(label.casefold(), label)
        if other != label:
            raise InputError(f"{data}: labels {other!r} and {label!r} differ only in case; give them one spelling")


def _class_folders_below(dataset: Dataset) -> str:
    """A hint at the folder below, where that is what holds one folder per class."""
    parts = [Path(path).parts for path in dataset.table["path"]]
    below = sorted({part[1] for part in parts if len(part) > 2})
    if "published_split" in dataset.table or len(below) < 2:
        return ""
    return f"; its folders are {listed(below)}: give {dataset.root / parts[0][0]}"


def _class_folders_above(root: Path) -> str:
    """A hint at the parent folder, where another folder with images lies beside this one."""
    parent = root.absolute().parent
    try:
        beside = [folder for folder in parent.iterdir() if folder.is_dir() and folder.name != root.absolute().name]
        # Only files right in it: a search all the way down could read a whole home folder.
        classes = sorted(d.name for d in beside if any(is_radiograph(file) for file in d.iterdir() if file.is_file()))
    except OSError:
        return ""
    return f"; if {listed([root.absolute().name, *classes])} are the classes, give {parent}" if classes else ""


def load_files(folder: str | Path, exclude: Sequence[str] = ()) -> Dataset:
    """Every image below a folder, however deep, for questions that need no labels; hidden files are passed over.

    Paths that match a pattern of `exclude`, as in ``*/masks/*``, are left out; ``*`` stands for slashes too. Label and
    source are the path's first folder, ``unknown`` for images in the folder itself. `InputError` if no image is left.
    """
    _check_given(folder)
    root = Path(folder)
    paths = _images_below(root)
    taken = [p for p in paths if not any(fnmatch.fnmatch(p.as_posix(), pattern) for pattern in exclude)]
    if not taken:
        raise InputError(f"{root}: {len(paths)} images, none left after leaving out {', '.join(exclude) or 'nothing'}")
    first = [p.parts[0] if len(p.parts) > 1 else UNKNOWN for p in taken]
    table = pd.DataFrame({"path": [p.as_posix() for p in taken], "label": first, "source": first})
    return Dataset(table, root, (), root.absolute().name)


def load_all(
    sources: Sequence[str], *, root: str | Path | None = None, exclude: Sequence[str] | None = None
) -> Dataset:
    """One data set or several merged, for questions about pictures; with `exclude` folders are read by `load_files`."""
    datasets = [
        load_files(source, exclude)
        if exclude is not None and Path(source).is_dir()
        else load(source, root=root, for_training=False)
        for source in sources
    ]
    labels = sorted({label for dataset in datasets for label in dataset.classes})
    return merge(*datasets, accept=labels) if len(datasets) > 1 else datasets[0]


def address_of(data: str | Path) -> tuple[str, dict[str, str], str] | None:
    """Name, options and folder of ``NAME,option=value:FOLDER``; None for anything else, such as a path that exists.

    `InputError` if it looks like an address and names no set, or an option is not written ``option=value``.
    """
    match = _ADDRESS.fullmatch(str(data))
    if match is None or match[3].startswith("//") or Path(data).exists():
        return None
    options = {}
    facts_of(match[1])
    for part in match[2].split(",")[1:]:
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{data}: {part!r} is not option=value")
        options[key.strip()] = value.strip()
    return match[1], options, match[3]


def folder_of(data: str | Path) -> Path:
    """The folder or file on disk that `data` is about, address or path."""
    address = address_of(data)
    return Path(data if address is None else address[2])


def readdressed(data: str | Path, folder: str | Path) -> str | Path:
    """The same data in another folder: an address keeps its name and options, a path is replaced."""
    address = address_of(data)
    if address is None:
        return folder
    name, options, _ = address
    return f"{','.join([name, *(f'{k}={v}' for k, v in options.items())])}:{folder}"


def _check_given(data: str | Path) -> None:
    # An empty path is the working folder, and an empty variable of a shell script should not name that.
    if not str(data).strip():
        raise InputError("data: empty; give a folder, a CSV file, NAME:FOLDER or the word phantom")


def split_of_name(name: str) -> str | None:
    """The split that a folder stands for by its name: ``Train``, ``testing_data``, ``val-images``, ``test1``."""
    match = _SPLIT_NAME.fullmatch(name)
    return _SPLIT_WORDS[match[1].lower()] if match else None


def _images_below(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    paths = [Path(p).relative_to(root) for p in find_images(root, recursive=True)]
    paths = [p for p in paths if not any(part.startswith(".") for part in p.parts)]
    unread = [path for path in paths if (root / path).is_dir()]
    if unread:
        what = f"{count(len(unread), 'folder')} that cannot be read, the first {printable(unread[0])}"
        note(f"{root}: left out: {what}")
    unnamed = [path for path in paths if not is_text(path)]
    if unnamed:
        first = f"the first {printable(unnamed[0])}"
        what = count(len(unnamed), "image whose name is", "images whose names are")
        note(f"{root}: left out: {what} not valid UTF-8, {first}; rename {'it' if len(unnamed) == 1 else 'them'}")
    left_out = {*unread, *unnamed}
    return [path for path in paths if path not in left_out]


def _open_folder(root: Path, labelled: bool) -> Dataset:
    """Images under one folder per class. There is no patient column: file names do not reliably tell."""
    paths = [p for p in _images_below(root) if len(p.parts) > 1]
    if not paths and not labelled:
        return load_files(root)
    if not paths:
        expected = f"expected one folder per class, e.g. {root}/normal/*.png"
        raise InputError(f"{root}: no images in class folders; {expected}{_class_folders_above(root)}")
    label, side = _levels(root, paths)
    masks = _masks(paths, label + 1)
    _note_left_out(root, masks)
    paths = [p for p in paths if p not in masks]
    table = pd.DataFrame({"path": [p.as_posix() for p in paths], "label": [p.parts[label] for p in paths]})
    if side is not None:
        table["published_split"] = [p.parts[side] for p in paths]
    return Dataset(table, root, (), root.absolute().name)


def _masks(paths: Sequence[Path], below: int) -> set[Path]:
    """Masks beside the images of a class: ``CLASS/masks/x.png`` and ``CLASS/x_mask.png``, where x.png is there."""
    stems = {(p.parts[:below], p.stem) for p in paths if p.parent.name.lower() not in _MASK_FOLDERS}
    masks = set()
    for path in paths:
        folder = any(part.lower() in _MASK_FOLDERS for part in path.parts[below:-1])
        if (path.parts[:below], path.stem) in stems if folder else path.stem.lower().endswith(("_mask", "-mask")):
            image = path.stem if folder else path.stem[: -len("_mask")]
            masks |= {path} if (path.parts[:below], image) in stems else set()
    return masks


def _note_left_out(root: Path, masks: set[Path]) -> None:
    """What of a folder is not in the data set, on one line."""
    reasons = [f"{count(len(masks), 'mask')}, the first {min(masks).as_posix()}"] if masks else []
    stray = [p for p in _images_below(root) if len(p.parts) < 2]
    if stray:
        reasons.append(f"{count(len(stray), 'image')} in no class folder, the first {stray[0]}")
    endings = Counter(p.suffix.lower() or "no ending" for p in passed_over(root))
    if endings:
        counts = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(5))
        files = count(endings.total(), "file that is not an image", "files that are not images")
        reasons.append(f"{files} ({counts})")
    if reasons:
        note(f"{root}: left out: {'; '.join(reasons)}")


def _levels(root: Path, paths: Sequence[Path]) -> tuple[int, int | None]:
    """Levels at which class and split stand: ``CLASS/x.png``, ``train/CLASS/x.png`` or ``CLASS/train/x.png``.

    `InputError` for a mixture: guessing there trains a model that tells the classes ``train`` and ``test`` apart.
    """
    first = sorted({p.parts[0] for p in paths})
    splits = _split_folders(root, first)
    others = [name for name in first if name not in splits]
    inner = _split_folders(root, sorted({p.parts[1] for p in paths if len(p.parts) > 2}))
    # Kaggle's archives hold the whole set once more, in a folder of its own name.
    whole = sorted({p.parts[0] for p in paths if len(p.parts) > 3 and p.parts[1] in inner})
    if splits and others:
        what = "which holds split folders too" if others[0] in whole else "which is none"
        near = "" if others[0] in whole else did_you_mean(others[0].lower(), _SPLIT_WORDS)
        way = f"{near} If not, move it elsewhere" if near else "; move it elsewhere"
        raise InputError(f"{root}: beside the split folders {', '.join(splits)} lies {others[0]}, {what}{way}")
    bare = [p for p in paths if len(p.parts) < 3]
    if splits and bare:
        raise InputError(f"{root}: {bare[0].as_posix()} lies in a split folder, but in no class folder")
    if splits:
        return 1, 0
    outside = [p for p in paths if len(p.parts) < 3 or p.parts[1] not in inner]
    if not outside and len(first) > 1:
        return 0, 1
    if whole:
        raise InputError(f"{root}: split folders lie further down; give {root / whole[0]}")
    if inner and outside:
        # A new split would train on images of the published test set.
        divided = next(p.parts[0] for p in paths if p not in set(outside))
        raise InputError(
            f"{root}: {divided} is split into {' and '.join(inner)}, {outside[0].as_posix()} is in none of them; "
            "divide every class, or none"
        )
    return 0, None


def _split_folders(root: Path, names: Sequence[str]) -> list[str]:
    """Which of the folders beside each other are splits; `InputError` for names that only look as if they were."""
    splits = [name for name in names if split_of_name(name)]
    if len(splits) == 1 and splits[0].lower() not in _SPLIT_WORDS:
        raise InputError(
            f"{root}: {splits[0]} looks like a split folder, but no other lies beside it; rename it, or give the "
            "folder that holds the class folders"
        )
    words = {name: match for name in names if name not in splits and (match := _SPLIT_WORD.match(name))}
    if len({_SPLIT_WORDS[match[1].lower()] for match in words.values()}) > 1:
        raise InputError(
            f"{root}: {listed(words)} look like split folders; rename them train, val and test, or otherwise if they "
            "are classes"
        )
    return splits


def _open_csv(csv: Path, root: str | Path | None, columns: Mapping[str, str] | None, label: str | None) -> Dataset:
    table = read_text(csv, "a CSV table")
    table = named_columns(table, dict(columns or {}), csv, needed=("path",) if label else ("path", "label"))
    for column in table.columns.difference([*ALIASES]):
        table[column] = as_numbers(table[column])
    if label:
        given = table["label"] if "label" in table else pd.Series(None, table.index, dtype=object)
        table["label"] = given.where(given.notna() & (given.astype(str).str.strip() != ""), label)
    if table.empty:
        raise InputError(f"{csv}: no rows")
    for column in {"path", "mask", "lesion"} & set(table.columns):
        # from text alone: an empty cell is no path
        table[column] = [c.strip().replace("\\", "/") if isinstance(c, str) else c for c in table[column]]
    if root is not None and not Path(root).is_dir():
        raise InputError(f"{root}: no such folder; root is the folder that the paths of {csv} are relative to")
    bounded = root is not None  # else tables of `datasets convert` lead to images beside their own folder
    root = Path(root) if root is not None else _root_of(csv, table["path"])

    def below(text: str) -> str:
        path = listed_path(text, root)
        # An absolute path would not move with its files; one that leads out of a folder was given away with the table.
        if os.path.isabs(path) or (bounded and path.startswith("../")):
            raise InputError(f"{text}: is not under {root}; name a root that holds all files (root=...)")
        return path

    for column in {"path", "mask", "lesion"} & set(table.columns):
        far = [any(part.startswith("/") or ".." in part for part in cell_paths(cell)) for cell in table[column]]
        table[column] = [moved(c, below) if check else c for c, check in zip(table[column], far, strict=True)]
    return Dataset(table, root, (), csv.stem)


def _root_of(csv: Path, paths: pd.Series) -> Path:
    """The CSV's folder, or its parent where only that holds the files (judged by a sample, first to last row)."""
    folder = csv.absolute().parent
    sample = [p for p in paths.dropna() if p]
    sample = sample[:: max(1, len(sample) // 50)]
    present = [sum(os.path.isfile(place / p) for p in sample) for place in (folder, folder.parent)]
    if present[1] > present[0]:
        print(f"{csv}: paths are relative to {folder.parent}, not to the table's own folder", file=sys.stderr)
        return folder.parent
    return folder


def _independent(dataset: Dataset, classes: Sequence[str], for_training: bool) -> Dataset:
    """The data set with its findings, in whatever form they stand, as independent classes."""
    name, table = dataset.name, with_findings(dataset.table, classes, dataset.name)
    there, names = findings_of(table), tuple(finding_name(c) for c in classes)
    if for_training:
        names = names or tuple(c for c in there if _tells_apart(table[PREFIX + c]))
        if len(set(names)) < 2:
            raise InputError(
                f"{name}: multilabel needs two findings or more, each present in one image and absent in another; "
                f"findings here: {', '.join(there) or 'none'} (columns of 1, 0 and -1, or a column labels with "
                "Effusion|Mass expected)"
            )
        dataset = replace(dataset, table=table, classes=names, task="independent")
        for finding in names:
            values = table[PREFIX + finding]
            if not _tells_apart(values):
                raise InputError(
                    f"{name}: finding {finding} is present in {int((values == 1).sum())} images and absent in "
                    f"{int((values == 0).sum())}; leave it out of classes"
                )
        return dataset
    names = names or tuple(there)
    if not any(n in there and table[PREFIX + n].notna().any() for n in names):
        raise InputError(f"{name}: findings {', '.join(there) or 'none'}; the model knows {', '.join(names)}")
    missing = {PREFIX + n: np.nan for n in names if n not in there}
    return replace(dataset, table=table.assign(**missing), classes=names, task="independent")


def _tells_apart(values: pd.Series) -> bool:
    return bool((values == 1).any() and (values == 0).any())
