"""Makes `keras2_files` and `numpy_networks`, which lie here, importable for these tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
