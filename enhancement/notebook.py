"""What results share: they show themselves in a notebook, and many of them are a list with a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
_PRINTED = 3  # results in the text form of a list


class NotebookDisplay:
    """Shows itself in a notebook, as a table or a picture; what cannot be shown falls back to `repr`."""

    def _html(self) -> str | None:
        """HTML with everything escaped."""
        return None

    def _picture(self) -> np.ndarray | bytes | None:
        """RGB ``uint8 [H, W, 3]``, or a PNG file."""
        return None

    def _repr_html_(self) -> str | None:
        return _or_none(self._html)

    def _repr_png_(self) -> bytes | None:
        return _or_none(lambda: _png(self._picture()))


class Results(list[T], NotebookDisplay):
    """A list of results, each with ``to_row()``; `to_frame` gives them as a table, and a slice is one too."""

    def to_frame(self) -> pd.DataFrame:
        """One row a result, in order."""
        import pandas as pd

        return pd.DataFrame([item.to_row() for item in self])  # type: ignore[attr-defined]

    def _html(self) -> str | None:
        # pandas escapes, and leaves out the middle of a long table.
        return self.to_frame()._repr_html_()  # type: ignore[operator]

    def __repr__(self) -> str:
        rest = [f"... {len(self) - _PRINTED:,} more"] if len(self) > _PRINTED else []
        return f"[{', '.join([*map(repr, list.__getitem__(self, slice(_PRINTED))), *rest])}]"

    def __getitem__(self, index: Any) -> Any:
        value = super().__getitem__(index)
        if not isinstance(index, slice):
            return value
        part = type(self)(value)
        part.__dict__.update(self.__dict__)
        return part


def _or_none(draw: Callable[[], T]) -> T | None:
    # Jupyter prints the traceback of a display that fails; half a result must not do that.
    try:
        return draw()
    except Exception:
        return None


def _png(picture: np.ndarray | bytes | None) -> bytes | None:
    import cv2

    if picture is None or isinstance(picture, bytes):
        return picture
    written, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return data.tobytes() if written else None
