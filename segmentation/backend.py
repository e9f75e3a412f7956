"""Loading Keras: the one place where its backend is first imported by this project's own commands."""

from __future__ import annotations

import os
import sys
import tempfile


def quiet_backend() -> None:
    """Import Keras without the page of notices that TensorFlow prints before its log level holds.

    What was held back is shown if the import fails. Does nothing once the backend is loaded.
    """
    if "tensorflow" in sys.modules or "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            import keras

            keras.random.uniform((1,))  # the devices are found on first use, with more notices
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
