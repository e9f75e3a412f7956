"""What the project needs to be installed, by the names that are imported. Imports nothing but the standard library."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of `install_requires` in setup.cfg.
MODULES = {"cv2", "h5py", "jinja2", "jsonargparse", "keras", "lazy_loader", "lime", "matplotlib", "numpy", "openvino"}
MODULES |= {"pandas", "PIL", "platformdirs", "pydicom", "scipy", "skimage", "sklearn", "tensorflow", "tqdm", "yaml"}
INSTALL = "python3 -m venv .venv && . .venv/bin/activate && pip install --constraint constraints.txt '.[test]'"


@contextmanager
def installed(prog: str) -> Iterator[None]:
    """End a script with one line and exit code 2 where one of `MODULES` is missing; other errors pass."""
    try:
        yield
    except ModuleNotFoundError as error:
        # The top-level name alone: without a part of an installed module, its version is the problem.
        if error.name not in MODULES or "--debug" in sys.argv:
            raise
        print(
            f"{prog}: error: {sys.executable} has no module {error.name}; activate the environment that you installed "
            f"into (. .venv/bin/activate), or install: {INSTALL}",
            file=sys.stderr,
        )
        sys.exit(2)
