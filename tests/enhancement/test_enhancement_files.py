"""Finding radiographs, and writing files whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from enhancement import InputError, find_images, whole_file
from enhancement.files import check_output, find_image_tree


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.dcm", "sub/deep/d.tif", "notes.txt", ".hidden.png", ".cache/e.png", "f.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub" / "IM000001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "sub" / "1.2.840.99").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "sub" / "README").write_bytes(b"no image")
    return tmp_path


def names(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_is_searched_all_the_way_down_and_a_pattern_gives_its_radiographs(folder):
    expected = ["a.JPG", "b.png", "sub/1.2.840.99", "sub/IM000001", "sub/c.dcm", "sub/deep/d.tif"]
    assert names(find_images(folder), folder) == expected
    assert names(find_images(str(folder), recursive=False), folder) == ["a.JPG", "b.png"]
    assert names(find_images(f"{folder}/**/*.[dt]*"), folder) == ["sub/c.dcm", "sub/deep/d.tif"]
    (folder / "sub" / "up").symlink_to(folder)  # a link that leads back up ends the search
    assert len(find_images(folder)) == 6
    assert names(find_images(folder / "*.*"), folder) == ["a.JPG", "b.png"]


def test_a_file_given_by_name_is_taken_whatever_its_ending_once_and_not_as_a_pattern(folder):
    assert find_images(folder / "notes.txt") == [folder / "notes.txt"]
    assert len(find_images([folder, folder / "b.png", f"{folder}/*.png"])) == 6
    path = folder / "chest [1].png"
    path.write_bytes(b"x")
    assert find_images(path) == [path]


def test_the_place_below_folder_or_pattern_is_kept(folder):
    assert dict(find_image_tree(folder))[folder / "sub/c.dcm"] == Path("sub/c.dcm")
    assert dict(find_image_tree(f"{folder}/sub/**/*.tif"))[folder / "sub/deep/d.tif"] == Path("deep/d.tif")
    assert dict(find_image_tree(folder / "sub/c.dcm"))[folder / "sub/c.dcm"] == Path("c.dcm")


def test_inputs_without_radiographs_are_refused(tmp_path):
    for inputs in ([], tmp_path / "nowhere.png", tmp_path / "nowhere/*.png"):
        with pytest.raises(InputError):
            find_images(inputs)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"no radiograph in this folder.*\.png"):
        find_images(tmp_path)


def test_a_whole_file_takes_its_name_at_the_end(tmp_path):
    target = tmp_path / "new" / "best.weights.h5"
    with whole_file(target) as partial:
        assert partial.parent == target.parent and partial.name.endswith("best.weights.h5")
        partial.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_broken_off_file_leaves_the_old_one(tmp_path, error):
    target = tmp_path / "state.h5"
    target.write_text("old")
    with pytest.raises(error), whole_file(target) as partial:
        partial.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_two_writers_of_a_long_name_do_not_meet_and_a_partial_file_is_no_radiograph(tmp_path):
    target = tmp_path / ("x" * 250 + ".png")
    with whole_file(target) as first, whole_file(target) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
        with pytest.raises(InputError):
            find_images(tmp_path)
    assert target.read_text() == "1"


def test_a_target_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a folder"), whole_file(tmp_path):
        pass
    with pytest.raises(InputError, match="not a folder"), whole_file(tmp_path / "file" / "a.png"):
        pass


def test_a_place_to_write_is_checked_before_there_is_anything_to_write(tmp_path):
    (tmp_path / "file").touch()
    assert check_output(tmp_path / "new" / "deep" / "a.csv") == tmp_path / "new" / "deep" / "a.csv"
    assert not (tmp_path / "new").exists()
    assert check_output(tmp_path, folder=True) == tmp_path and check_output(tmp_path / "file") == tmp_path / "file"
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path)
    with pytest.raises(InputError, match=r"file: exists; give another place or --overwrite"):
        check_output(tmp_path / "file", overwrite=False)
    for place, folder in ((tmp_path / "file", True), (tmp_path / "file" / "a.csv", False)):
        with pytest.raises(InputError, match="is a file and not a folder"):
            check_output(place, folder=folder)
