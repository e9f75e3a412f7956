"""Number formats: what this machine cannot use is refused before there is work to lose."""

from __future__ import annotations

import pytest

from covidcxnet import backend
from covidcxnet.training import Recipe, train
from covidcxnet.training.run_folder import Run
from enhancement.errors import InputError


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(backend, "has_accelerator", lambda: False)


def test_a_float16_run_of_another_machine_is_not_resumed_without_a_gpu(without_gpu, monkeypatch, tmp_path):
    from covidcxnet.training.recipe import save_recipe

    save_recipe(Recipe(precision="mixed_float16"), tmp_path / "recipe.yaml")
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr(Run, "dataset", property(lambda _: pytest.fail("images were made")))
    with pytest.raises(InputError, match="precision"):
        train(resume=tmp_path)


def test_other_formats_need_no_gpu_and_float16_is_allowed_where_there_is_one(without_gpu, monkeypatch):
    backend.check_precision("float32")
    backend.check_precision("mixed_bfloat16")
    monkeypatch.setattr(backend, "has_accelerator", lambda: True)
    backend.check_precision("mixed_float16")


@pytest.mark.parametrize(
    ("flags", "name", "said"),
    [
        ("flags\t\t: fpu avx512f avx512_vnni\n", "mixed_bfloat16", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", "mixed_bfloat16", False),
        ("Features\t: fp asimd bf16\n", "mixed_bfloat16", False),
        ("Features\t: fp asimd\n", "mixed_bfloat16", True),
        ("processor\t: 0\n", "mixed_bfloat16", False),
        ("flags\t\t: fpu avx512f\n", "float32", False),
    ],
)
def test_bfloat16_is_advised_against_where_the_processor_lacks_it(
    without_gpu, monkeypatch, tmp_path, flags, name, said
):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(backend, "CPUINFO", tmp_path / "cpuinfo")
    assert bool(backend.precision_advice(name)) == said
    for change in ({"CPUINFO": tmp_path / "none"}, {"has_accelerator": lambda: True}):
        with monkeypatch.context() as patch:
            for attribute, value in change.items():
                patch.setattr(backend, attribute, value)
            assert backend.precision_advice(name) == "", "an unknown system or a GPU"
