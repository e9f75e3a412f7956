"""The same networks as in old files, written in NumPy."""

from __future__ import annotations

import numpy as np


def convolve(x, kernel, stride=1, padding=0):
    """Convolution of ``[N, H, W, C]`` as Keras does it."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def base_cnn_in_numpy(stacks, layers):
    """Five strided valid convolutions with ReLU, and three dense layers."""
    arrays = [[array.astype("float64") for _, array in named] for _, named in layers if named]
    x = stacks / 255.0
    for kernel, bias in arrays[:5]:
        x = np.maximum(convolve(x, kernel, stride=2) + bias, 0)
    x = x.reshape(len(x), -1)
    for kernel, bias in arrays[5:-1]:
        x = np.maximum(x @ kernel + bias, 0)
    return sigmoid(x @ arrays[-1][0] + arrays[-1][1])


def densenet_in_numpy(stacks, layers, *, proper, final_relu=None, epsilon=1.001e-5):
    """CheXNet as trained (`proper`: ImageNet scaling, no final ReLU, sigmoids) or as COVID-CXNet used it.

    PyTorch's has a final ReLU and an epsilon of its own.
    """
    arrays = {name: [a.astype("float64") for _, a in named] for name, named in layers if named}
    x = stacks / 255.0
    if proper:
        x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]

    def norm(x, name, relu=True):
        gamma, beta, mean, variance = arrays[name]
        x = gamma * (x - mean) / np.sqrt(variance + epsilon) + beta
        return np.maximum(x, 0) if relu else x

    x = norm(convolve(x, arrays["conv1/conv"][0], 2, 3), "conv1/bn")
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(-2, -1))
    for name in [name for name in arrays if name.endswith(("_0_bn", "_conv")) and "/" not in name]:
        if name.endswith("_0_bn"):
            block = name.removesuffix("_0_bn")
            new = convolve(norm(x, name), arrays[f"{block}_1_conv"][0])
            new = convolve(norm(new, f"{block}_1_bn"), arrays[f"{block}_2_conv"][0], padding=1)
            x = np.concatenate([x, new], axis=-1)
        elif name.startswith("pool"):
            x = convolve(norm(x, name.replace("_conv", "_bn")), arrays[name][0])
            n, h, w, c = x.shape
            x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    x = norm(x, "bn", relu=not proper if final_relu is None else final_relu).mean(axis=(1, 2))
    kernel, bias = arrays["predictions"]
    return (sigmoid if proper else softmax)(x @ kernel + bias)


def unet_in_numpy(x, layers, *, imlab):
    arrays = iter([[a.astype("float64") for _, a in named] for _, named in layers if named])

    def step(x, activation=lambda x: np.maximum(x, 0)):
        kernel, bias = next(arrays)
        return activation(convolve(x, kernel, padding=kernel.shape[0] // 2) + bias)

    def pool(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))

    def up(x):
        if imlab:
            return x.repeat(2, axis=1).repeat(2, axis=2)
        kernel, bias = next(arrays)  # [2, 2, out, in], stride 2: each pixel becomes a 2 x 2 block
        n, h, w, _ = x.shape
        blocks = np.einsum("nhwc,ijoc->nhiwjo", x, kernel)
        return blocks.reshape(n, 2 * h, 2 * w, -1) + bias

    skips = []
    for _ in range(4):
        x = step(step(x))
        skips.append(x)
        x = pool(x)
    x = step(x) if imlab else step(step(x))
    for skip in reversed(skips):
        x = up(x)
        if imlab:
            x = step(np.concatenate([skip, step(step(x))], axis=-1))
        else:
            x = step(step(np.concatenate([x, skip], axis=-1)))
    return step(x, sigmoid)
