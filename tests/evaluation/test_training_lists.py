"""Lists of what training saw find images by path, by source and name, by content, and by patient."""

from __future__ import annotations

import hashlib

import pandas as pd
import pytest

from covidcxnet.evaluation.provenance import list_beside, read_training_lists
from enhancement.errors import InputError

TABLE = pd.DataFrame(
    {
        "path": ["a/1.png", "a/2.png", "b/3.png", "b/4.png", "c/5.png"],
        "patient": ["p1", "p1", "p2", "p3", None],
        "source": ["nih", "nih", "cohen", "cohen", "new"],
    }
)


def _marks(tmp_path, text, table=TABLE, root=None, patients=True):
    (tmp_path / "list.csv").write_text(text)
    return read_training_lists([tmp_path / "list.csv"]).marks(table, root or tmp_path, patients=patients)


def test_an_image_and_the_others_of_its_patient_are_seen_but_a_test_image_is_not(tmp_path):
    marks = _marks(tmp_path, "path,split\na/1.png,train\nb/3.png,test\nb/4.png,validation\n")
    assert marks.split.tolist() == ["train", "", "test", "validation", ""]
    assert marks.image.tolist() == [True, False, False, True, False]
    assert marks.patient.tolist() == [False, True, False, False, False]
    assert marks.trained.tolist() == [True, True, False, True, False]
    assert marks.sources == {"nih", "cohen"}


def test_patients_without_a_number_are_not_one_patient(tmp_path):
    table = TABLE.assign(patient=[None, None, "", "p3", "p3"])
    assert not _marks(tmp_path, "path,split\na/1.png,train\nb/3.png,train\n", table).patient.any()


def test_a_patient_named_by_the_list_is_seen_though_no_image_is(tmp_path):
    text = "path,split,group_id\nelsewhere.png,train,p2\nother.png,test,p3\n"
    assert _marks(tmp_path, text).patient.tolist() == [False, False, True, False, False]
    assert not _marks(tmp_path, text, patients=False).trained.any()


def test_an_image_is_known_by_source_and_file_name(tmp_path):
    table = TABLE.assign(original=["x.dcm", "y.dcm", "x.dcm", None, None])
    marks = _marks(tmp_path, "source,file,split\nnih,2.png,train\ncohen,x.dcm,val\nnih,4.png,train\n", table)
    assert marks.split.tolist() == ["", "train", "validation", "", ""]


def test_an_image_is_known_by_its_content(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "2.png").write_bytes(b"two")
    text = f"path,split,sha256\nold/name.png,train,{hashlib.sha256(b'two').hexdigest()}\n"
    assert _marks(tmp_path, text).split.tolist() == ["", "train", "", "", ""]


def test_several_lists_count_together(tmp_path):
    (tmp_path / "a.csv").write_text("path,split\na/1.png,train\n")
    (tmp_path / "b.csv").write_text("image,Split,group\n./b/3.png,Validation,p3\n")
    (tmp_path / "c.csv").write_text("path,split\na/1.png,test\nc/5.png,train\n")
    marks = read_training_lists([tmp_path / name for name in ("a.csv", "b.csv")]).marks(TABLE, tmp_path)
    assert marks.trained.tolist() == [True, True, True, True, False]
    # what one list tests on, another trains on
    marks = read_training_lists([tmp_path / name for name in ("a.csv", "c.csv")]).marks(TABLE, tmp_path)
    assert marks.image.tolist() == [True, False, False, False, True]


def test_a_training_image_is_found_by_one_list_though_another_that_names_it_otherwise_tests_on_it(tmp_path):
    (tmp_path / "a.csv").write_text("path,split\na/1.png,test\na/2.png,test\nb/3.png,train\n")
    (tmp_path / "b.csv").write_text("source,file,split\nnih,1.png,train\ncohen,3.png,test\n")
    for names in (("a.csv", "b.csv"), ("b.csv", "a.csv")):
        marks = read_training_lists([tmp_path / name for name in names]).marks(TABLE.drop(columns="patient"), tmp_path)
        assert marks.split.tolist() == ["train", "test", "train", "", ""]


def test_within_a_list_the_path_decides_before_the_name(tmp_path):
    """Images of two patients may be called alike; one that the list's path puts in test is not in train by its name."""
    text = "path,source,file,split\na/1.png,nih,1.png,test\nz/1.png,nih,1.png,train\n"
    assert _marks(tmp_path, text).split.tolist() == ["test", "", "", "", ""]


def test_an_exact_copy_of_a_training_image_is_seen_though_listed_as_test(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "a" / name).write_bytes(b"one")
    same = hashlib.sha256(b"one").hexdigest()
    text = f"path,split,sha256\na/1.png,train,{same}\na/2.png,test,{same}\n"
    assert _marks(tmp_path, text).split.tolist() == ["train", "train", "", "", ""]


@pytest.mark.parametrize(
    "text, message",
    [
        ("path,label\na,normal\n", "no column split .* there are path, label"),
        ("file,split\na,train\n", "no column that names the images"),
        ("path,split\na,test\n", "column split holds test; train or validation expected"),
        ("path,split\n", "holds no rows"),
        ("", "not a CSV table that can be read"),
    ],
)
def test_a_file_that_is_no_such_list_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        _marks(tmp_path, text)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        read_training_lists([tmp_path / "none.csv"])


def test_the_list_beside_weights_is_found_by_name(tmp_path):
    (tmp_path / "net.csv").write_text("path,split\na/1.png,train\n")
    assert list_beside(tmp_path / "net.weights.h5").names == (str(tmp_path / "net.csv"),)
    assert list_beside(tmp_path / "other.weights.h5") is None
    assert list_beside(None) is None
    (tmp_path / "net.csv").write_text("path,p_covid19\na/1.png,0.4\n")
    assert list_beside(tmp_path / "net.weights.h5") is None
