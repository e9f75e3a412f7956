"""Pairs of suspected copies side by side on one picture, for a look by eye."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from enhancement import read_radiograph
from enhancement.errors import InputError
from enhancement.files import whole_file

_TILE, _GAP, _TEXT, _COLUMNS = 160, 8, 34, 4


def contact_sheet(pairs: pd.DataFrame, root: Path, path: str | Path, *, most: int = 60) -> Path:
    """Draw at most `most` rows of `Duplicates.pairs`, the least certain first, as one PNG; paths are below `root`."""
    shown = pairs.sort_values("correlation", kind="stable").head(most)
    width, height = 2 * _TILE + _GAP, _TILE + _TEXT
    rows = -(-len(shown) // _COLUMNS)
    columns = min(_COLUMNS, len(shown))
    sheet = np.full((rows * (height + _GAP) + _GAP, columns * (width + 2 * _GAP) + _GAP), 255, np.uint8)
    for i, pair in enumerate(shown.itertuples()):
        top, left = _GAP + i // _COLUMNS * (height + _GAP), _GAP + i % _COLUMNS * (width + 2 * _GAP)
        for number, name in enumerate((pair.path_a, pair.path_b)):
            x = left + number * (_TILE + _GAP)
            sheet[top : top + _TILE, x : x + _TILE] = _tile(root / str(name))
            text = Path(str(name)).name[-24:].encode("ascii", "replace").decode()
            cv2.putText(sheet, text, (x, top + _TILE + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.35, 0, 1, cv2.LINE_AA)
        title = f"{pair.duplicate_group} {pair.kind} {pair.correlation:.2f}{' mirrored' if pair.mirrored else ''}"
        cv2.putText(sheet, title, (left, top + _TILE + 28), cv2.FONT_HERSHEY_SIMPLEX, 0.35, 0, 1, cv2.LINE_AA)
    with whole_file(Path(path)) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    return Path(path)


def _tile(path: Path) -> np.ndarray:
    tile = np.zeros((_TILE, _TILE), np.uint8)
    try:
        image = read_radiograph(path)
    except InputError:
        return tile
    scale = _TILE / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    top, left = (_TILE - height) // 2, (_TILE - width) // 2
    tile[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return tile
