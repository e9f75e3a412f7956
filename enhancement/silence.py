"""Decoders kept quiet: what is wrong with a file is told once, by its error, and not by lines of a library."""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import AbstractContextManager

from cv2.utils import logging as _log

# The loggers of the modules of these libraries hand their lines on to them.
_LOGGERS = [logging.getLogger(name) for name in ("pydicom", "PIL")]
# Without any handler Python prints a line itself.
_NOWHERE = logging.NullHandler()


class _Silence:
    """Counts the blocks that want silence: threads overlap, which `warnings.catch_warnings` does not allow."""

    def __init__(self) -> None:
        self.lock, self.users, self.filters = threading.Lock(), 0, warnings.catch_warnings()
        self.level = 0

    def __enter__(self) -> None:
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.simplefilter("ignore")
                # OpenCV passes on what libtiff says of tags that it does not know.
                self.level = _log.setLogLevel(_log.LOG_LEVEL_SILENT)
                for logger in _LOGGERS:
                    logger.propagate = False
                    logger.addHandler(_NOWHERE)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self.filters.__exit__(None, None, None)
                _log.setLogLevel(self.level)
                for logger in _LOGGERS:
                    logger.propagate = True
                    logger.removeHandler(_NOWHERE)


_SILENCE = _Silence()


def silent_decoders() -> AbstractContextManager[None]:
    """Context without warnings and log lines of pydicom, Pillow and OpenCV.

    pydicom's quote values, and with them a patient: reading a file and every access to its elements belong inside.
    """
    return _SILENCE
