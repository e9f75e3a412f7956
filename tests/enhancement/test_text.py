"""Burned-in text: letters are found and concealed, smooth anatomy is not, within the lungs only clear letters are."""

import cv2
import numpy as np
import pytest

from enhancement import conceal_text, find_text
from enhancement.__main__ import main
from enhancement.errors import InputError


def chest(height=400, width=480):
    """Smooth and noisy: two dark lungs, ribs across them, a bright spine."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    lungs = sum(np.exp(-(((x - side) / 0.13) ** 2) - ((y - 0.5) / 0.3) ** 2) for side in (0.28, 0.72))
    ribs = 15 * np.sin(40 * y + 6 * np.abs(x - 0.5)) * lungs
    noise = np.random.default_rng(0).normal(0, 2, (height, width))
    return np.clip(150 - 110 * lungs + ribs + 30 * np.exp(-(((x - 0.5) / 0.06) ** 2)) + noise, 0, 255).astype(np.uint8)


def write(image, text, place, level, size=0.8, thickness=2):
    drawn = image.copy()
    cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, int(level), thickness, cv2.LINE_AA)
    return drawn, np.abs(drawn.astype(int) - image) > 20


@pytest.mark.parametrize(
    ("text", "place", "level"), [("R", (20, 40), 250), ("AP 12", (370, 35), 255), ("b", (20, 385), 0)]
)
@pytest.mark.parametrize("scale", [1, 3])
def test_letters_are_found_and_concealed_and_nothing_else_changes(text, place, level, scale):
    plain = chest()
    assert not find_text(plain).any() and (conceal_text(plain) == plain).all()
    image, letters = write(plain, text, place, level)
    image, letters, plain = (np.kron(a, np.ones((scale, scale), a.dtype)) for a in (image, letters, plain))
    before = image.copy()
    found, concealed = find_text(image), conceal_text(image)
    assert found.shape == image.shape and found.dtype == bool and found[letters].mean() > 0.98
    assert (concealed[~found] == image[~found]).all() and (image == before).all()
    assert np.abs(concealed[letters].astype(int) - plain[letters]).mean() < 12
    assert found.sum() < 6 * letters.sum()


def test_within_the_lungs_a_letter_must_be_clear():
    image = chest()
    lungs = np.zeros(image.shape, bool)
    lungs[100:300, 80:200] = True
    faint, bright = (write(image, "A", (120, 200), image[200, 130] + contrast)[0] for contrast in (65, 150))
    assert not find_text(faint, lungs).any() and find_text(bright, lungs).any()
    assert find_text(faint, np.zeros_like(lungs)).any()


def test_a_batch_a_file_and_shapes_without_room_for_letters(tmp_path):
    images = np.stack([chest(), write(chest(), "L", (430, 40), 255)[0]])
    concealed = conceal_text(images)
    assert (concealed[0] == images[0]).all() and (concealed[1] != images[1]).any()
    path = tmp_path / "marked.png"
    cv2.imwrite(str(path), images[1])
    assert (find_text(path) == find_text(images[1])).all()
    assert main(["conceal", str(path), str(tmp_path / "plain.png")]) == 0
    assert (cv2.imread(str(tmp_path / "plain.png"), cv2.IMREAD_GRAYSCALE) == concealed[1]).all()
    for shape in ((1, 1), (1, 900), (900, 2), (5, 5)):
        for level in (0, 255):
            assert not find_text(np.full(shape, level, np.uint8)).any()
    with pytest.raises(InputError, match=r"lungs: a mask of \(3, 3\) given, \(400, 480\) expected"):
        find_text(images[0], np.zeros((3, 3), bool))
