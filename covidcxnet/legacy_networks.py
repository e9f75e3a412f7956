"""Networks that others published, for `load_legacy`: how each was built and fed, which its arrays do not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from covidcxnet.settings import InputSettings

CHEXNET_LABELS = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
    *("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
LABELS = {1: ("normal", "covid19"), 3: ("normal", "pneumonia", "covid19"), 14: CHEXNET_LABELS}


@dataclass(frozen=True)
class Legacy:
    """How a published network was built and fed: what its arrays do not say.

    Parameters
    ----------
    model : str
        Name in `covidcxnet.models.MODELS`.
    normalization : str
    input : InputSettings
        With the channels of the published three-channel form.
    options : dict
        Of `covidcxnet.models.create`.
    summary : str
    """

    model: str
    normalization: str
    input: InputSettings
    options: dict[str, Any]
    summary: str


_RGB = ("raw", "raw", "raw")

LEGACY: dict[str, Legacy] = {
    "chexnet": Legacy(
        "covid-cxnet",
        "imagenet",
        InputSettings(size=224, channels=_RGB, stretch=True),
        {"final_relu": False, "activation": "sigmoid"},
        "CheXNet as trained: no ReLU after the last batch norm, 224 x 224, ImageNet normalisation, 14 sigmoids",
    ),
    "covid-cxnet-chexnet": Legacy(
        "covid-cxnet",
        "unit",
        InputSettings(size=320, channels=_RGB, stretch=True),
        {"final_relu": True, "activation": None},
        "CheXNet as COVID-CXNet saved and used it: with the ReLU, 320 x 320, x/255, softmax over 14",
    ),
    "covid-cxnet": Legacy(
        "covid-cxnet",
        "unit",
        InputSettings(size=320, channels=("beasf", "clahe", "raw"), region="crop", margin=0.0, stretch=True),
        {"final_relu": True, "activation": None},
        "COVID-CXNet fine-tuned: DenseNet121, Dense 10, one sigmoid or a softmax; channels as in its notebooks",
    ),
    "imagenet": Legacy(
        "covid-cxnet",
        "imagenet",
        InputSettings(size=224, channels=_RGB, stretch=True),
        {"final_relu": True, "activation": None},
        "DenseNet121 of keras.applications without its top: a backbone",
    ),
    "base-cnn": Legacy(
        "base-cnn",
        "unit",
        InputSettings(size=400, channels=("raw", "beasf", "clahe"), stretch=True),
        {},
        "COVID-CXNet's base CNN: five convolutions, Dense 10, 10, one sigmoid; channels as in its script",
    ),
}
"""Networks that `load_legacy` knows, by the name that its argument `architecture` takes; `UNETS` beside them."""

UNETS = {"unet": "unet", "covid-cxnet-unet": "unet", "imlab-unet": "imlab-unet"}
"""Names of lung U-Nets, and the network in `segmentation` that each means."""
