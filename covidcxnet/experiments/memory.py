"""Memory between the trainings of one process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


def free_memory() -> None:
    """Give the memory of the last network back before the next is built; loads no Keras where none is loaded."""
    keras = sys.modules.get("keras")
    clear: Callable[[], None] | None = getattr(getattr(keras, "utils", None), "clear_session", None)
    if clear is not None:
        clear()
    gc.collect()
