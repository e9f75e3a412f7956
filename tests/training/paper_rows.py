"""The systems of the four papers as they name them, read from the papers: what the recipes are held against."""

import dataclasses
from dataclasses import dataclass

STACK = ("clahe", "beasf", "raw")
RAW = ("raw", "raw", "raw")
QUEUE = ("equalize_blur",) * 3
FOUR = ("normal", "covid19", "lung_opacity", "viral_pneumonia")
SEVEN = ("normal", "infiltration", "effusion", "atelectasis", "nodule", "mass", "pneumothorax")


@dataclass(frozen=True)
class Row:
    """One system of a paper. `head` is pool, hidden, dropout."""

    model: str
    classes: tuple
    size: int
    channels: tuple
    epochs: int
    batch: int
    rate: float
    head: tuple
    init: str = "random"
    trainable: str = "all"
    schedule: str = "constant"
    sampling: str = "none"
    weights: str = "none"
    smoothing: float = 0.0
    normalization: str = "unit"
    region: str = "none"
    multilabel: bool = False


def _covid_cxnet():
    two, three = ("normal", "covid19"), ("normal", "pneumonia", "covid19")
    plain, ten, linear = ("flatten", (10, 10), 0.0), ("average", (10,), 0.2), ("average", (), 0.0)
    one = Row("covid-cxnet", two, 320, STACK, 10, 16, 1e-3, ten, "covid-cxnet-chexnet", weights="balanced")
    lungs = dataclasses.replace(one, region="crop", smoothing=0.1)
    multi = dataclasses.replace(lungs, classes=three, epochs=30, rate=2e-4)
    imagenet = Row("covid-cxnet", two, 224, STACK, 20, 32, 1e-4, linear, "imagenet", "head", normalization="imagenet")
    yield "base-v1", Row("base-cnn", two, 400, ("raw",), 100, 32, 1e-4, plain)
    yield "base-v2", Row("base-cnn", two, 400, STACK, 120, 32, 1e-4, plain, weights="balanced")
    yield "densenet121-imagenet", imagenet
    yield "resnet50-imagenet", dataclasses.replace(imagenet, model="resnet50", normalization="caffe")
    yield "v1", one
    yield "v2", lungs
    yield "multiclass", multi
    yield "hierarchical", dataclasses.replace(multi, model="covid-cxnet-hierarchical", rate=1e-4)


def _pneumonia():
    small = Row(
        "small-cnn", ("normal", "pneumonia"), 128, RAW, 15, 32, 1e-3, ("flatten", (128,), 0.0), schedule="plateau"
    )
    transfer = dataclasses.replace(small, init="imagenet", head=("max", (128,), 0.0))
    names = {"densenet121": "covid-cxnet"}
    for name in ("small-cnn", "resnet50", "densenet121", "vgg16", "inception-v3", "xception"):
        row = small if name == "small-cnn" else dataclasses.replace(transfer, model=names.get(name, name))
        for group in ("raw", "augmented", "balanced"):
            sampling = "oversample" if group == "balanced" else "none"
            yield f"{name}-{group}", dataclasses.replace(row, sampling=sampling)


def _radiography():
    base = Row("alexnet", FOUR, 224, RAW, 40, 32, 1e-4, ("flatten", (4096, 4096), (0.5, 0.5, 0.0)))
    deep = dataclasses.replace(base, epochs=25, batch=64)
    rows = {
        "alexnet": base,
        "vgg19-bn": dataclasses.replace(deep, model="vgg19-bn", head=("flatten", (4096, 4096), (0.0, 0.5, 0.5))),
        "resnet50": dataclasses.replace(
            deep, model="resnet50", head=("average", (), 0.0), init="imagenet", trainable="conv4,conv5"
        ),
        # solved by scikit-learn: epochs, batches and rate are the defaults and mean nothing
        "logistic-regression": dataclasses.replace(
            base, model="logistic-regression", size=32, head=(), epochs=16, batch=8
        ),
    }
    for name, row in rows.items():
        for norm in ("radiograph", "imagenet"):
            yield f"{name}-norm-{norm}", dataclasses.replace(row, normalization=norm)


def _group_q():
    base = Row(
        "resnet34", (), 0, QUEUE, 100, 32, 0.01, ("average", (), 0.0), schedule="cosine", normalization="training"
    )
    efficient = dataclasses.replace(base, model="efficientnet-b1", head=("average", (), 0.2))
    models = {
        "resnet34": base,
        "mobilenet-v3-large": dataclasses.replace(base, model="mobilenet-v3-large", head=("average", (1280,), 0.2)),
        "efficientnet-b1": efficient,
        "efficientnet-b1-imagenet": dataclasses.replace(efficient, init="imagenet"),
    }
    sets = {
        "covid": {"classes": ("normal", "covid19", "viral_pneumonia"), "size": 299, "sampling": "undersample"},
        "pneumonia": {"classes": ("normal", "bacterial_pneumonia", "viral_pneumonia"), "size": 224},
        "chest8": {"classes": SEVEN, "size": 384, "multilabel": True, "weights": "balanced"},
    }
    for data, changes in sets.items():
        for name, row in models.items():
            yield f"{data}-{name}", dataclasses.replace(row, **changes)


PAPERS = {"covid-cxnet": _covid_cxnet, "pneumonia": _pneumonia, "radiography": _radiography, "group-q": _group_q}
ROWS = {f"{paper}-{name}": row for paper, rows in PAPERS.items() for name, row in rows()}
