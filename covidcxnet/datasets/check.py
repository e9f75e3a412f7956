"""Every file of a data set opened and judged before it is trained on: a table of verdicts that `prepare` honours.

``use``; ``look``: used, and worth a look; ``reject``: not used. A person may change the verdict in the table.
"""

from __future__ import annotations

import fnmatch
import os.path
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from covidcxnet.datasets.dataset import VERDICTS, Dataset
from covidcxnet.datasets.named import NAMES, facts_of, load_named
from covidcxnet.datasets.recognition import OTHER, recognise
from covidcxnet.datasets.tables import cell_paths
from enhancement import read_radiograph
from enhancement.errors import InputError, printable
from enhancement.files import find_images
from enhancement.parallel import DIED, map_files, sha256

PROBLEMS = {
    "missing": ("reject", "listed, and not there"),
    "unreadable": ("reject", "cannot be read as a radiograph"),
    "blank": ("reject", "one grey level, or next to it"),
    "small": ("reject", "too few pixels to show a chest"),
    "photograph": ("reject", "a colour picture"),
    OTHER: ("look", "does not look like an upright frontal chest radiograph"),
    "inverted": ("look", "looks like a negative: air bright, bone dark"),
    "turned": ("look", "looks turned by a quarter or a half"),
    "lateral": ("look", "looks like a view from the side"),
    "colour": ("look", "has coloured pixels: a tint can reveal the source"),
    "size": ("look", "not of the size that the set is published in"),
    "mask": ("look", "its lung mask is missing"),
    "unlisted": ("look", "lies in the folder and is not listed"),
}
"""Problem to verdict and meaning, the gravest first."""

COLUMNS = ("path", "verdict", "problems", "reason", "width", "height", "sha256")


@dataclass(frozen=True)
class Look:
    """What opening one file shows."""

    problems: tuple[str, ...] = ()  # keys of `PROBLEMS`, the gravest first
    reason: str = ""  # the same in words
    width: int = 0  # in pixels, 0 where the file could not be read
    height: int = 0
    sha256: str = ""  # empty where the file could not be opened


def check(
    dataset: Dataset,
    *,
    pixels: tuple[int, int] | None = None,
    unlisted: Sequence[str] | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Open every file of a data set, listed or not, and say what is wrong with it.

    `pixels` (width, height) that every image should have, patterns of files that need not be listed; None looks both
    up for a set known by name. Rows of `COLUMNS`: listed images in table order, then files that are not listed.
    """
    if dataset.name in NAMES:
        facts = facts_of(dataset.name)
        pixels, unlisted = pixels or facts.pixels, facts.unlisted if unlisted is None else unlisted
    work, lost = partial(look_at, pixels=pixels), Look(("unreadable",), DIED)
    looks = map_files(work, dataset.paths, lost=lambda _: lost, jobs=jobs, desc="checking", progress=progress)
    rows = []
    for path, look, mask in zip(dataset.table["path"], looks, dataset.masks, strict=True):
        missing = [file for file in mask or () if not file.is_file()]
        if missing:
            reason = "; ".join(filter(None, (look.reason, f"no such mask: {missing[0].name}")))
            look = replace(look, problems=(*look.problems, "mask"), reason=reason)
        rows.append(_row(path, look))
    for path in _not_listed(dataset, unlisted or ()):
        rows.append(_row(path, Look(("unlisted",), PROBLEMS["unlisted"][1])))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def look_at(path: str | Path, pixels: tuple[int, int] | None = None) -> Look:
    """Open one file and judge it; never raises for what is in the file."""
    path = Path(path)
    try:
        digest = sha256(path)
    except FileNotFoundError:
        return Look(("missing",), "no such file")
    except OSError as error:
        return Look(("unreadable",), f"cannot be opened ({error.strerror})")
    try:
        image = read_radiograph(path)
        problems = recognise(image, path)
    except InputError as error:
        return Look(("unreadable",), getattr(error, "reason", str(error)), sha256=digest)
    except Exception:  # one bad file among thousands must not end the check, whatever it broke
        return Look(("unreadable",), "cannot be judged", sha256=digest)
    height, width = image.shape
    if pixels and (width, height) != tuple(pixels):
        problems["size"] = f"{width} x {height} pixels, {pixels[0]} x {pixels[1]} expected"
    ordered = [problem for problem in PROBLEMS if problem in problems]
    return Look(tuple(ordered), "; ".join(problems[p] for p in ordered), width, height, digest)


def _row(path: str, look: Look) -> tuple:
    """One row of `COLUMNS`; the gravest of its problems gives the verdict."""
    verdicts = {PROBLEMS[problem][0] for problem in look.problems}
    verdict = next((v for v in reversed(VERDICTS) if v in verdicts), "use")
    return path, verdict, ";".join(look.problems), look.reason, look.width, look.height, look.sha256


def _not_listed(dataset: Dataset, patterns: Sequence[str]) -> list[str]:
    """Image files below the root that the table names neither as image nor as mask or lesion."""
    if "*" in patterns:
        return []
    root, listed = dataset.root.absolute(), list(dataset.paths)
    if dataset.name in NAMES:
        # what options (lateral views, images without a label) left out is listed all the same
        widest = {"views": "all", "unlabelled": "keep", "headers": "skip"}
        options = {name: value for name, value in widest.items() if name in facts_of(dataset.name).options}
        with suppress(InputError):
            listed += load_named(dataset.name, dataset.root, **options).paths
    for column in {"mask", "lesion"} & set(dataset.table):
        listed += [root / part for cell in dataset.table[column] for part in cell_paths(cell)]
    # normalised, not resolved: a link is listed under its name, wherever it leads
    known = {os.path.normpath(path.absolute()) for path in listed}
    try:
        there = find_images(root)
    except InputError:
        return []
    # A table holds text alone, and a name may be bytes that are none.
    names = [printable(path.relative_to(root).as_posix()) for path in there if os.path.normpath(path) not in known]
    return [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
