"""Compare every converter with PyTorch itself: the same random weights, the same images, the largest difference.

Run it in an environment of its own, which holds torch, torchvision, torchxrayvision and this project's requirements but
for TensorFlow:

    KERAS_BACKEND=torch python tools/check_converters.py

Each network is written in three layouts: a ZIP state dictionary, the layout before PyTorch 1.6, and safetensors where
that package is there. One line for each, and exit code 1 if a difference is 1e-5 or more, relative where outputs are
larger than 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import types
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
# torchvision's wheel needs CUDA for its detection operators, of which it looks for descriptions here; none is used.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402

from covidcxnet.torch_weights import load_torch, read  # noqa: E402
from weights.torch_file import read_tensors  # noqa: E402

LIMIT = 1e-5
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Batch norms with statistics and affine parts of their own: one left out, or another epsilon, would show."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.3, 0.3, generator=generator)
                module.running_mean.uniform_(-0.3, 0.3, generator=generator)
                # Small as in trained networks, whose rarely used planes vary little: there epsilon counts.
                module.running_var.uniform_(0.01, 1.5, generator=generator)
    return model.eval()


def xrv_resnet() -> torch.nn.Module:
    """As `torchxrayvision.models.ResNet` builds it; its constructor downloads."""
    model = torchvision.models.resnet50(num_classes=18)
    model.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return model


def chexnet() -> torch.nn.Module:
    """As arnoweng/CheXNet has it, for `torch.nn.DataParallel`."""

    class DenseNet121(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.densenet121 = torchvision.models.densenet121()
            self.densenet121.classifier = torch.nn.Sequential(torch.nn.Linear(1024, 14), torch.nn.Sigmoid())

        def forward(self, x):
            return self.densenet121(x)

    return torch.nn.DataParallel(DenseNet121()).cpu()


def old_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of DenseNets before 2018: `norm.1` for `norm1`."""
    for part in ("norm", "conv"):
        for number in "12":
            state = {name.replace(f".{part}{number}.", f".{part}.{number}."): tensor for name, tensor in state.items()}
    return {"epoch": 3, "state_dict": state}


def networks() -> dict[str, tuple]:
    """Name to (model, its scaling of 0..255, side, final activation, change of the state dictionary)."""

    def imagenet(x):
        return (x / 255 - IMAGENET[0]) / IMAGENET[1]

    def xrayvision(x):
        return (2 * (x / 255) - 1) * 1024

    vision = torchvision.models
    softmax, sigmoid, same = torch.nn.Softmax(1), torch.sigmoid, lambda x: x
    rows = {
        name: (getattr(vision, name)(), imagenet, 240 if name == "efficientnet_b1" else 224, softmax, same)
        for name in ("alexnet", "vgg19_bn", "resnet34", "resnet50", "densenet121", "efficientnet_b1")
    }
    rows["chexnet"] = (chexnet(), imagenet, 224, same, old_names)
    rows["xrv resnet50"] = (xrv_resnet(), xrayvision, 512, sigmoid, same)
    try:
        import torchxrayvision

        model = torchxrayvision.models.DenseNet(op_threshs=torch.rand(18), weights=None)
        model.op_threshs = None  # outputs as they are: thresholds are kept apart here
        rows["xrv densenet121"] = (model, xrayvision, 224, sigmoid, same)
    except ImportError as error:
        print(f"torchxrayvision: {error}; its DenseNet is not compared")
    return rows


def images(side: int, planes: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, side, side, planes)).astype("float32")


@torch.no_grad()
def forward(model: torch.nn.Module, scaled: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of a network, and the scores that its last dense layer gives."""
    scores = []
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    hook = last.register_forward_hook(lambda module, inputs, output: scores.append(output.clone()))
    outputs = model(torch.from_numpy(np.moveaxis(scaled, -1, 1).astype("float32").copy()))
    hook.remove()
    return outputs, scores[0]


@torch.no_grad()
def calm(model: torch.nn.Module, scaled: np.ndarray) -> None:
    """Bring the scores to a deviation of 1: probabilities of 0 and 1 are alike however wrong a network is."""
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    deviation = forward(model, scaled)[1].std()
    last.weight /= deviation
    last.bias /= deviation


def difference(model, scaled: np.ndarray, activation, path: Path, stacks: np.ndarray) -> tuple[float, float]:
    """Largest difference of outputs, and of the scores before the last activation, relative to the largest above 1."""
    import keras

    outputs, scores = forward(model, scaled)
    with torch.no_grad():
        network = load_torch(path).model
        ours = keras.ops.convert_to_numpy(network(stacks, training=False))
        features = keras.Model(network.input, network.layers[-1].input)(stacks, training=False)
        kernel, bias = (torch.from_numpy(array) for array in network.layers[-1].get_weights())
        own_scores = torch.as_tensor(features).cpu() @ kernel + bias
        largest = max(1.0, float(scores.abs().max()))
        return (
            float(np.abs(ours - activation(outputs).numpy()).max()),
            float((own_scores - scores).abs().max()) / largest,
        )


def write(state, path: Path, layout: str) -> bool:
    """A state dictionary as a file; False where the layout cannot be written here."""
    if layout == "safetensors":
        try:
            from safetensors.torch import save_file
        except ImportError:
            return False
        save_file({name: t.contiguous() for name, t in state.get("state_dict", state).items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=layout == "zip")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="networks to compare; all when none is given")
    names = parser.parse_args().names
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, NumPy {np.__version__}")
    torch.manual_seed(0)
    wrong = 0
    for name, (model, scaling, side, activation, change) in networks().items():
        if names and name not in names:
            continue
        stacks = images(side, 1 if name.startswith("xrv") else 3)
        calm(randomise(model), scaling(stacks))
        state = change(model.state_dict())
        with tempfile.TemporaryDirectory() as folder:
            layouts, tensors = [], {}
            for layout in ("zip", "legacy", "safetensors"):
                path = Path(folder, f"model.{layout}")
                if write(state, path, layout):
                    layouts.append(layout)
                    tensors[layout] = read_tensors(path)
            first = {n: t.numpy() for n, t in state.get("state_dict", state).items()}
            alike = all(
                set(first) == set(t) and all(np.array_equal(first[n], t[n]) for n in first) for t in tensors.values()
            )
            whole = Path(folder, "module.pt")  # a pickled module, as torchxrayvision publishes its DenseNets
            if name != "chexnet":
                torch.save(model, whole)
                alike &= all(np.array_equal(first[n], t) for n, t in read_tensors(whole).items())
            assert read(Path(folder, "model.zip")).options["channels"] == stacks.shape[-1]
            outputs, scores = difference(model, scaling(stacks), activation, Path(folder, "model.zip"), stacks)
        worst = max(outputs, scores)
        wrong += worst >= LIMIT or not alike
        print(f"{name:<16} outputs {outputs:.1e}  scores {scores:.1e}  read alike from {', '.join(layouts)}: {alike}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
