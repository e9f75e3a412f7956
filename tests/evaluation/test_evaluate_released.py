"""Weights alone, on data that training saw a part of: lists, counted labels, the kept store and the card."""

import hashlib
import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet import evaluate
from covidcxnet.cli.evaluate import main
from covidcxnet.models import create
from covidcxnet.preparation import build
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from weights.format import save_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Radiographs of three sources in a table, and untrained weights `net.weights.h5` for them."""
    root = tmp_path_factory.mktemp("released")
    rng = np.random.default_rng(0)
    rows = []
    labels = {"nih": ("normal", "pneumonia"), "cohen": ("covid19",), "new": ("normal", "covid19")}
    for source, names in labels.items():
        for k in range(16):
            noise = cv2.GaussianBlur(rng.integers(0, 255, (60, 60), dtype=np.uint8), (0, 0), 2 + k % 3)
            cv2.imwrite(str(root / f"{source}-{k}.png"), noise)
            terms = "CC BY 4.0" if k % 4 else "CC BY-NC"
            rows.append((f"{source}-{k}.png", names[k // 4 % len(names)], source, f"{source}{k // 2}", terms))
    table = pd.DataFrame(rows, columns=["path", "label", "source", "group_id", "license"])
    table.to_csv(root / "table.csv", index=False)
    # the first three images of nih and cohen: four patients in each, one of which has an image left
    seen = [f"{source}-{k}.png" for source in ("nih", "cohen") for k in range(3)]
    splits = ["train", "validation", "train"] * 2
    pd.DataFrame({"path": seen, "split": splits}).to_csv(root / "split.csv", index=False)
    settings = InputSettings(size=32, channels=("raw",), region="none", segmenter="none", clahe_tile_grid=(2, 2))
    options = {"size": 32, "channels": 1, "normalization": "unit", "filters": [4, 4]}
    model = create("small-cnn", classes=("normal", "covid19"), **options)
    facts = {"kind": "classifier", "classes": ["normal", "covid19"], "segmenter": {}, "input": settings.to_dict()}
    facts |= {"architecture": {"name": "small-cnn", "options": options}, "training": {"epoch": 3, "seed": 0}}
    facts["training"] |= {"erase_shortcuts": 5, "average": ["one", "two, SHA-256 0a"]}
    save_weights(model, root / "net.weights.h5", facts)
    return root


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """All at once: lists, counted labels, all sources."""
    out = tmp_path_factory.mktemp("whole")
    return _evaluate(folder, out, seen=folder / "split.csv", count={"pneumonia": "covid19"})


def _evaluate(folder, out, weights=None, **options):
    quick = {"data": folder / "table.csv", "explain": False, "bootstrap": 40, "jobs": 1, "progress": False}
    return evaluate(weights or folder / "net.weights.h5", out=out, **quick | options)


def test_images_of_the_list_and_of_their_patients_are_left_out(whole):
    left = whole.data.left_out
    assert (left.images, left.of_patients, left.patients, left.listed) == (6, 2, 4, 6)
    evaluated = whole.predictions.table
    assert len(evaluated) == 48 - 8
    assert not set(evaluated["patient"]) & {"nih0", "nih1", "cohen0", "cohen1"}
    assert whole.data.overlap == 0 and whole.data.trained_sources == {"nih", "cohen"}
    parts = {"other": 40, "train": 4, "validation": 2, "patient_seen": 2}
    assert whole.data.parts["part"].value_counts().to_dict() == parts
    page = whole.path.read_text()
    assert "8 images (4 patients): 6 of training or validation, 2 more of their patients" in page


def test_a_filter_does_not_hide_who_was_trained_on(folder, tmp_path):
    """A patient's training image outside the filter counts too."""
    table = pd.read_csv(folder / "table.csv")
    table.loc[table["path"] == "new-5.png", "group_id"] = "cohen0"
    table.to_csv(tmp_path / "t.csv", index=False)
    options = {"data": tmp_path / "t.csv", "root": folder, "where": {"source": "new"}, "seen": [folder / "split.csv"]}
    report = _evaluate(folder, tmp_path / "r", **options)
    assert "new-5.png" not in set(report.predictions.table["path"]) and len(report.predictions) == 15
    assert (report.data.left_out.images, report.data.left_out.of_patients) == (0, 1)
    # a list that leaves nothing is refused
    table.assign(split="train")[["path", "split"]].to_csv(tmp_path / "l.csv", index=False)
    with pytest.raises(InputError, match=r"seen: all 48 images, or their patients, are listed.*nothing is left"):
        _evaluate(folder, tmp_path / "r", seen=[tmp_path / "l.csv"], count={"pneumonia": "covid19"})


def test_counted_images_stand_within_their_source_and_are_never_passed_off(folder, whole, tmp_path):
    graded = whole.predictions.graded
    assert set(graded.labelled) == {"normal", "covid19"} and len(graded) == whole.metrics.images == 32
    assert whole.counted_images == {"pneumonia": 8}
    rows = {(site.kind, site.sources): site for site in whole.sites}
    assert rows["within", ("nih",)].by_label == {"pneumonia": 8, "normal": 4}
    assert rows["held-out", ("new",)].by_label == {"normal": 8, "covid19": 8}
    saved = pd.read_csv(whole.predictions_path)
    assert len(saved) == 40 and set(saved.loc[saved["labelled"] == "pneumonia", "label"]) == {"covid19"}
    content = json.loads(whole.metrics_path.read_text())
    assert content["data"]["counted_as"] == {"pneumonia": {"class": "covid19", "images": 8}}
    assert content["places"]["rows"][0]["kind"] == "internal" and content["warnings"][0]["key"] == "counted"
    page = whole.path.read_text()
    first = re.sub("<[^>]+>", "", page.split("<nav")[0])
    assert "8 images labelled pneumonia counted as covid19; pneumonia is not covid19" in first
    assert "pneumonia is counted as covid19 within a source, and left out of the other rows." in page
    # where all are counted, the headline says what they are
    alone = _evaluate(folder, tmp_path, where={"source": "nih"}, count={"pneumonia": "covid19"})
    first = re.sub("<[^>]+>", "", alone.path.read_text().split("<nav")[0])
    assert not alone.predictions.ungraded.any() and alone.metrics.images == 16
    assert "AUROC, pneumonia counted as covid19" in first and "pneumonia counted as covid19 called normal" in first
    assert "AUROC, covid19" not in first


def test_card_has_data_figures_every_wrong_prediction_and_the_command(folder, whole):
    card = whole.card_path.read_text()
    digest = hashlib.sha256((folder / "net.weights.h5").read_bytes()).hexdigest()
    assert f"SHA-256 `{digest}`" in card
    assert "5 directions of the intensity probe erased; mean of the weights of one and two, SHA-256 0a" in card
    assert "| source | label | training | validation |" in card
    assert re.search(r"\| cohen \| covid19 \| 2 \| 1 \| 1 \| 12 \| CC BY 4.0 \(12\); CC BY-NC \(4\) \|", card)
    assert "Within nih, seen in training" in card and "Held out: sources never seen; new" in card
    assert "8 images labelled pneumonia counted as covid19; pneumonia is not covid19" in card
    (command,) = (line for line in card.splitlines() if line.startswith("python evaluate.py"))
    assert f"--seen {folder / 'split.csv'} --count pneumonia=covid19" in command
    assert all(line.endswith("|") for line in card.splitlines() if line.startswith("|"))
    wrong = int((whole.predictions.predicted != whole.predictions.targets).sum())
    text = card.split("## Wrong predictions by kind")[1]
    kinds = re.findall(r"^\| \w+ predicted \w+ \| (\d+) of (\d+) \([\d.]+%\)", text, flags=re.M)
    assert sum(int(n) for n, _ in kinds) == wrong > 0


def test_the_list_beside_the_weights_tells_of_overlap_unless_one_is_given(folder, tmp_path):
    weights = tmp_path / "net.weights.h5"
    weights.write_bytes((folder / "net.weights.h5").read_bytes())
    digest = hashlib.sha256((folder / "new-4.png").read_bytes()).hexdigest()
    text = f"path,sha256,split\nelsewhere/x.png,{digest},train\ncohen-9.png,,test\ncohen-12.png,,train\n"
    (tmp_path / "net.csv").write_text(text)
    options = {"where": {"label": ["normal", "covid19"]}, "store": tmp_path / "kept.h5"}
    found = _evaluate(folder, tmp_path / "b", weights, **options)
    assert found.data.overlap == 4  # two images, and one more of each patient
    assert "overlap" in {w["key"] for w in json.loads(found.metrics_path.read_text())["warnings"]}
    assert found.by_source.skipped == 4
    clean = _evaluate(folder, tmp_path / "c", weights, seen=tmp_path / "net.csv", **options)
    assert clean.data.overlap == 0 and len(clean.predictions) == len(found.predictions) - 4


def test_a_store_is_kept_for_other_weights_and_other_rows(folder, tmp_path, monkeypatch):
    """The last time with a list that names nothing here, which is reported."""
    prepared: list[str] = []
    real = build.prepare_files
    monkeypatch.setattr(build, "prepare_files", lambda items, *a, **k: prepared.extend(items) or real(items, *a, **k))
    store, where = tmp_path / "kept.h5", {"label": ["normal", "covid19"]}
    first = _evaluate(folder, tmp_path / "a", store=store, where=where | {"source": ["new"]})
    assert store.is_file() and not (tmp_path / "a" / "store.h5").exists() and len(prepared) == 16
    _evaluate(folder, tmp_path / "b", store=store, where=where)
    assert len(prepared) == 16 + 24
    (tmp_path / "l.csv").write_text("path,split\nother/a.png,train\n")
    options = {"where": where | {"source": ["new"]}, "seen": [tmp_path / "l.csv"]}
    again = _evaluate(folder, tmp_path / "c", store=store, **options)
    assert len(prepared) == 16 + 24
    np.testing.assert_array_equal(first.predictions.probabilities, again.predictions.probabilities)
    assert "seen_unmatched" in {w["key"] for w in json.loads(again.metrics_path.read_text())["warnings"]}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--count", "pneumonia"], "--count: 'pneumonia' given, LABEL=CLASS expected"),
        (["--count", "pneumonia=flu"], "count: pneumonia=flu given, but this model knows normal, covid19"),
        (["--count", "normal=covid19"], "count: 'normal' is a class of this model"),
        (["--count", "tb=covid19"], "count: no image of .* is labelled 'tb'; labels are covid19, normal, pneumonia"),
        (["--count", "a=normal", "--count", "a=covid19"], "--count: a is counted as normal and as covid19"),
        (["--seen", "none.csv"], "seen: none.csv: no such file"),
        ([], "or count them as a class with --count pneumonia=covid19"),
    ],
)
def test_flags_that_cannot_be_used_end_in_one_line_and_code_2(folder, tmp_path, capsys, arguments, message):
    command = [str(folder / "net.weights.h5"), "--data", str(folder / "table.csv"), "--out", str(tmp_path), *arguments]
    assert main(command) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(message, error) and len(error.splitlines()) == 1
