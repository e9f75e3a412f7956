"""The table of images: what it accepts and refuses, where it comes from, classes and findings of any table."""

import os

import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets import Dataset, load, merge, split
from covidcxnet.datasets.dataset import with_verdicts
from covidcxnet.datasets.load import load_files
from covidcxnet.datasets.splits import read_split
from covidcxnet.datasets.tables import read_text, save_table
from covidcxnet.datasets.vocabulary import finding_name
from covidcxnet.evaluation.provenance import read_training_lists
from covidcxnet.preparation.build import content_sha256
from covidcxnet.training import Recipe
from enhancement.errors import InputError


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "label": ["covid19", "normal", "covid19"], **columns})


def images(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    return folder


def test_normal_is_the_first_class_targets_follow_rows_are_renumbered_and_numbers_serve_as_labels(tmp_path):
    dataset = Dataset(table(), tmp_path)
    assert dataset.classes == ("normal", "covid19") and dataset.paths[0] == tmp_path / "a.png"
    np.testing.assert_array_equal(dataset.targets, [1, 0, 1])
    assert dataset.targets.dtype == np.int64
    assert repr(dataset) == "Dataset('dataset', 3 images, classes=('normal', 'covid19'))"
    html = Dataset(table().replace("covid19", "<b>"), tmp_path)._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html and "<td>3</td>" in html
    assert Dataset(table(), tmp_path, ("covid19", "normal")).classes == ("normal", "covid19")
    assert Dataset(table(), tmp_path, ("flu", "covid19", "normal")).classes == ("normal", "flu", "covid19")
    given = pd.DataFrame({"path": ["a", "b"], "label": [1.0, 0.0], "patient": [7.0, None]}, index=[5, 9])
    dataset = Dataset(given, tmp_path)
    assert list(dataset.table.index) == [0, 1] and dataset.classes == ("0", "1")
    assert dataset.table["patient"][0] == "7" and dataset.table["patient"].isna()[1]


def test_group_is_the_patient_column_or_nothing_and_blanks_are_no_person(tmp_path):
    assert Dataset(table(), tmp_path).group is None
    assert Dataset(table(patient=[None] * 3), tmp_path).group is None
    assert list(Dataset(table(patient=["p", "q", "q"]), tmp_path).group) == ["p", "q", "q"]
    blank = Dataset(table(patient=["", "  ", "p1"]), tmp_path, name="one")
    assert blank.table["patient"].isna().tolist() == [True, True, False]
    both = merge(blank, Dataset(table(patient=["", "  ", "p1"]), tmp_path / "two", name="two"))
    assert both.table["patient"].isna().sum() == 4


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (pd.DataFrame({"path": [], "label": []}), "no images"),
        (pd.DataFrame({"path": ["a"]}), "no column 'label'"),
        (pd.DataFrame({"path": ["a", "a"], "label": ["x", "y"]}), "a is in 2 rows"),
        (pd.DataFrame({"path": [*"abaca"], "label": "x"}), "a is in 3 rows;"),
        (pd.DataFrame({"path": [*"ababca"], "label": "x"}), r"a is in 3 rows \(2 images are in several\)"),
        (pd.DataFrame({"path": ["a", "b"], "label": ["x", None]}), r"row 2 \(b\) has no label"),
        (pd.DataFrame({"path": ["a", " "], "label": ["x", "y"]}), "row 2 has no path"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path, bad, reason):
    with pytest.raises(InputError, match=reason):
        Dataset(bad, tmp_path)
    with pytest.raises(InputError, match=r"covid19.*not among the classes normal, flu"):
        Dataset(table(), tmp_path, ("normal", "flu"))
    with pytest.raises(InputError, match="task 'several' given, one of exclusive, independent"):
        Dataset(table(), tmp_path, task="several")


def test_summary_counts_classes_sources_and_patients_and_filter_keeps_matching_rows(tmp_path):
    columns = {"source": ["x", "x", "y"], "patient": ["1", "2", "1"]}
    summary = Dataset(table(**columns), tmp_path).summary()
    assert list(summary.index) == ["normal", "covid19", "total"]
    assert list(summary.loc["covid19"]) == [2, 1, 1, 1] and list(summary.loc["total"]) == [3, 2, 2, 1]
    dataset = Dataset(table(view=["PA", "AP", None], age=[1, 2, 3]), tmp_path)
    assert list(dataset.filter(view=["PA", "AP"]).table["path"]) == ["a.png", "b.png"]
    assert list(dataset.filter(age="2").table["path"]) == ["b.png"]
    assert dataset.filter(view="PA").classes == ("normal", "covid19")
    assert dataset.filter(label="covid19").classes == ("covid19",)
    with pytest.raises(InputError, match="no image has view=lateral"):
        dataset.filter(view="lateral")
    with pytest.raises(InputError, match="no column 'source'"):
        dataset.filter(source="x")


def test_merge_moves_paths_to_the_common_root_and_keeps_patients_apart(tmp_path):
    one = Dataset(table(patient=["1", "2", None], mask=["m.png", None, None]), tmp_path / "one", name="one")
    two = Dataset(table(patient=["1", "1", "3"], source=["s"] * 3), tmp_path / "two", name="two")
    both = merge(one, two)
    assert both.root == tmp_path.resolve() and len(both) == 6
    assert list(both.table["path"][[0, 3]]) == ["one/a.png", "two/a.png"]
    assert both.table["mask"][0] == "one/m.png" and both.table["mask"].isna().sum() == 5
    assert both.table["patient"].nunique() == 4 and both.table["patient"].isna()[2]
    assert list(both.table["source"].unique()) == ["one", "s"]
    assert both.name == "one+two"
    with pytest.raises(InputError, match="is in"):
        merge(one, one)
    findings = table(finding_mass=[1, 0, None], finding_edema=[0, None, 1])
    with pytest.raises(InputError, match="exclude each other"):
        merge(one, Dataset(findings, tmp_path / "three", ("edema", "mass"), task="independent"))


def test_a_folder_per_class_is_a_dataset_and_split_folders_are_no_classes(tmp_path):
    root = images(tmp_path / "a", "NORMAL/x.png", "NORMAL/deep/y.jpg", "flu/z.webp", "flu/notes.txt", "stray.png")
    dataset = load(root, for_training=False)
    assert dataset.classes == ("NORMAL", "flu") and dataset.group is None
    assert sorted(dataset.table["path"]) == ["NORMAL/deep/y.jpg", "NORMAL/x.png", "flu/z.webp"]
    dataset = load(images(tmp_path / "b", "train/normal/x.png", "test/flu/z.png", "val/flu/w.png"))
    assert dataset.classes == ("normal", "flu")
    assert set(dataset.table["published_split"]) == {"train", "test", "val"}
    dataset = load(images(tmp_path / "d", "normal/train/x.png", "flu/Test/z.png"))
    assert dataset.classes == ("normal", "flu") and set(dataset.table["published_split"]) == {"train", "Test"}
    with pytest.raises(InputError, match="one folder per class"):
        load(images(tmp_path / "c", "x.png"))
    images(tmp_path / "e", "images/normal/x.png", "images/flu/y.png")
    with pytest.raises(InputError, match=r"only one class, 'images'.*its folders are flu, normal: give .*/e/images$"):
        load(tmp_path / "e")
    with pytest.raises(InputError, match=r"if normal, flu are the classes, give .*/e/images$"):
        load(tmp_path / "e" / "images" / "normal")
    with pytest.raises(InputError, match=r"x\.png: is an image; give a folder"):
        load(tmp_path / "c" / "x.png")


def test_labels_that_differ_only_in_case_are_refused(tmp_path, csv):
    folder = images(tmp_path / "a", "train/pneumonia/x.png", "train/normal/y.png", "Testing/Pneumonia/z.png")
    for data in (folder, csv("path,label\na,Pneumonia\nb,normal\nc,pneumonia\n")):
        for training in (True, False):
            with pytest.raises(InputError, match="'Pneumonia' and 'pneumonia' differ only in case; give them one"):
                load(data, for_training=training)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train_set", "test_set"),
        ("Train-images", "Test-images"),
        ("training_data", "testing_data"),
        ("train1", "holdout"),
        ("TrainSet", "dev data 2"),
    ],
)
def test_split_folders_are_known_by_their_first_word(tmp_path, train, test):
    names = [f"{side}/{label}/{side}.png" for side in (train, test) for label in ("flu", "normal")]
    for place, paths in (("a", names), ("b", ["/".join(np.take(name.split("/"), [1, 0, 2])) for name in names])):
        dataset = load(images(tmp_path / place, *paths))
        assert dataset.classes == ("normal", "flu") and set(dataset.table["published_split"]) == {train, test}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["trainA/n/x.png", "testA/n/y.png"], "testA, trainA look like split folders; rename them"),
        (["normal/train_of_b/x.png", "flu/test_of_b/y.png"], "test_of_b, train_of_b look like split folders"),
        (["training_data/normal/x.png", "training_data/flu/y.png"], "training_data looks like a split folder, but no"),
        (["test_images/x.png", "normal/y.png", "flu/z.png"], "test_images looks like a split folder"),
        (
            ["normal/train/x.png", "normal/test/y.png", "covid19/z.png"],
            r"normal is split into test and train, covid19/z\.png is in none of them",
        ),
    ],
)
def test_folders_that_may_be_splits_are_no_classes_and_no_part_of_them_is_split_anew(tmp_path, names, reason):
    with pytest.raises(InputError, match=reason):
        load(images(tmp_path, *names))
    assert load(images(tmp_path / "pcr", "test_positive/x.png", "test_negative/y.png", "valley/z.png"))


def test_content_decides_what_is_a_picture_and_what_is_left_out_is_listed_once(lay, capsys):
    picture = np.zeros((8, 8), np.uint8)
    names = ["COVID/images/a.png", "COVID/images/b.jfif", "normal/c", "normal/d.gif", "normal/e.png", "flu/f.png"]
    masks = ["COVID/masks/a.png", "normal/e_mask.png"]
    files = dict.fromkeys([*names, *masks, "stray.png"], picture)
    root = lay(files | {"normal/notes.txt": "BM is no picture", "normal/.DS_Store": "", "flu/Thumbs.db": ""})
    for _ in range(2):
        dataset = load(root, classes=["normal", "COVID"])
    assert sorted(dataset.table["path"]) == names[:-1]
    left_out, others = capsys.readouterr().err.splitlines()
    assert left_out == (
        f"{root}: left out: 2 masks, the first COVID/masks/a.png; 1 image in no class folder, the first stray.png; "
        "1 file that is not an image (1 .txt)"
    )
    assert others == f"{root}: 1 of 6 images left out, of other classes (flu 1)"


@pytest.mark.parametrize(
    ("further", "reason"),
    [
        ("chest_xray/train/normal/x.png", "beside the split folders test, train lies chest_xray, which holds split"),
        ("normal/x.png", "beside the split folders test, train lies normal, which is none; move it elsewhere"),
        ("vall/normal/x.png", r"lies vall, which is none; did you mean val\? If not, move it elsewhere"),
        ("train/stray.png", "train/stray.png lies in a split folder, but in no class folder"),
    ],
)
def test_split_folders_beside_anything_else_are_refused_with_its_name(tmp_path, further, reason):
    root = images(tmp_path / "set", "train/normal/x.png", "train/flu/y.png", "test/flu/z.png")
    load(root)
    with pytest.raises(InputError, match="split folders lie further down"):
        load(tmp_path)
    with pytest.raises(InputError, match=reason):
        load(images(root, further))


@pytest.fixture
def csv(tmp_path):
    """``csv(text)`` writes a table and returns its path."""
    return lambda text, name="t.csv": ((tmp_path / name).write_text(text), tmp_path / name)[1]


def test_csv_columns_are_found_by_their_usual_names_or_can_be_named(csv):
    text = "Filename,Finding,patient_id,group_id,Age\nx.png,flu,p1,g1,30\ny.png,normal,p1,007,\n"
    dataset = load(csv(text), for_training=False)
    assert list(dataset.table["path"]) == ["x.png", "y.png"]
    assert list(dataset.table["patient"]) == ["g1", "007"], "the group wins over the patient, and stays text"
    assert list(dataset.table["patient_id"]) == ["p1", "p1"] and "Age" in dataset.table
    path = csv("path,label,diagnosis\nx.png,1,flu\n")
    assert list(load(path, columns={"label": "diagnosis"}, for_training=False).table["label"]) == ["flu"]
    with pytest.raises(InputError, match="no column 'nothing'"):
        load(path, columns={"label": "nothing"})


@pytest.mark.parametrize("column", ["patient_id", "PatientID", "patientId", "Subject"])
def test_ids_labels_and_sources_are_text_as_written_and_only_an_empty_cell_is_missing(csv, column):
    ids = ["007", "7", "1000000000000000001", "1000000000000000002", "1e3", "NA", "null", ""]
    rows = [f"{i}.png,{['None', 'covid19'][i % 2]},NA,{name},0{i},{i},{i if i else 'NA'}" for i, name in enumerate(ids)]
    columns = {"patient": column} if column == "Subject" else None
    text = "\n".join([f"path,label,source,{column},accession,count,Age", *rows])
    dataset = load(csv(text), columns=columns)
    assert dataset.classes == ("None", "covid19") and set(dataset.table["source"]) == {"NA"}
    assert dataset.table["patient"].fillna("").tolist() == ids
    assert dataset.table["accession"][3] == "03" and dataset.table["count"].tolist() == list(range(8))
    assert np.isnan(dataset.table["Age"][0]) and dataset.table["Age"][1:].tolist() == list(range(1, 8))


def test_one_file_written_in_several_ways_is_one_file(csv, tmp_path):
    for first in ("./img/0.png", f"{tmp_path}/img/0.png", f"{tmp_path}/./img//0.png", "img/../img/0.png", "img\\0.png"):
        with pytest.raises(InputError, match=r"img/0\.png is in 2 rows"):
            load(csv(f"path,label\n{first},normal\nimg/0.png,covid19\n"))
        dataset = load(csv(f"path,label\n{first},normal\nimg/1.png,covid19\n"))
        assert dataset.table["path"].tolist() == ["img/0.png", "img/1.png"]
        (tmp_path / "split.csv").write_text(f"path,split\n{first},train\n./img/1.png,test\n")
        assert read_split(tmp_path / "split.csv", dataset, by="image")["split"].tolist() == ["train", "test"]
        seen = read_training_lists([tmp_path / "split.csv"]).marks(dataset.table, dataset.root)
        assert seen.split.tolist() == ["train", "test"]
        (tmp_path / "verdicts.csv").write_text(f"path,verdict\n{first},reject\n")
        assert with_verdicts(dataset, tmp_path / "verdicts.csv").rejected == ["rejected by hand", None]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize(("separator", "first"), [(",", ""), (";", ""), ("\t", ""), (";", "sep=;\n")])
def test_tables_of_spreadsheets_are_read_whatever_separates_and_encodes_them(
    tmp_path, capsys, encoding, separator, first
):
    rows = [["path", '"label, read by two"', "ward", "age"], ["Müller 1.png", "flu", "a", "30.5"]]
    rows.append(["y.png", "normal", "b", "7.5"])
    text = first + "".join(separator.join(row) + "\n" for row in rows)
    (tmp_path / "t.csv").write_bytes((text.replace(".5", ",5") if separator == ";" else text).encode(encoding))
    dataset = load(tmp_path / "t.csv", columns={"label": "label, read by two"})
    assert list(dataset.table["path"]) == ["Müller 1.png", "y.png"] and dataset.classes == ("normal", "flu")
    assert list(dataset.table["age"]) == [30.5, 7.5] and list(dataset.table["ward"]) == ["a", "b"]
    assert ("read as Windows-1252" in capsys.readouterr().err) == (encoding == "cp1252")


def test_folders_that_cannot_be_read_are_noted_and_links_that_lead_nowhere_are_images_that_are_missing(
    tmp_path, shut, capsys
):
    images(tmp_path, "flu/a.png", "normal/b.png", "normal/more/c.png")
    (tmp_path / "flu" / "gone.png").symlink_to(tmp_path / "gone.png")
    shut(tmp_path / "normal" / "more")
    assert list(load(tmp_path).table["path"]) == ["flu/a.png", "flu/gone.png", "normal/b.png"]
    assert "left out: 1 folder that cannot be read, the first normal/more" in capsys.readouterr().err
    shut(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        load(tmp_path)


def test_a_file_whose_name_is_no_utf8_is_left_out_of_a_folder_and_refused_in_a_table(tmp_path, capsys):
    images(tmp_path, "flu/a.png", "normal/b.png", "flu/lunge_\udcfc.png")
    assert list(load(tmp_path).table["path"]) == ["flu/a.png", "normal/b.png"]
    assert r"left out: 1 image whose name is not valid UTF-8, the first flu/lunge_\udcfc" in capsys.readouterr().err
    (tmp_path / "t.csv").write_bytes(b"path,label,mask\na\0b.png,normal,m\0.png\nflu/a.png,flu,\n")
    dataset = load(tmp_path / "t.csv")
    assert [path.is_file() for path in dataset.paths] == [False, True] and not dataset.masks[0][0].is_file()
    assert content_sha256(dataset.paths[0]) == ""
    with pytest.raises(InputError, match=r"\\udcfc.*not valid UTF-8"):
        Dataset(table().assign(path=["\udcfc", "a", "b"]), tmp_path)


def test_texts_that_a_spreadsheet_would_run_are_written_as_text_and_read_as_they_were(tmp_path):
    cells = ["=1+1", "+a", "-b", "@c", "'=d", "'e", "-", "-1.5", "1", "\tf", "a=b"]
    given = pd.DataFrame({"path": [f"{c}.png" for c in cells], "label": cells, "=age": np.arange(11) - 5.5})
    path = save_table(given, tmp_path / "t.csv")
    written = pd.read_csv(path, dtype=str)
    assert not [cell for cell in written.to_numpy().ravel() if cell[:1] in "=+@\t" or cell[:2] == "-b"]
    assert list(written.iloc[:, 2]) == [str(number) for number in given["=age"]]
    pd.testing.assert_frame_equal(read_text(path, "a table"), given.astype(str))
    read = load(path, for_training=False).table
    assert list(read["label"]) == [cell.strip() for cell in cells] and list(read["=age"]) == list(given["=age"])


def test_csv_paths_relative_to_the_parent_folder_are_found_and_absolute_ones_must_lie_under_the_root(
    csv, tmp_path, capsys
):
    images(tmp_path, "set/x.png", "set/y.png")
    table = tmp_path / "set" / "t.csv"
    table.write_text("path,label\nset/x.png,flu\nset/y.png,normal\n")
    dataset = load(table, for_training=False)
    assert dataset.root == tmp_path and all(p.is_file() for p in dataset.paths)
    assert "relative to" in capsys.readouterr().err
    table.write_text("path,label\nx.png,flu\nset\\y.png,normal\n")
    assert load(table, root=tmp_path / "set").table["path"][1] == "set/y.png"
    path = csv(f"path,label\n{tmp_path}/x.png,flu\n")
    assert load(path, for_training=False).table["path"][0] == "x.png"
    leaving = csv("path,label\nset/../../x.png,flu\n", "leaving.csv")
    with pytest.raises(InputError, match="nope: no such folder; root is"):
        load(path, root=tmp_path / "nope")
    for refused, root in ((path, images(tmp_path / "elsewhere", "x.png")), (leaving, tmp_path)):
        with pytest.raises(InputError, match="not under"):
            load(refused, root=root, for_training=False)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"not a CSV.*\(it has no columns\)"),
        (b"path,label\na,b\na,b,c,d\n", "line 3 has 4 cells"),
        (b"path,label\n", "no rows"),
        (b"a,b\n1,2\n", "no column for the path"),
        (b"path\nx\n", "no column for the label"),
        (bytes(range(256)) * 9, "t.csv"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "not a CSV table .its header is not text"),
        ("path,label\na.png,x\n".encode("utf-32"), "its header is not text in UTF-8, UTF-16 or Windows-1252"),
        (b"path,label\na.png," + b"x" * 200_000, "line 2 .* or it has a cell of more than 128 KiB"),
        (b",".join(b"column%d" % k for k in range(9999)), "no column for the path; .* and 9,987 more"),
        (b"PK\x03\x04 and so on", "a workbook or archive; save the workbook as CSV, or unpack the archive"),
    ],
)
def test_a_csv_that_is_no_table_of_images_is_refused(tmp_path, content, reason):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        load(tmp_path / "t.csv", for_training=False)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (['x.png,normal,"portable', "y.png,flu,", 'z.png,flu,rot 5"'], 2),
        (["w.png,normal,", 'x.png,"n,', "y.png,flu,", 'z.png,"flu",'], 3),
        (["w.png,normal,", 'x.png,normal,"', 'y.png,flu,"AP, supine"'], 3),
        (['"x.png,normal,', "y.png,flu,"], 2),
        (["x.png,normal,", 'y.png,"n,'], 3),
        (['"x.png","normal","portable', '"y.png","flu",""'], 2),
        (['x.png,normal,"' + 9000 * "long, long text ", "y.png,flu,"], 2),
        (['x.png, normal, "portable', "y.png, flu, ", 'z.png, flu, rot 5"'], 2),
    ],
)
def test_a_quotation_mark_that_is_never_closed_takes_no_rows_with_it(csv, rows, line):
    with pytest.raises(InputError, match=rf"t\.csv: a quotation mark in line {line} is never closed"):
        load(csv("\n".join(["path,label,note", *rows, ""])))


def test_columns_of_one_name_are_numbered(csv):
    table = load(csv("path,label,path.1,path,'=a,=a\nx.png,normal,1,2,3,4\ny.png,flu,5,6,7,8\n")).table
    assert list(table["path"]) == ["x.png", "y.png"] and len(table.columns) == len(set(table.columns))


def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"t\.csv: .*no"):
        read_text(tmp_path / "t.csv", "a table")


def test_texts_of_several_lines_are_read_and_rows_longer_than_the_header_are_refused(csv):
    text = '"Heart, lungs\nand bones, in short, normal.\n\nNo effusion; no mass, no nodule."'
    dataset = load(csv(f"path,label,report\nx.png,normal,{text}\n\ny.png,flu,\n"))
    assert list(dataset.table["path"]) == ["x.png", "y.png"] and dataset.table["report"][0] == text[1:-1]
    first = load(csv(f"report,path,label\n{text},x.png,normal\n,y.png,flu\n")).table
    assert list(first["path"]) == ["x.png", "y.png"] and first["report"][0] == text[1:-1]
    for rows in ("x.png,normal,AP\ny.png,flu,PA", "x.png,normal\ny.png,flu,PA"):
        with pytest.raises(InputError, match=r"line [23] has 3 cells, the header 2"):
            load(csv(f"path,label\n{rows}\n"))


@pytest.mark.parametrize("label", ["covid\n19", "covid\t19", "\x1b[31mcovid", "covid\u202819"])
def test_a_class_that_would_garble_a_terminal_is_refused(label):
    table = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["normal", label]})
    with pytest.raises(InputError, match=r"class \S+ holds a line break, tab or other control character") as refusal:
        Dataset(table, ".")
    assert str(refusal.value).isprintable()
    finding = table.assign(**{f"finding_{label}": [0, 1]}, label="unknown")
    with pytest.raises(InputError, match="holds a line break"):
        Dataset(finding, ".", (label,), task="independent")


def test_labels_and_patients_that_look_the_same_are_the_same(csv):
    rows = ["a.png,Fieber f\u00fcnf,u\u0308", "b.png,\ufeffFieber fu\u0308nf\u200b,\u00fc", "c.png,normal,c"]
    path = csv("\n".join(["path,label,patient", *rows]))

    dataset = load(path, classes=["normal", "Fieber fu\u0308nf"])
    assert dataset.classes == ("normal", "Fieber f\u00fcnf") and dataset.table["patient"].nunique() == 2
    assert len(dataset.filter(label="Fieber fu\u0308nf")) == 2


def test_a_column_of_names_taken_for_labels_is_refused_at_once(csv):
    path = csv("path,label\n" + "".join(f"{n}.png,patient {n}\n" for n in range(2000)))
    with pytest.raises(InputError, match=r"2,000 different labels \(patient 0, .* and 1,995 more\) in 2,000 images"):
        load(path)
    with pytest.raises(InputError, match=r"no image is labelled 'flu'; labels are patient 0, .* and 1,995 more"):
        load(path, classes=["flu"])


def test_load_takes_classes_in_order_and_filters(csv, tmp_path):
    path = csv("path,label,view\na,covid19,PA\nb,normal,PA\nc,pneumonia,PA\nd,covid19,AP\n")
    dataset = load(path, classes=("normal", "pneumonia", "covid19"), where={"view": "PA"})
    assert dataset.classes == ("normal", "pneumonia", "covid19") and len(dataset) == 3
    dataset = load(path, classes=("normal", "covid19"))
    assert dataset.classes == ("normal", "covid19") and len(dataset) == 3
    with pytest.raises(InputError, match="no image is labelled 'flu'"):
        load(path, classes=("normal", "flu"))
    with pytest.raises(InputError, match="only one class"):
        load(path, where={"view": "AP"})
    with pytest.raises(InputError, match="no such folder or CSV"):
        load(tmp_path / "nowhere")
    for opened in (load, load_files):
        with pytest.raises(InputError, match="data: empty"):
            opened("")


def findings_of(data, **options) -> Dataset:
    return load(data, task="independent", **options)


def table_file(tmp_path, **columns):
    rows = len(next(iter(columns.values())))
    path = tmp_path / "t.csv"
    pd.DataFrame({"path": [f"{i}.png" for i in range(rows)], **columns}).to_csv(path, index=False)
    return path


def test_columns_of_1_0_minus_1_and_nothing_are_present_absent_and_unknown(tmp_path):
    data = findings_of(table_file(tmp_path, Effusion=[1, 0, -1, None], mass=[0, 1, 1, 0], age=[1, 0, 1, 0]))
    assert data.classes == ("effusion", "mass") and data.targets.dtype == np.float32
    np.testing.assert_array_equal(data.targets, [[1, 0], [0, 1], [np.nan, 1], [np.nan, 0]])
    assert list(data.table["label"]) == ["effusion", "mass", "mass", "unknown"]
    assert data.filter(age="1").targets.shape == (2, 2)
    rejected = pd.DataFrame({"path": ["2.png"], "verdict": ["reject"], "reason": ["blank"]})
    assert with_verdicts(data, rejected).classes == data.classes


def test_a_list_says_what_is_present_and_nothing_said_is_unknown(tmp_path):
    lists = ["Effusion|Pleural_Thickening", "No Finding", None, "Effusion"]
    data = findings_of(table_file(tmp_path, labels=lists, label=["sick", "normal", "sick", "sick"]))
    assert set(data.classes) == {"effusion", "pleural_thickening"}
    named = dict(zip(data.classes, data.targets.T, strict=True))
    np.testing.assert_array_equal(named["effusion"], [1, 0, np.nan, 1])
    np.testing.assert_array_equal(named["pleural_thickening"], [1, 0, np.nan, 0])
    assert list(data.table["label"]) == ["several", "normal", "unknown", "effusion"]


def test_a_finding_that_no_list_names_is_unknown_and_classes_find_columns_outside_the_vocabulary(tmp_path):
    path = table_file(tmp_path, labels=["Effusion|Mass", "No Finding"])
    data = findings_of(path, classes=("Effusion", "Hernia"), for_training=False)
    np.testing.assert_array_equal(data.targets, [[1, np.nan], [0, np.nan]])
    with pytest.raises(InputError, match="hernia"):
        findings_of(path, classes=("Hernia", "Fibrosis"), for_training=False)
    path = table_file(tmp_path, Scoliosis=[1, 0], Mass=[0, 1])
    assert findings_of(path, classes=("scoliosis", "mass")).classes == ("scoliosis", "mass")
    assert finding_name("No Finding") == "normal" and finding_name("finding_mass") == "mass"


@pytest.mark.parametrize(
    ("columns", "classes", "word"),
    [
        ({"mass": [1, 0], "effusion": [2, 0]}, (), "column effusion, row 1"),
        ({"mass": [1, 0]}, (), "two findings"),
        ({"mass": [1, 0], "effusion": [0, 0]}, ("mass", "effusion"), "effusion is present in 0"),
        ({"label": ["a", "b"]}, (), "two findings"),
        ({"mass": [1, 0], "effusion": [1, 0]}, ("mass", "hernia"), "no finding 'hernia'"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path, columns, classes, word):
    with pytest.raises(InputError, match=word):
        findings_of(table_file(tmp_path, **columns), classes=classes)
    for data in ("phantom", tmp_path):
        with pytest.raises(InputError, match="one label"):
            findings_of(data)


def test_a_split_keeps_patients_together_and_gives_each_side_its_share_of_each_finding(tmp_path):
    random = np.random.default_rng(0)
    images = 600
    columns = {name: (random.random(images) < share).astype(int) for name, share in (("mass", 0.3), ("hernia", 0.05))}
    data = findings_of(table_file(tmp_path, patient=random.integers(0, 200, images).astype(str), **columns))
    sides = split(data, (0.6, 0.2, 0.2), seed=1)["split"]
    assert sides.groupby(data.table["patient"]).nunique().max() == 1
    for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        inside = (sides == name).to_numpy()
        shares = data.targets[inside].sum(axis=0) / data.targets.sum(axis=0)
        np.testing.assert_allclose(shares, share, atol=0.07)


@pytest.mark.parametrize("word", ["softmax", "multilabel", "class_weights", "sampling"])
def test_a_recipe_that_does_not_go_with_findings_is_refused_before_any_work(word):
    changes = {"softmax": {"options": {"activation": "softmax"}}, "multilabel": {"model": "logistic-regression"}}
    changes |= {"class_weights": {"class_weights": "source"}, "sampling": {"sampling": "oversample"}}
    with pytest.raises(InputError, match=word):
        Recipe(multilabel=True, **changes[word])
