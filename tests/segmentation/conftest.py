"""Synthetic chests with known lungs, small networks, and weights files of them."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest


def _chest(seed: int = 0, height: int = 96, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A gray body with two dark ellipses: ``uint8 [H, W]`` and the ellipses as ``bool [H, W]``."""
    generator = np.random.default_rng(seed)
    lungs = np.zeros((height, width), np.uint8)
    for column in (0.3, 0.7):
        centre = (int((column + generator.uniform(-0.02, 0.02)) * width), int(0.5 * height))
        cv2.ellipse(lungs, centre, (int(0.14 * width), int(0.3 * height)), 0, 0, 360, 1, -1)
    image = np.where(lungs > 0, 60, 180) + generator.normal(0, 6, (height, width))
    return image.clip(0, 255).astype(np.uint8), lungs.astype(bool)


@pytest.fixture(scope="session")
def chest():
    """Makes a synthetic chest: ``chest(seed, height, width) -> image, lungs``."""
    return _chest


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory) -> Path:
    """Twelve chests of two sources and seven patients: images/, masks/, left/, right/ and pairs.csv."""
    folder = tmp_path_factory.mktemp("pairs")
    for name in ("images", "masks", "left", "right"):
        (folder / name).mkdir()
    lines = ["image,mask,source,convention,group_id,patient_id"]
    for i in range(12):
        image, lungs = _chest(i)
        mask = lungs.astype(np.uint8) * 255
        halves = np.zeros_like(mask), np.zeros_like(mask)
        halves[0][:, :40], halves[1][:, 40:] = mask[:, :40], mask[:, 40:]
        for name, picture in zip(("images", "masks", "left", "right"), (image, mask, *halves), strict=True):
            cv2.imwrite(str(folder / name / f"chest{i:02d}.png"), picture)
        source, convention = ("east", "lung_field") if i < 7 else ("west", "lung_incl_retrocardiac")
        lines.append(f"images/chest{i:02d}.png,masks/chest{i:02d}.png,{source},{convention},g{i * 7 // 12},p{i}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def given_split(pair_folder) -> list:
    """Its pairs with a split of their own, in which each source, and so each convention, is on all sides."""
    from segmentation.pairs import pairs_from_csv

    sides = ("train", "train", "validation", "test", "train", "validation", "test")
    return [replace(p, split=sides[int(p.group[1:])]) for p in pairs_from_csv(pair_folder / "pairs.csv")]


def _save(model, folder: Path, conventions, size: int, **options) -> Path:
    from segmentation.model import SegmenterInput
    from weights.format import save_weights

    metadata = {
        "kind": "segmenter",
        "architecture": {"name": "unet", "options": options},
        "conventions": list(conventions),
        "input": SegmenterInput(size=size, enhancement="none").to_dict(),
        "training": {},
    }
    return save_weights(model, folder / "tiny.weights.h5", metadata)


@pytest.fixture(scope="session")
def chest_weights(tmp_path_factory) -> Path:
    """A tiny two-output network that takes what is dark but not black for lung, as a weights file."""
    import keras

    from segmentation.model import CONVENTIONS, unet

    keras.utils.set_random_seed(1)
    options = {"width": 4, "outputs": 2, "scaling": "unit"}
    model = unet(size=48, **options)
    # Set by hand, as training takes a quarter of a minute. Gray levels above 25 and above 90 pass along the topmost
    # skip, what comes from below joins them weakly, and the head weighs the one against the other.
    same = np.zeros((3, 3, 4, 4), np.float32)
    same[1, 1] = np.eye(4)
    joined = np.concatenate([0.02 * model.get_layer("joined1_a").get_weights()[0][:, :, :4], same], axis=2)
    model.get_layer("down1_a").set_weights([same.sum(axis=2, keepdims=True), np.array([-0.1, -0.35, 0, 0])])
    for name, kernel in (("down1_b", same), ("joined1_a", joined), ("joined1_b", same)):
        model.get_layer(name).set_weights([kernel, np.zeros(4)])
    head = np.array([[100, 80], [-300, -240], [0, 0], [0, 0]])
    model.get_layer("masks").set_weights([head[None, None], np.array([-7, -5.6])])
    return _save(model, tmp_path_factory.mktemp("weights"), CONVENTIONS, 48, **options)


@pytest.fixture(scope="session")
def field_weights(tmp_path_factory) -> Path:
    """An untrained network of one output, lung_field, as a weights file."""
    from segmentation.model import unet

    options = {"width": 2, "outputs": 1}
    return _save(unet(size=32, **options), tmp_path_factory.mktemp("weights"), ["lung_field"], 32, **options)
