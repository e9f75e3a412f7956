"""The room stands alone: importing and using it loads neither Keras nor any other room."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import enhancement

HEAVY = {"skimage", "matplotlib", "pydicom", "cv2", "numpy"}
PROGRAM = """
import sys
{statement}
loaded = {{name.split(".")[0] for name in sys.modules}}
print(*sorted(loaded & {names!r}))
"""


def loaded(statement: str, names: set[str]) -> list[str]:
    program = PROGRAM.format(statement=statement, names=names)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


USE = """
import numpy as np, enhancement
for name in enhancement.__all__:
    getattr(enhancement, name)
enhancement.stack(np.zeros((9, 9), np.uint8), enhancement.CHANNELS)
import enhancement.dicom, enhancement.raster, enhancement.batch, enhancement.sheet, enhancement.__main__
"""


def test_using_every_function_loads_no_keras_and_no_other_room():
    assert loaded(USE, {"tensorflow", "keras", "torch", "jax", "segmentation", "covidcxnet", "sklearn", "pandas"}) == []


def test_help_and_import_load_no_heavy_library_and_the_module_runs_as_a_program():
    help = "import enhancement.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass"
    *text, last = loaded(f"import enhancement\n{help}\nprint(end='|')", {"tensorflow", "keras", *HEAVY})
    assert last.endswith("|")
    assert {"beasf", "clahe", "equalize", "blur", "match", "stack"} <= set(re.findall(r"\w+", " ".join(text)))
    done = subprocess.run([sys.executable, "-m", "enhancement", "--help"], capture_output=True, text=True, check=True)
    assert "beasf" in done.stdout


def test_every_public_name_is_there_and_unknown_ones_are_attribute_errors():
    assert set(enhancement.__all__) <= set(dir(enhancement))
    assert all(getattr(enhancement, name) is not None for name in enhancement.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = enhancement.nothing
