#!/usr/bin/env python3
"""For maintainers: fit and measure the rule that tells upright frontal chest radiographs from other images.

``COVIDCXNET_DATA=DATA tools/frontal.py [NAME] [--unseen FOLDER]`` writes ``weights/NAME.frontal.npz`` for the released
segmenter NAME, by default ``lung-unet``, and prints rates. Each subfolder of FOLDER is a kind of images that are no
frontal chest radiographs; nothing is fitted to them.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

# Run as a script, this folder comes first on the path, and its weights.py is not the package.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *(p for p in sys.path if p != str(Path(__file__).parent))]

from enhancement import read_radiograph  # noqa: E402
from enhancement.errors import InputError  # noqa: E402
from enhancement.files import find_images  # noqa: E402
from segmentation import LungSegmenter  # noqa: E402
from segmentation.frontal import SUFFIX, pooled  # noqa: E402
from segmentation.segmenter import RELEASED  # noqa: E402
from weights.manifest import FOLDER  # noqa: E402

LAYER = "bottleneck_b_relu"
PER_SOURCE = 230  # so that no source outweighs the others
PENALTY = 0.01  # inverse strength of the L2 penalty: 63 images against 512 features need a strong one
MISSED = 0.005  # share of tuning frontals of sources left out that may score below 0: half of the 1% that is asked


def frontals(data: Path) -> pd.DataFrame:
    """Frontal radiographs with source and tuning half; patients stay together."""
    tables = [pd.read_csv(data / "classification/metadata.csv", low_memory=False)]
    tables.append(pd.read_csv(data / "segmentation/metadata.csv").rename(columns={"image": "path"}))
    table = pd.concat(tables)[["path", "source", "group_id"]].drop_duplicates("path")
    table = table.sample(frac=1, random_state=0).groupby("source").head(PER_SOURCE).reset_index(drop=True)
    # By a hash of the patient, so that an image keeps its half when other images are added or removed.
    table["tune"] = [zlib.crc32(str(group).encode()) % 2 == 0 for group in table["group_id"]]
    return table


def features(segmenter: LungSegmenter, paths: Sequence[Path]) -> tuple[np.ndarray, list[Path]]:
    """Pooled features of each image that can be read, ``float32 [N, 2 F]``, and which these are."""
    import keras

    network = keras.Model(segmenter.model.input, segmenter.model.get_layer(LAYER).output)
    rows, kept = [], []
    for path in paths:
        try:
            square, frame = segmenter.input.prepare(read_radiograph(path))
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        rows.append(pooled(np.asarray(network(square[None, ..., None]))[0], frame))
        kept.append(path)
    return np.stack(rows), kept


def fit(frontal: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean and scale of the features, weights and bias of logistic regression on them."""
    from sklearn.linear_model import LogisticRegression

    x, y = np.concatenate([frontal, other]), np.repeat([1, 0], [len(frontal), len(other)])
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    model = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=1000).fit((x - mean) / scale, y)
    return mean, scale, model.coef_[0], float(model.intercept_[0])


def score(x: np.ndarray, rule: tuple) -> np.ndarray:
    mean, scale, weights, bias = rule
    return (x - mean) / scale @ weights + bias


def left_out(x: np.ndarray, groups: np.ndarray, fitted) -> np.ndarray:
    """Scores of each group by the rule ``fitted(mask of the others)``, which has not used it."""
    scores = np.empty(len(x))
    for group in sorted(set(groups)):
        scores[groups == group] = score(x[groups == group], fitted(groups != group))
    return scores


def rate(name: str, below: np.ndarray) -> None:
    from scipy.stats import binomtest

    low, high = binomtest(int(below.sum()), len(below)).proportion_ci(method="wilson")
    print(f"{name:<44}{below.sum():5d} of {len(below):5d} {below.mean():7.1%} ({low:.1%} to {high:.1%})")


def main(name: str, data: Path, unseen: Path | None) -> None:
    segmenter = LungSegmenter(name)
    table = frontals(data)
    x, _ = features(segmenter, [data / path for path in table["path"]])
    tune, source = table["tune"].to_numpy(), table["source"].to_numpy()
    rejects = pd.read_csv(data / "reject/metadata.csv")
    other, _ = features(segmenter, [data / path for path in rejects["path"]])

    # A hospital that the rule has not met scores lower: the limit comes from sources left out.
    scores = left_out(x[tune], source[tune], lambda rest: fit(x[tune][rest], other))
    limit = float(np.quantile(scores, MISSED))
    mean, scale, weights, bias = fit(x[tune], other)
    halves = {"mean": mean, "scale": scale, "weights": weights}
    arrays = {name: values.astype(np.float16) for name, values in halves.items()}
    np.savez(FOLDER / f"{segmenter.name}{SUFFIX}", **arrays, bias=bias - limit, layer=LAYER, sha256=segmenter.sha256)
    rule = (*(values.astype(np.float32) for values in arrays.values()), bias - limit)

    print("Noted as not frontal, with Wilson 95% intervals\n\nFrontal radiographs")
    rate("of sources left out, tuning half", scores < limit)
    beyond = left_out(x, source, lambda rest: fit(x[rest & tune], other))[~tune] < limit
    rate("of sources left out, other half", beyond)
    for name in sorted(set(source)):
        rate(f"  {name}", beyond[source[~tune] == name])
    rate("of patients left out (the released rule)", score(x[~tune], rule) < 0)
    print("\nOther images that it was fitted to, by rules that have not used the patient or file")
    patients = rejects["patient_id"].fillna(rejects["path"]).to_numpy()
    noted = left_out(other, patients, lambda rest: fit(x[tune], other[rest])) < limit
    for kind in sorted(set(rejects["kind"])):
        rate(f"  {kind}", noted[rejects["kind"] == kind])
    if unseen is not None:
        print("\nOther images that it was not fitted to")
        for folder in sorted(path for path in unseen.iterdir() if path.is_dir()):
            new, _ = features(segmenter, find_images(folder))
            rate(f"  {folder.name}", score(new, rule) < 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--unseen", type=Path, metavar="FOLDER", help="a folder for each kind of other images")
    parser.add_argument("name", nargs="?", default=RELEASED, metavar="NAME", help="segmenter; default %(default)s")
    arguments = parser.parse_args()
    if "COVIDCXNET_DATA" not in os.environ:
        parser.error("set COVIDCXNET_DATA to the folder of the real sets")
    main(arguments.name, Path(os.environ["COVIDCXNET_DATA"]), arguments.unseen)
