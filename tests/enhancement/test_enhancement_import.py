"""The room stands alone: importing and using it loads neither Keras nor any other room."""

from __future__ import annotations

import subprocess
import sys

import pytest

import enhancement

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


def test_importing_the_room_loads_no_heavy_library():
    assert loaded("import enhancement", {"tensorflow", "keras", "skimage", "matplotlib", "pydicom", "cv2"}) == []


def test_the_help_loads_no_heavy_library():
    statement = "import enhancement.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\nprint(end='|')"
    assert loaded(statement, {"tensorflow", "keras", "skimage", "matplotlib", "pydicom", "cv2", "numpy"})[-1].endswith(
        "|"
    )


@pytest.mark.parametrize("name", enhancement.__all__)
def test_every_public_name_is_there(name):
    assert getattr(enhancement, name) is not None
    assert name in dir(enhancement)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nothing"):
        _ = enhancement.nothing
