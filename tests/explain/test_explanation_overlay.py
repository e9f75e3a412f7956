"""Overlays and panels: true to the radiograph, whole files, readable."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from covidcxnet.explain import overlay
from covidcxnet.explain.explanation import Explanation
from covidcxnet.prediction import Prediction
from covidcxnet.reporting import plots
from enhancement.errors import InputError
from segmentation.regions import frame_for

SHAPE = (90, 120)


def _radiograph():
    return np.random.default_rng(0).integers(0, 256, SHAPE).astype("uint8")


def _blob():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.exp(-((rows - 30) ** 2 + (columns - 80) ** 2) / 150).astype("float32")


def _lungs():
    lungs = np.zeros(SHAPE, bool)
    lungs[20:70, 15:50] = lungs[20:70, 70:105] = True
    return lungs


@pytest.mark.parametrize("draw", [overlay.overlay_heatmap, overlay.overlay_lime])
def test_grey_levels_are_untouched_where_there_is_no_heat_and_inputs_always(draw):
    radiograph = _radiograph()
    for nothing in (np.zeros(SHAPE, "float32"), np.full(SHAPE, np.nan)):
        drawn = draw(radiograph, nothing)
        assert drawn.dtype == np.uint8 and drawn.shape == (*SHAPE, 3)
        assert (drawn == radiograph[..., None]).all()
    arrays = radiograph, _blob(), _lungs()
    copies = [array.copy() for array in arrays]
    draw(*arrays)
    assert all((array == copy).all() for array, copy in zip(arrays, copies, strict=True))


def test_heat_is_drawn_where_it_is_lighter_where_hotter_and_the_lungs_are_an_outline_alone():
    radiograph, heat = np.full(SHAPE, 120, "uint8"), _blob()
    changed = (overlay.overlay_heatmap(radiograph, heat) != 120).any(-1)
    assert changed[30, 80] and not changed[heat < 0.09].any()
    changed = (overlay.overlay_heatmap(radiograph, np.zeros(SHAPE), _lungs()) != 120).any(-1)
    assert changed[20, 30] and changed[45, 15]
    assert not changed[45, 30] and not changed[45, 60]
    # a gray print shows the heat too
    ramp = np.linspace(0.15, 1, 50, dtype="float32")[None].repeat(4, 0)
    drawn = overlay.overlay_heatmap(np.full(ramp.shape, 60, "uint8"), ramp)
    lightness = drawn[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert lightness[-1] > lightness[25] > lightness[0]


def test_limes_signs_differ_in_colour_and_in_mark():
    weights = np.zeros(SHAPE, "float32")
    weights[10:50, 10:50], weights[10:50, 70:110] = 1, -0.8
    drawn = overlay.overlay_lime(np.full(SHAPE, 120, "uint8"), weights).astype(int)
    supports, against = drawn[18, 18], drawn[18, 78]
    assert supports[2] > supports[0] and against[0] > against[2]
    # The upright of the plus is missing in the minus.
    left, right = drawn[14:46, 29:31], drawn[14:46, 89:91]
    assert (left.reshape(32, -1).std(0).max() > 0) and (right[:10] == right[0, 0]).all()
    assert not (left[:14] == left[0, 0]).all()


@pytest.mark.parametrize("draw", [overlay.overlay_heatmap, overlay.overlay_lime])
def test_radiographs_of_any_size_are_drawn_and_shapes_and_types_that_do_not_fit_are_refused(draw):
    for shape in ((1, 1), (2, 300), (300, 2)):
        assert draw(np.zeros(shape, "uint8"), np.ones(shape), np.ones(shape, bool)).shape == (*shape, 3)
    with pytest.raises(InputError, match="heatmap of shape"):
        draw(_radiograph(), np.zeros((9, 12)))
    with pytest.raises(InputError, match="lungs of shape"):
        draw(_radiograph(), np.zeros(SHAPE), np.zeros((9, 12), bool))
    with pytest.raises(InputError, match="uint8"):
        draw(_radiograph().astype("float32"), np.zeros(SHAPE))


def _explanation(method="gradcam", values=None, box=None, **prediction):
    values = np.zeros((4, 4), "float32") if values is None else values
    settings = {"label": "covid19", "probabilities": {"normal": 0.1, "covid19": 0.9}, **prediction}
    frame = frame_for(SHAPE, box, 64, 0.0, False)
    lungs = frame.place(frame.cut(_lungs()))
    return Explanation(
        _radiograph(), Prediction(None, **settings), method, target="covid19", map=values, frame=frame, lungs=lungs
    )


def test_a_heatmap_comes_back_in_the_frame_of_the_radiograph_and_limes_weights_keep_their_sign():
    values = np.zeros((64, 64), "float32")
    values[16:24, 40:48] = 0.5
    heat = _explanation(values=values, box=(10, 20, 74, 84)).heatmap
    assert heat.shape == SHAPE and heat.dtype == np.float32
    assert heat.max() == pytest.approx(1) and heat.min() == 0
    rows, columns = np.nonzero(heat > 0.5)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (26, 33, 60, 67)
    assert (heat[:10] == 0).all() and (heat[:, 84:] == 0).all()
    values[20:30, 5:15] = -2
    lime = _explanation("lime", values)
    assert lime.weights.min() == pytest.approx(-2)
    assert lime.heatmap.min() == 0 and lime.heatmap.max() == pytest.approx(1)


def test_captions_name_class_probability_and_another_target_and_an_error_is_not_drawn(tmp_path):
    explanation = _explanation(values=np.ones((4, 4), "float32"))
    assert explanation.caption[0] == "covid19, probability 0.90"
    assert "no part of the image supports the class" in _explanation().caption[1]
    other = Explanation(**{**explanation.__dict__, "target": "normal", "fit": 0.5, "method": "lime"})
    assert "LIME for normal (probability 0.10)" in other.caption[1] and "0.50" in other.caption[1]
    found = {"label": "effusion|mass", "findings": ("effusion", "mass")}
    several = replace(explanation.prediction, probabilities={"effusion": 0.9, "mass": 0.6}, **found)
    caption = Explanation(**{**explanation.__dict__, "prediction": several, "target": "effusion"}).caption
    assert caption[0] == "effusion|mass, highest probability 0.90"
    poor = replace(other, fit=0.31, prediction=replace(other.prediction, path=Path("lunge_\udcfc.png")))
    assert "0.31 (poor" in poor.caption[1] and "(poor" not in other.caption[1]
    assert poor.caption[-1] == r"lunge_\udcfc.png"
    unreadable = Explanation(_radiograph(), Prediction(None, error="truncated"), "gradcam")
    assert unreadable.error == "truncated"
    with pytest.raises(InputError, match="truncated"):
        unreadable.overlay()
    # a panel says what it is not for, and no file name is a formula
    figure = overlay.panel(_radiograph(), np.zeros((*SHAPE, 3), "uint8"), ["a $x_1 b", "$\\broken{$", "long " * 60])
    for text in figure.texts:
        assert text.get_window_extent().x1 <= figure.bbox.x1, "a long caption is wrapped"
    assert any("Research only" in text.get_text() for text in figure.texts)
    assert plots.save(figure, tmp_path / "panel.png").stat().st_size > 1000


def test_panels_and_overlays_are_written_whole_as_png_or_not_at_all(tmp_path, monkeypatch):
    explanation = _explanation("lime", np.linspace(-1, 1, 64 * 64, dtype="float32").reshape(64, 64))
    panel = cv2.imread(str(explanation.save_panel(tmp_path / "deep" / "lime.png")))
    assert panel.shape[1] > panel.shape[0] > 300
    full = cv2.imread(str(explanation.save_overlay(tmp_path / "lime.png")))
    np.testing.assert_array_equal(full[..., ::-1], explanation.overlay())
    assert [path.name for path in tmp_path.rglob("*.*")] == ["lime.png"] * 2

    def fail(path, content):
        path.touch()
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        overlay.save_image(full, tmp_path / "new" / "full.png")
    assert not list(tmp_path.glob("new/*"))
