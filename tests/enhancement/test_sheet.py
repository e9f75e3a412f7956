"""The comparison sheet."""

from __future__ import annotations

import numpy as np
import pytest

from enhancement import InputError
from enhancement.sheet import GAMMAS, draw_sheet, save_sheet


@pytest.fixture(scope="module")
def images():
    y, x = np.mgrid[:60, :80]
    return [(40 + y + x).astype(np.uint8), np.zeros((90, 30), np.uint8), np.full((1, 1), 255, np.uint8)]


@pytest.fixture(scope="module")
def figure(images):
    return draw_sheet(images[:1], ["chest"], gammas=(0.5, 1.5))


def test_every_variant_has_a_picture_and_a_histogram(figure):
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    variants = ("original", "histogram equalization", "CLAHE, clip 2", "BEASF, γ = 0.5", "BEASF, γ = 1.5")
    assert titles == [f"({letter}) {name}" for letter, name in zip("abcde", variants, strict=True)]
    assert len(figure.axes) == 10


def test_nothing_lies_on_anything_else(images):
    figure = draw_sheet(images, ["a", "b", "c"])
    assert len(figure.axes) == 2 * len(images) * (3 + len(GAMMAS))
    boxes = [axes.get_position() for axes in figure.axes]
    for index, box in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1
        for other in boxes[:index]:
            apart = box.x1 <= other.x0 or other.x1 <= box.x0 or box.y1 <= other.y0 or other.y1 <= box.y0
            assert apart


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_ending_decides_on_the_format_and_an_existing_sheet_is_left_unless_told(figure, tmp_path, suffix):
    path = tmp_path / f"sheet{suffix}"
    path.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        save_sheet(figure, path)
    assert path.read_text() == "precious"
    assert save_sheet(figure, path, overwrite=True).stat().st_size > 1000
