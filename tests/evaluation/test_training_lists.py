"""Lists of what training saw find images by path, by source and name, by content, and by patient."""

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


def _marks(folder, *texts, table=TABLE, patients=True):
    for k, text in enumerate(texts):
        (folder / f"{k}.csv").write_text(text)
    return read_training_lists([folder / f"{k}.csv" for k in range(len(texts))]).marks(table, folder, patients=patients)


def test_an_image_and_the_others_of_its_patient_are_seen_but_a_test_image_is_not(tmp_path):
    marks = _marks(tmp_path, "path,split\na/1.png,train\nb/3.png,test\nb/4.png,validation\n")
    assert marks.split.tolist() == ["train", "", "test", "validation", ""]
    assert marks.image.tolist() == [True, False, False, True, False]
    assert marks.patient.tolist() == [False, True, False, False, False]
    assert marks.trained.tolist() == [True, True, False, True, False]
    assert marks.sources == {"nih", "cohen"}


def test_a_patient_named_by_the_list_is_seen_though_no_image_is_but_unknown_patients_are_not_the_same(tmp_path):
    text = "path,split,group_id\nelsewhere.png,train,p2\nother.png,test,p3\n"
    assert _marks(tmp_path, text).patient.tolist() == [False, False, True, False, False]
    assert not _marks(tmp_path, text, patients=False).trained.any()
    table = TABLE.assign(patient=[None, None, "", "p3", "p3"])
    assert not _marks(tmp_path, "path,split\na/1.png,train\nb/3.png,train\n", table=table).patient.any()


@pytest.mark.parametrize(
    "split, texts",
    [
        # by source and file name
        (",train,validation,,", ["source,file,split\nnih,2.png,train\ncohen,x.dcm,val\nnih,4.png,train\n"]),
        # an image that one list tests on, another trains on, whatever it is called there
        ("train,,,,train", ["path,split\na/1.png,train\n", "path,split\na/1.png,test\nc/5.png,train\n"]),
        (
            "train,test,train,,",
            [
                "path,split\na/1.png,test\na/2.png,test\nb/3.png,train\n",
                "source,file,split\nnih,1.png,train\ncohen,3.png,test\n",
            ],
        ),
        # images of two patients may be called alike: within a list the path decides before the name
        ("test,,,,", ["path,source,file,split\na/1.png,nih,1.png,test\nz/1.png,nih,1.png,train\n"]),
        # other words for the columns and parts
        (",,validation,,", ["image,Split,group\n./b/3.png,Validation,p3\n"]),
    ],
)
def test_several_lists_count_together_and_training_wins(tmp_path, split, texts):
    table = TABLE.drop(columns="patient").assign(original=["x.dcm", "y.dcm", "x.dcm", None, None])
    for order in (texts, texts[::-1]):
        assert ",".join(_marks(tmp_path, *order, table=table).split) == split


def test_an_image_is_known_by_its_content(tmp_path):
    (tmp_path / "a").mkdir()
    digest = hashlib.sha256(b"same").hexdigest()
    (tmp_path / "a" / "2.png").write_bytes(b"same")
    text = f"path,split,sha256\nold/name.png,train,{digest}\n"
    assert _marks(tmp_path, text).split.tolist() == ["", "train", "", "", ""]
    # an exact copy of a training image is seen though it is listed as test
    (tmp_path / "a" / "1.png").write_bytes(b"same")
    text = f"path,split,sha256\na/1.png,train,{digest}\na/2.png,test,{digest}\n"
    assert _marks(tmp_path, text).split.tolist() == ["train", "train", "", "", ""]


@pytest.mark.parametrize(
    "text, message",
    [
        ("path,label\na,normal\n", "no column split .* there are path, label"),
        ("file,split\na,train\n", "no column that names the images"),
        ("path,split\na,test\n", "column split holds test; train or validation expected"),
        ("path,split\n", "holds no rows"),
        ("", "not a CSV table"),
    ],
)
def test_a_file_that_is_no_such_list_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        _marks(tmp_path, text)
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        read_training_lists([tmp_path / "none.csv"])


def test_the_list_beside_weights_is_found_by_name(tmp_path):
    (tmp_path / "net.csv").write_text("path,split\na/1.png,train\n")
    assert list_beside(tmp_path / "net.weights.h5").names == (str(tmp_path / "net.csv"),)
    assert list_beside(tmp_path / "other.weights.h5") is None and list_beside(None) is None
    (tmp_path / "net.csv").write_text("path,p_covid19\na/1.png,0.4\n")
    assert list_beside(tmp_path / "net.weights.h5") is None
