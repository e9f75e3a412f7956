"""Makes `encoded_pictures`, which lies here, importable for these tests."""

import sys
from pathlib import Path

import numpy as np
import pytest

from enhancement import read_radiograph

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def read(tmp_path):
    def read_bytes(data: bytes, **settings) -> np.ndarray:
        path = tmp_path / "radiograph"
        path.write_bytes(data)
        return read_radiograph(path, **settings)

    return read_bytes
