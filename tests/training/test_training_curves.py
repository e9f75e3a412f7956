"""Learning curves: a picture that opens, also of one epoch and of figures that are not there."""

import matplotlib.image
import pytest

from covidcxnet.training.record import draw_curves


def row(epoch, **changes):
    figures = {"loss": 1 / epoch, "val_loss": 1.2 / epoch, "val_auroc": 0.9, "val_accuracy": 0.8, "learning_rate": 1e-3}
    return {"epoch": epoch, **figures, "val_average_precision": 0.7, "f1": 0.6, "val_f1": 0.5, **changes}


@pytest.mark.parametrize("history", [[row(1)], [row(1), row(2), row(3)], [{"epoch": 1, "loss": float("nan")}]])
def test_curves_are_one_wide_picture(history, tmp_path):
    picture = matplotlib.image.imread(draw_curves(history, tmp_path / "c.png", best_epoch=1, monitor="val_auroc"))
    assert picture.shape[1] > 2 * picture.shape[0] and picture[..., :3].std() > 0.05


def test_more_epochs_give_another_picture(tmp_path):
    one = draw_curves([row(1), row(2)], tmp_path / "a.png").read_bytes()
    assert one != draw_curves([row(1), row(2, loss=9.0)], tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", ["f1", "val_f1"])
def test_f1_of_training_and_validation_are_drawn(name, tmp_path):
    one = draw_curves([row(1), row(2)], tmp_path / "a.png").read_bytes()
    assert one != draw_curves([row(1), row(2, **{name: 0.1})], tmp_path / "b.png").read_bytes()
