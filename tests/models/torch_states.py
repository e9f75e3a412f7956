"""Names and shapes of torchvision's state dictionaries, as its modules define them; without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

Shapes = dict[str, tuple[int, ...]]


def conv(name, out, inner, side, bias=False) -> Shapes:
    shapes = {f"{name}.weight": (out, inner, side, side)}
    return shapes | ({f"{name}.bias": (out,)} if bias else {})


def norm(name, width) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def linear(name, out, inner) -> Shapes:
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def alexnet(hidden=4096) -> Shapes:
    rows = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
    convs = [conv(f"features.{n}", out, inner, side, bias=True) for n, out, inner, side in rows]
    dense = ((1, hidden, 9216), (4, hidden, hidden), (6, 1000, hidden))
    return merged(convs, (linear(f"classifier.{n}", out, inner) for n, out, inner in dense))


def vgg19_bn(hidden=4096) -> Shapes:
    parts, index, inner = [], 0, 3
    for depth, width in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
        for _ in range(depth):
            parts += [conv(f"features.{index}", width, inner, 3, bias=True), norm(f"features.{index + 1}", width)]
            index, inner = index + 3, width
        index += 1
    dense = ((0, hidden, 25088), (3, hidden, hidden), (6, 1000, hidden))
    return merged(parts, (linear(f"classifier.{n}", out, inner) for n, out, inner in dense))


def resnet(sides, expansion, channels=3, outputs=1000) -> Shapes:
    """`sides` are those of a block's kernels: 3, 3 in ResNet34 and 1, 3, 1 in ResNet50."""
    parts, inner = [conv("conv1", 64, channels, 7), norm("bn1", 64)], 64
    for stage, depth in enumerate((3, 4, 6, 3), start=1):
        width = 32 * 2**stage
        for block in range(depth):
            name, out = f"layer{stage}.{block}", expansion * width
            first = inner
            for number, side in enumerate(sides, start=1):
                maps = out if number == len(sides) else width
                parts += [conv(f"{name}.conv{number}", maps, inner, side), norm(f"{name}.bn{number}", maps)]
                inner = maps
            if block == 0 and (first, stage) != (out, 1):
                parts += [conv(f"{name}.downsample.0", out, first, 1), norm(f"{name}.downsample.1", out)]
    return merged(parts, [linear("fc", outputs, inner)])


def densenet(blocks=(6, 12, 24, 16), growth=32, channels=3, outputs=1000) -> Shapes:
    width = 2 * growth
    parts = [conv("features.conv0", width, channels, 7), norm("features.norm0", width)]
    for number, depth in enumerate(blocks, start=1):
        for layer in range(1, depth + 1):
            name = f"features.denseblock{number}.denselayer{layer}"
            parts += [norm(f"{name}.norm1", width), conv(f"{name}.conv1", 4 * growth, width, 1)]
            parts += [norm(f"{name}.norm2", 4 * growth), conv(f"{name}.conv2", growth, 4 * growth, 3)]
            width += growth
        if number < len(blocks):
            name = f"features.transition{number}"
            parts += [norm(f"{name}.norm", width), conv(f"{name}.conv", width // 2, width, 1)]
            width //= 2
    return merged(parts, [norm("features.norm5", width), linear("classifier", outputs, width)])


def efficientnet_b1() -> Shapes:
    rows = ((1, 3, 16, 1), (6, 3, 24, 2), (6, 5, 40, 2), (6, 3, 80, 3), (6, 5, 112, 3), (6, 5, 192, 4), (6, 3, 320, 1))
    parts, inner = [conv("features.0.0", 32, 3, 3), norm("features.0.1", 32)], 32
    for stage, (expansion, side, out, depth) in enumerate(rows, start=1):
        for block in range(ceil(1.1 * depth)):
            name, wide = f"features.{stage}.{block}.block", expansion * inner
            steps: Iterator[int] = iter(range(4))
            if expansion > 1:
                first = next(steps)
                parts += [conv(f"{name}.{first}.0", wide, inner, 1), norm(f"{name}.{first}.1", wide)]
            depthwise, squeeze, project = next(steps), next(steps), next(steps)
            parts += [conv(f"{name}.{depthwise}.0", wide, 1, side), norm(f"{name}.{depthwise}.1", wide)]
            parts += [conv(f"{name}.{squeeze}.fc1", inner // 4, wide, 1, bias=True)]
            parts += [conv(f"{name}.{squeeze}.fc2", wide, inner // 4, 1, bias=True)]
            parts += [conv(f"{name}.{project}.0", out, wide, 1), norm(f"{name}.{project}.1", out)]
            inner = out
    return merged(
        parts, [conv("features.8.0", 1280, inner, 1), norm("features.8.1", 1280), linear("classifier.1", 1000, 1280)]
    )


def merged(*groups) -> Shapes:
    return {name: shape for group in groups for part in group for name, shape in part.items()}
