"""Finding radiographs, mapping over them in processes, and writing files whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from enhancement import InputError, RadiographError, find_images, read_radiograph, whole_file
from enhancement.files import check_output, find_image_tree, result_names, write_all, write_csv
from enhancement.inputs import radiographs
from enhancement.lock import locked
from enhancement.parallel import map_files


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
    tree = {"": "sub/c.dcm", "sub/**/*.tif": "deep/d.tif", "sub/c.dcm": "c.dcm"}
    for given, place in tree.items():  # the place below folder or pattern is kept
        assert Path(place) in [below for _, below in find_image_tree(f"{folder}/{given}")]


def test_a_file_given_by_name_is_taken_whatever_its_ending_once_and_not_as_a_pattern(folder):
    assert find_images(folder / "notes.txt") == [folder / "notes.txt"]
    assert len(find_images([folder, folder / "b.png", f"{folder}/*.png"])) == 6
    path = folder / "chest [1].png"
    path.write_bytes(b"x")
    assert find_images(path) == [path]


def test_inputs_without_radiographs_are_refused(tmp_path):
    for inputs in ([], tmp_path / "nowhere.png", tmp_path / "nowhere/*.png"):
        with pytest.raises(InputError):
            find_images(inputs)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"no radiograph in this folder.*\.png"):
        find_images(tmp_path)


def test_what_a_search_cannot_read_is_named_and_the_rest_found(folder, shut):
    (folder / "archive").symlink_to(folder / "gone")
    (folder / "gone.png").symlink_to(folder / "gone")
    shut(folder / "sub" / "deep")
    expected = ["a.JPG", "archive", "b.png", "gone.png", "sub/1.2.840.99", "sub/IM000001", "sub/c.dcm", "sub/deep"]
    assert names(find_images(folder), folder) == expected
    assert list(radiographs(find_images(folder))) == find_images(folder)
    with pytest.raises(RadiographError, match=r"deep: cannot be opened \(Permission denied\)"):
        read_radiograph(folder / "sub" / "deep")
    with pytest.raises(RadiographError, match="archive: is a link to a file that does not exist"):
        read_radiograph(folder / "archive")
    with pytest.raises(InputError, match=r"deep: cannot be read \(Permission denied\)"):
        find_images(folder / "sub" / "deep")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_whole_file_takes_its_name_at_the_end_and_a_broken_off_one_leaves_the_old(tmp_path, error):
    target = tmp_path / "new" / "best.weights.h5"
    with whole_file(target) as partial:
        assert partial.parent == target.parent and partial.name.endswith("best.weights.h5")
        partial.write_text("whole")
        assert not target.exists()
    with pytest.raises(error), whole_file(target) as partial:
        partial.write_text("half")
        raise error
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_two_writers_of_a_long_name_do_not_meet_and_a_partial_file_is_no_radiograph(tmp_path):
    target = tmp_path / ("x" * 250 + ".png")
    with whole_file(target) as first, whole_file(target) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
        with pytest.raises(InputError):
            find_images(tmp_path)
    assert target.read_text() == "1"
    with whole_file(tmp_path / ("\N{LATIN SMALL LETTER AE}" * 125 + ".png")) as partial:  # two bytes a letter
        partial.touch()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no names that are not text")
def test_names_that_are_no_text_and_names_of_full_length_lose_nothing(tmp_path):
    write_csv(tmp_path / "t.csv", [{"file": "=\udcff.png"}])
    assert (tmp_path / "t.csv").read_bytes() == b"file\r\n'=\\udcff.png\r\n"
    sources = [Path("a", "x" * 254 + end) for end in "12"] + [Path("short.png")]
    names = result_names([(path, path) for path in sources])
    assert len(set(names)) == 3 and names[2] == Path("short.png") and {len(n.name) for n in names[:2]} == {255}


FULL = """
import resource, signal, sys
from enhancement.files import write_all
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_all(sys.argv[1], {"page.html": b"new", "numbers.json": b"x" * 5000})
"""


WRITER = """
import sys, time
from enhancement.command_line import run
from enhancement.files import whole_file

def work(arguments):
    with whole_file(arguments[0]) as partial, open(partial, "w"):
        print("writing", flush=True)
        time.sleep(60)

sys.exit(run(work, prog="writer"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it ends processes outright")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_is_ended_leaves_no_partial_file(tmp_path, interrupts, number, code):
    command, pipes = [sys.executable, "-c", WRITER, str(tmp_path / "a.csv")], {"text": True}
    pipes |= dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "writing\n" and len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.communicate(timeout=30)[1] == "\nwriter: interrupted\n"
    assert process.returncode == code and not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes")
def test_on_a_full_disk_files_that_belong_together_stay_as_they_were_and_the_error_names_the_file(tmp_path):
    write_all(tmp_path, {"page.html": b"old", "numbers.json": lambda path: path.write_bytes(b"old")})
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert f"{tmp_path / 'numbers.json'}: cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"page.html": "old", "numbers.json": "old"}


HOLDER = """
import sys
from enhancement.lock import locked
with locked(sys.argv[1], "works"):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_is_free_once_that_process_ends_however_it_ends(tmp_path):
    path = tmp_path / ".lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], **pipes) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match=rf"{tmp_path}: process {holder.pid} works; wait"), locked(path, "works"):
            pass
        holder.kill()
        holder.wait()
    assert path.exists()  # nobody took it away, and still
    with locked(path, "works"), pytest.raises(InputError, match=f"process {os.getpid()}"), locked(path, "works"):
        pass
    assert not path.exists()


def test_a_place_to_write_is_checked_before_there_is_anything_to_write(tmp_path):
    (tmp_path / "file").touch()
    assert check_output(tmp_path / "new" / "deep" / "a.csv") == tmp_path / "new" / "deep" / "a.csv"
    assert not (tmp_path / "new").exists()
    assert check_output(tmp_path, folder=True) == tmp_path and check_output(tmp_path / "file") == tmp_path / "file"
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path)
    with pytest.raises(InputError, match=r"maps\.png: several files are written; give the name of a folder"):
        check_output(tmp_path / "maps.png", folder=True)
    with pytest.raises(InputError, match="is a folder"), whole_file(tmp_path):
        pass
    with pytest.raises(InputError, match="not a folder"), whole_file(tmp_path / "file" / "a.png"):
        pass
    with pytest.raises(InputError, match=r"file: exists; give another place or --overwrite"):
        check_output(tmp_path / "file", overwrite=False)
    for place, folder in ((tmp_path / "file", True), (tmp_path / "file" / "a.csv", False)):
        with pytest.raises(InputError, match="is a file and not a folder"):
            check_output(place, folder=folder)


MODULE = """
import os

def double_or_die(item):
    if item == "die":
        os._exit(11)
    return 2 * item
"""


def test_results_come_in_order_and_a_deadly_item_is_lost_alone(tmp_path, monkeypatch):
    (tmp_path / "deadly_work.py").write_text(MODULE)  # a worker process must be able to import it
    monkeypatch.syspath_prepend(tmp_path)
    from deadly_work import double_or_die

    results = map_files(double_or_die, [1, 2, 3, "die", 4, 5, 6], lost=lambda item: f"lost {item}", jobs=2, batch=2)
    assert list(results) == [2, 4, 6, "lost die", 8, 10, 12]
    del sys.modules["deadly_work"]


def test_a_pool_that_breaks_while_it_starts_a_worker_loses_nothing(monkeypatch):
    """The pipes of a pool whose worker has just died are closed; starting the next worker then fails with OSError."""
    submit, calls = ProcessPoolExecutor.submit, []

    def breaks_once(pool, *work):
        calls.append(work)
        if len(calls) == 3:  # the first call starts the pool, the second is the first batch
            raise OSError("handle is closed")
        return submit(pool, *work)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", breaks_once)
    assert list(map_files(str, [1, 2, 3, 4], lost=lambda item: f"lost {item}", jobs=2, batch=1)) == list("1234")


def test_one_job_works_here_lazily_and_starts_no_process():
    calls = []
    results = map_files(lambda item: calls.append(os.getpid()) or item, [1, 2, 3], lost=str, jobs=1)
    assert next(results) == 1 and calls == [os.getpid()]
    assert list(results) == [2, 3] and set(calls) == {os.getpid()}
    assert list(map_files(str, [], lost=str)) == []


PARENT = """
import os, sys
from enhancement.parallel import map_files

def pid(item):
    return os.getpid()

if __name__ == "__main__":
    results = map_files(pid, range(8), lost=str, jobs=2, batch=1)
    print(next(results), flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_end_with_a_parent_that_is_killed_outright(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True) as process:
        worker = process.stdout.readline().strip()
        assert _runs(worker)
        process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 30
    while _runs(worker):
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
