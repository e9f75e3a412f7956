"""Synthetic chests with known lungs, small networks, and weights files of them."""

from __future__ import annotations

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
    from dataclasses import replace

    from segmentation.pairs import pairs_from_csv

    sides = ("train", "train", "validation", "test", "train", "validation", "test")
    return [replace(p, split=sides[int(p.group[1:])]) for p in pairs_from_csv(pair_folder / "pairs.csv")]


@pytest.fixture(scope="session")
def chest_weights(tmp_path_factory) -> Path:
    """A tiny two-output network taught the synthetic chests, as a weights file."""
    import keras

    from segmentation.losses import loss_named
    from segmentation.model import CONVENTIONS, SegmenterInput, unet
    from weights.format import save_weights

    keras.utils.set_random_seed(1)
    settings = SegmenterInput(size=48, enhancement="none")
    squares, targets = [], []
    for seed in range(16):
        image, lungs = _chest(100 + seed, *[(96, 80), (80, 80), (60, 90)][seed % 3])
        square, frame = settings.prepare(image)
        squares.append(square[..., None])
        targets.append(np.repeat(frame.place(frame.cut(lungs))[..., None], 2, -1).astype(np.float32))
    model = unet(4, outputs=2, size=48, scaling="unit")
    model.compile(keras.optimizers.Adam(1e-2), loss=loss_named("combined"))
    model.fit(np.stack(squares), np.stack(targets), batch_size=4, epochs=25, verbose=0)
    metadata = {
        "kind": "segmenter",
        "architecture": {"name": "unet", "options": {"width": 4, "outputs": 2, "scaling": "unit"}},
        "conventions": list(CONVENTIONS),
        "input": settings.to_dict(),
        "training": {},
    }
    return save_weights(model, tmp_path_factory.mktemp("weights") / "tiny.weights.h5", metadata)


@pytest.fixture(scope="session")
def field_weights(tmp_path_factory) -> Path:
    """An untrained network of one output, lung_field, as a weights file."""
    from segmentation.model import SegmenterInput, unet
    from weights.format import save_weights

    metadata = {
        "kind": "segmenter",
        "architecture": {"name": "unet", "options": {"width": 2, "outputs": 1}},
        "conventions": ["lung_field"],
        "input": SegmenterInput(size=32, enhancement="none").to_dict(),
        "training": {},
    }
    return save_weights(unet(2, size=32), tmp_path_factory.mktemp("weights") / "field.weights.h5", metadata)
