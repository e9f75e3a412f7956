"""Drawings of networks: every parameter is in a block, what repeats stands once, and a U-Net joins what it should."""

import pytest

from covidcxnet.cli import main
from covidcxnet.models import create
from covidcxnet.models.diagram import blocks, draw
from segmentation.model import imlab_unet, unet

pytest.importorskip("keras")


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("covid-cxnet", {"blocks": [2, 3], "growth": 8}, [("dense layer", 2), ("dense layer", 3)]),
        ("resnet34", {}, [("residual block", n) for n in (3, 1, 3, 1, 5, 1, 2)]),
        ("small-cnn", {"filters": [4, 4, 8]}, [("convolution", n) for n in (1, 1, 1)]),
        ("mobilenet-v3-large", {}, [("block", 1), ("residual block", 2)]),
    ],
)
def test_blocks_are_those_of_the_paper_and_hold_every_parameter(name, options, expected):
    model = create(name, size=64, **options)
    drawn = blocks(model)
    assert sum(block.parameters for block in drawn) == model.count_params()
    assert drawn[-1].shape == (1,) and drawn[0].lines[0][0] == "scaling"
    found = [(block.kind, block.times) for block in drawn if block.kind in {kind for kind, _ in expected}]
    assert [pair for pair in found if pair in expected][: len(expected)] == expected
    words = [text.get_text() for text in draw(model).axes[0].texts]
    assert f"{name}: {model.count_params():,} parameters" in words and "64 × 64 × 3" in " ".join(words)
    assert not any(line.startswith("·") for line in words), "a dot between layers ends a line and never begins one"


@pytest.mark.parametrize("network", [unet, imlab_unet])
def test_a_u_net_goes_down_and_up_and_each_step_up_takes_the_map_of_its_size(network):
    model = network(width=4, size=64)
    drawn = blocks(model)
    assert [block.shape[0] for block in drawn] == [64, 32, 16, 8, 4, 8, 16, 32, 64]
    assert [block.sources for block in drawn] == [()] * 5 + [(3,), (2,), (1,), (0,)]
    assert sum(block.parameters for block in drawn) == model.count_params()
    assert draw(model).axes[0].texts


def test_models_draw_takes_models_and_u_nets_and_refuses_other_names_and_endings(tmp_path, capsys):
    for name, flags in (("base-cnn", ["--size", "80", "--classes", "3"]), ("unet", ["--size", "32"])):
        assert main(["models", "draw", name, "--out", str(tmp_path / f"{name}.png"), *flags]) == 0
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert main(["models", "draw", "base-cnn", "--out", str(tmp_path / "x.docx")]) == 2
    assert main(["models", "draw", "base-cn", "--size", "80", "--out", str(tmp_path / "x.png")]) == 2
    error = capsys.readouterr().err
    assert ".png or .svg expected" in error and "did you mean base-cnn" in error
