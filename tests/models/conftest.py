"""Every backbone at the smallest size that it accepts, built once for all tests."""

import sys
from pathlib import Path

import pytest

from covidcxnet.models import create

# torch_states; torch_files and numpy_networks
for folder in ("models", "weights", "legacy"):
    sys.path.append(str(Path(__file__).parents[1] / folder))

SMALLEST = {
    "covid-cxnet": 32,
    "alexnet": 63,
    "efficientnet-b1": 32,
    "efficientnet-b1-torchvision": 32,
    "efficientnet-lite0": 32,
    "inception-v3": 75,
    "mobilenet-v3-large": 32,
    "nasnet-mobile": 32,
    "resnet34": 32,
    "resnet50": 32,
    "resnet50-torchvision": 32,
    "vgg16": 32,
    "vgg19": 32,
    "vgg19-bn": 32,
    "xception": 71,
}


@pytest.fixture(scope="session")
def built():
    """``built(name)`` gives the model with the published head, to be left as it is but for its weights."""
    models = {}

    def model(name):
        if name not in models:
            # Wide dense layers take most of the memory and show nothing here.
            options = {"hidden": (8, 8)} if name in ("alexnet", "vgg19-bn") else {}
            if name == "covid-cxnet":  # as the weights of keras.applications were trained
                options["normalization"] = "imagenet"
            models[name] = create(name, size=SMALLEST[name], **options)
        return models[name]

    return model


def pytest_generate_tests(metafunc):
    if "backbone" in metafunc.fixturenames:
        metafunc.parametrize("backbone", [name for name in SMALLEST if name != "covid-cxnet"])
