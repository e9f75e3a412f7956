"""The same picture twice, in one set or in two: exact copies, and copies cropped, scaled, tinted, lettered or mirrored.

Exact copies have the same SHA-256. For the others perceptual hashes propose (`fingerprint`), and a second look decides:
one thumbnail is registered to the other (Evangelidis and Psarakis 2008, ECC) and their details are correlated. Memory
stays flat: thumbnails and codes lie in temporary files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.fingerprint import CODE, LOW, SIDE, WINDOWS, encode, near, thumbnail
from covidcxnet.datasets.splits import connected
from enhancement import read_radiograph
from enhancement.errors import InputError
from enhancement.files import whole_file
from enhancement.parallel import DIED, map_files, sha256
from enhancement.progress import ProgressBar
from segmentation.overlay import contact_sheet
from segmentation.regions import bring_down

PAIRS = ("duplicate_group", "kind", "path_a", "path_b", "correlation", "overlap", "mirrored")
GROUPS = ("path", "duplicate_group", "verdict", "reason")

RADIUS = 12  # bits of 64 in which a copy's hash may differ
LIKELY = 0.82  # correlation of codes from which on a pair gets its second look
# correlation of fine details, after registration, from which on a pair is called a copy; no two different radiographs
# of 6,761 came above 0.74
CERTAIN = 0.75
_COARSE, _FINE = 4.0, 1.2  # pixels; ribs and heart are coarse and alike in all of us, fine edges are a picture's own
_HOPELESS = 0.2  # correlation of coarse details before registration below which it is not tried
_STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-4)
_TILE, _COLUMNS = 160, 8  # pixels of a picture on the sheet of pairs, and pictures in a row


@dataclass(frozen=True)
class Duplicates:
    """Pairs and groups of copies.

    ``kind`` of a pair is exact (the same file) or near; ``path_a`` is the larger image. ``correlation`` is that of the
    details (1 for exact), ``overlap`` the share of b that a shows. ``verdict`` is use for the largest of a group and
    reject for the others, so that `groups` serves as a table of verdicts; edit it where you know better.
    """

    pairs: pd.DataFrame  # `PAIRS`, one row a pair
    groups: pd.DataFrame  # `GROUPS`, one row an image that has a copy
    unreadable: pd.DataFrame  # path and reason
    second_looks: int  # pairs that the hashes proposed


@dataclass(frozen=True)
class Fit:
    """How two thumbnails lie over each other."""

    correlation: float  # of their details where they overlap, -1..1
    overlap: float  # share of the first that the second covers, 0..1
    shown: float  # share of the second that the first shows, 0..1


def find_duplicates(dataset: Dataset, *, jobs: int | None = None, progress: bool = True) -> Duplicates:
    """Compare every image with every other, of one set or of several merged; `InputError` if no file can be read."""
    count = len(dataset)
    with tempfile.TemporaryDirectory() as folder:
        thumbnails = np.memmap(Path(folder, "thumbnails"), np.uint8, "w+", shape=(count, SIDE, SIDE))
        sizes, hashes, errors = np.zeros(count, int), [""] * count, [""] * count
        files = map_files(_read, dataset.paths, lost=lambda _: ("", 0, None, DIED), jobs=jobs, progress=progress)
        for i, (hashes[i], sizes[i], small, errors[i]) in enumerate(files):
            if small is not None:
                thumbnails[i] = small
        readable = np.array([not error for error in errors])
        if not readable.any():
            raise InputError(f"{dataset.name}: no file can be read, the first because: {errors[0]}")
        first: dict[str, int] = {}
        exact: list[tuple] = []
        for i, sha in enumerate(hashes):
            if sha and first.setdefault(sha, i) != i:
                exact.append((first[sha], i, 1.0, (1.0, 1.0), False))
        rows = np.array([i for i in sorted(first.values()) if readable[i]], int)
        near_pairs, looks = near_copies(thumbnails, rows, folder, progress)
        del thumbnails
    names = dataset.table["path"].to_numpy()
    groups = _components(count, [(a, b) for a, b, *_ in exact + near_pairs])
    pairs = pd.DataFrame([_pair(row, sizes, names, groups) for row in exact + near_pairs], columns=list(PAIRS))
    pairs = pairs.sort_values(["duplicate_group", "path_a", "path_b"], ignore_index=True)
    unreadable = [(names[i], errors[i]) for i in np.flatnonzero(~readable)]
    return Duplicates(pairs, _groups(groups, sizes, names), pd.DataFrame(unreadable, columns=["path", "reason"]), looks)


def draw_pairs(pairs: pd.DataFrame, root: Path, path: str | Path, *, most: int = 60) -> Path:
    """Draw at most `most` rows of `Duplicates.pairs`, the least certain first, as one PNG; paths are below `root`."""
    pictures, captions = [], []
    for pair in pairs.sort_values("correlation", kind="stable").head(most).itertuples():
        result = f"{pair.duplicate_group} {pair.kind} {pair.correlation:.2f}"
        for name, line in ((str(pair.path_a), result), (str(pair.path_b), "mirrored" if pair.mirrored else "")):
            try:
                pictures.append(bring_down(read_radiograph(root / name), _TILE))
            except InputError:  # an exact copy of a file that cannot be read either
                pictures.append(np.zeros((_TILE, _TILE), np.uint8))
            captions.append(f"{Path(name).name[-20:].encode('ascii', 'replace').decode()}\n{line}")
    sheet = contact_sheet(pictures, captions, columns=min(_COLUMNS, len(pictures)), side=_TILE)
    with whole_file(Path(path)) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    return Path(path)


def _propose(hashes: np.ndarray, codes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs worth a second look: `first` may show the `window` of `second`, arrays [K]; a pair may come again."""
    count, windows = len(hashes), len(WINDOWS)
    queries = np.concatenate([hashes[:, 0], hashes[:, -1]])
    whole, turned = np.ascontiguousarray(codes[:, 0]), np.ascontiguousarray(codes[:, -1])
    for query, entry, _ in near(queries, hashes[:, :windows].reshape(-1), RADIUS):
        first, second, mirrored = query % count, entry // windows, query >= count
        keep = first != second
        entry, first, second, mirrored = (x[keep] for x in (entry, first, second, mirrored))
        likely = np.zeros(len(first), bool)
        for start in range(0, len(first), 1 << 16):
            part = slice(start, start + (1 << 16))
            query = np.where(mirrored[part, None], turned[first[part]], whole[first[part]]).astype(np.float32)
            likely[part] = (query * codes[second[part], entry[part] % windows]).sum(axis=1) >= LIKELY * CODE**2
        yield first[likely], second[likely], (entry % windows)[likely], mirrored[likely]


def near_copies(
    thumbnails: np.ndarray, rows: np.ndarray, folder: str, progress: bool = False
) -> tuple[list[tuple], int]:
    """Copies among `rows` of thumbnails uint8 [N, SIDE, SIDE], and how many pairs the hashes proposed.

    A copy is (a, b, correlation, (share of a that b shows, share of b that a shows), mirrored), a and b rows of
    `thumbnails`. Codes lie in `folder` meanwhile.
    """
    if len(rows) < 2:
        return [], 0
    small = thumbnails if len(rows) == len(thumbnails) else thumbnails[rows]
    shape = (len(rows), len(WINDOWS) + 1, LOW * LOW)
    hashes, codes = encode(small, np.memmap(Path(folder, "codes"), np.int8, "w+", shape=shape))
    tried: set[int] = set()
    copies: dict[tuple[int, int], tuple] = {}
    with ProgressBar(desc="second looks", unit="pair", disable=not progress) as bar:
        for batch in _propose(hashes, codes):
            for a, b, window, mirrored in zip(*(x.tolist() for x in batch), strict=True):
                key = ((a * len(rows) + b) * len(WINDOWS) + window) * 2 + mirrored
                pair = (min(a, b), max(a, b))
                if key in tried or pair in copies:
                    continue
                tried.add(key)
                bar.update()
                fit = second_look(small[a], small[b], window, mirrored)
                if fit.correlation >= CERTAIN:
                    # below 1, which is for equal files
                    correlation, shares = min(fit.correlation, 0.9999), (fit.overlap, fit.shown)
                    copies[pair] = (int(rows[a]), int(rows[b]), correlation, shares, bool(mirrored))
    del codes  # a mapped file must be closed before its folder goes
    return list(copies.values()), len(tried)


def second_look(first: np.ndarray, second: np.ndarray, window: int = 0, mirrored: bool = False) -> Fit:
    """Lay thumbnail `second` over `first`, both uint8 [SIDE, SIDE], and compare.

    `window` of `fingerprint.WINDOWS` is the part of `second` that `first` seems to show: there registration starts.
    """
    if mirrored:
        first = np.ascontiguousarray(first[:, ::-1])
    top, bottom, left, right = WINDOWS[window]
    warp = np.array([[right - left, 0, left * SIDE], [0, bottom - top, top * SIDE]], np.float32)
    before = _fit(first, second, warp, _FINE)
    if _fit(first, second, warp, _COARSE).correlation < _HOPELESS:
        return before
    everywhere = np.full((SIDE, SIDE), 255, np.uint8)
    try:
        _, moved = cv2.findTransformECC(first, second, warp.copy(), cv2.MOTION_AFFINE, _STEPS, everywhere, 5)
    except cv2.error:  # it did not converge
        return before
    scales = np.linalg.svd(moved[:, :2], compute_uv=False)
    if scales.min() < 0.5 or scales.max() > 2.0:
        return before
    after = _fit(first, second, moved, _FINE)
    return after if after.correlation > before.correlation else before


def _fit(first: np.ndarray, second: np.ndarray, warp: np.ndarray, scale: float) -> Fit:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(second, warp, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(second), warp, (SIDE, SIDE), flags=flags | cv2.INTER_NEAREST) > 0
    overlap = float(inside.mean())
    shown = min(1.0, overlap * abs(float(np.linalg.det(warp[:, :2]))))
    if overlap < 0.4:
        return Fit(-1.0, overlap, shown)
    a, b = _details(first, scale)[inside], _details(laid, scale)[inside]
    a, b = a - a.mean(), b - b.mean()
    return Fit(float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum() + 1e-9)), overlap, shown)


def _details(image: np.ndarray, scale: float) -> np.ndarray:
    # Chests are alike, so whole images of two people correlate well. What differs are edges: each place is brought to
    # mean 0 and spread 1 of its neighbourhood, which takes out tint and keeps burnt-in letters local.
    image = image.astype(np.float32)
    high = image - cv2.GaussianBlur(image, (0, 0), scale)
    return high / (np.sqrt(cv2.GaussianBlur(high**2, (0, 0), 1.5 * scale)) + 4)


def _components(count: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Number of the group of each row from 1, in table order; 0 for those in no pair."""
    groups = np.zeros(count, int)
    if pairs:
        a, b = np.array(pairs).T
        paired = np.unique([a, b])
        groups[paired] = pd.factorize(connected(a, b, count)[paired])[0] + 1
    return groups


def _pair(row: tuple, sizes, names, groups) -> tuple:
    a, b, correlation, (of_a, overlap), mirrored = row
    kind = "exact" if correlation == 1.0 and of_a == 1.0 and not mirrored else "near"
    if sizes[b] > sizes[a]:
        a, b, overlap = b, a, of_a
    return f"d{groups[a]:05d}", kind, names[a], names[b], round(correlation, 3), round(overlap, 2), mirrored


def _groups(groups, sizes, names) -> pd.DataFrame:
    rows = []
    for number in range(1, int(groups.max(initial=0)) + 1):
        members = np.flatnonzero(groups == number)
        best = members[np.argmax(sizes[members])]
        for i in members:
            reason = "" if i == best else f"a copy of {names[best]}"
            rows.append((names[i], f"d{number:05d}", "use" if i == best else "reject", reason))
    return pd.DataFrame(rows, columns=list(GROUPS))


def _read(path: Path) -> tuple[str, int, np.ndarray | None, str]:
    """SHA-256, pixels, thumbnail and the error of one file."""
    digest = ""
    try:
        digest = sha256(path)
        image = read_radiograph(path)
        small = thumbnail(image)
    except Exception as error:  # one bad file among thousands must not end the search, whatever it broke
        return digest, 0, None, str(getattr(error, "reason", error)) or type(error).__name__
    return digest, image.size, small, "blank" if small is None else ""
