"""Outlines are drawn where the mask ends; sheets hold every picture."""

import numpy as np
import pytest

from segmentation.overlay import FOUND, contact_sheet, draw_outline


def test_the_outline_lies_on_the_edge_and_nowhere_else_and_an_empty_mask_draws_none():
    image, mask = np.zeros((60, 60), np.uint8), np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    drawn = draw_outline(image, mask)
    assert tuple(drawn[20, 30]) == FOUND and not drawn[30, 30].any() and not drawn[5, 5].any()
    assert drawn.shape == (60, 60, 3) and not image.any()
    gray = np.full((9, 9), 7, np.uint8)
    assert (draw_outline(gray, np.zeros((9, 9), bool)) == 7).all()
    with pytest.raises(ValueError, match="shape"):
        draw_outline(gray, np.zeros((8, 9), bool))


def test_a_sheet_holds_every_picture_and_caption():
    pictures = [np.full((40, 20), 200, np.uint8), np.full((10, 30, 3), 90, np.uint8), np.zeros((5, 5), np.uint8)]
    sheet = contact_sheet(pictures, ["one", "two\nlines"], columns=2, side=32)
    assert sheet.shape == (2 * (32 + 28), 64, 3)
    assert (sheet[16, 16] == 200).all() and (sheet[16, 48] == 90).all()
    assert sheet[33:60, :32].max() > 200
