"""Small folders that look like the published sets."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# where miniatures and dicom_files lie
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "enhancement")]


@pytest.fixture
def lay(tmp_path):
    """``lay({path: content})`` writes files below a folder: text as it is, an array or None as an image."""

    def write(files: dict, folder: str = "set") -> Path:
        root = tmp_path / folder
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            else:
                image = np.tile(np.arange(8, dtype=np.uint8) * 30, (8, 1)) if content is None else content
                # by Pillow: OpenCV writes no gray GIF
                Image.fromarray(image).save(path, None if path.suffix.lower() in (".png", ".gif") else "JPEG")
        return root

    return write
