"""What tests of the classifier share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def no_released_segmenter(monkeypatch):
    """Results must not depend on which weights this installation carries."""
    import weights

    def released(name):
        raise weights.WeightsError(f"no released weights are named {name!r}")

    monkeypatch.setattr("weights.lookup.released", released)
