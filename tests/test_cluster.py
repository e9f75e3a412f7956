"""Preparing and predicting over a real cluster of two workers on loopback, of which some are killed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

from covidcxnet import cluster as clusters
from covidcxnet import pretrained
from covidcxnet.classifier import Classifier
from covidcxnet.cli.predict import main as predict
from covidcxnet.cluster import connected
from covidcxnet.datasets import Dataset
from covidcxnet.preparation import Store, prepare
from covidcxnet.preparation.store import ARRAYS
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from enhancement.parallel import map_files
from segmentation.engines import Network
from segmentation.verdict import Verdict

cloudpickle = pytest.importorskip("cloudpickle")
pytest.importorskip("distributed")

# Workers cannot import a test module: what they get of it travels whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SETTINGS = InputSettings(size=16, clahe_tile_grid=(2, 2), channels=("clahe", "raw"), region="crop")
FILES = 230  # three shards of 112, 112 and the rest


@dataclass
class Stub:
    """A segmenter without a network; `log` counts its images, and the first process to make `victim` waits there."""

    log: Path
    victim: Path | None = None
    name: str = "stub"
    sha256: str = "f" * 64

    def predict(self, images):
        if self.victim is not None and not self.victim.exists():
            self.victim.write_text(str(os.getpid()))
            time.sleep(600)
        with open(self.log, "a") as file:
            file.write("." * len(images))
        return [self._lungs(image) for image in images]

    def _lungs(self, image):
        mask = np.zeros(image.shape, bool)
        mask[4:-4, 4 : 20 + image[0, 0] % 5] = True
        verdict = Verdict(True, (), area_fraction=float(mask.mean()), frontal=1.0)
        return SimpleNamespace(mask=mask, box=(4, 4, mask.shape[0] - 4, mask.shape[1] - 4), verdict=verdict, error=None)


@pytest.fixture(scope="module")
def cluster():
    with connected(workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Radiograph-like files, of which one is missing, one empty and one rubbish."""
    root = tmp_path_factory.mktemp("data")
    for i in range(FILES):
        noise = np.random.default_rng(i).integers(1, 256, (24, 30), dtype=np.uint8)
        cv2.imwrite(str(root / f"{i:03d}.png"), cv2.GaussianBlur(noise, (0, 0), 2))
    (root / "005.png").unlink()
    (root / "120.png").write_bytes(b"")
    (root / "121.png").write_bytes(b"rubbish")
    table = pd.DataFrame({"path": [f"{i:03d}.png" for i in range(FILES)], "label": ["normal", "flu"] * (FILES // 2)})
    return Dataset(table, root, name="small")


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory):
    """The store of one process."""
    folder = tmp_path_factory.mktemp("alone")
    with prepare(dataset, SETTINGS, folder / "s.h5", segmenter=Stub(folder / "log"), jobs=1, progress=False) as store:
        yield store


def assert_equal(store, other):
    rows = np.random.default_rng(0).permutation(len(other))
    for name in ARRAYS:
        np.testing.assert_array_equal(store.take(name, rows), other.take(name, rows))
    pd.testing.assert_frame_equal(store.table, other.table)
    pd.testing.assert_frame_equal(store.rejected, other.rejected)


def kill(victim: Path) -> None:
    """Kill the worker whose process is in the file, once there is one."""
    until = time.monotonic() + 240
    while not (victim.exists() and victim.read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(int(victim.read_text()), signal.SIGKILL)


def test_a_killed_worker_loses_nothing_and_the_store_of_shards_is_that_of_one_process(
    cluster, dataset, alone, tmp_path, capsys
):
    stub = Stub(tmp_path / "log", tmp_path / "victim")
    murder = threading.Thread(target=kill, args=[stub.victim])
    murder.start()
    with prepare(dataset, SETTINGS, tmp_path / "s.h5", segmenter=stub, cluster=cluster) as store:
        assert_equal(store, alone)
        assert "227 stacks, 3 of 230 files could not be used" in capsys.readouterr().err
    murder.join()
    assert len(list((tmp_path / "s.h5.shards").iterdir())) == 3, "and nothing of the killed worker"

    # The files move together, and HDF5 alone reads them.
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("s.h5", "s.h5.shards"):
        shutil.move(tmp_path / name, moved / name)
    with h5py.File(moved / "s.h5") as file:
        np.testing.assert_array_equal(file["stacks"][:], alone.read(slice(None)))

    # HDF5 alone reads zeros where a shard is missing.
    shard = sorted((moved / "s.h5.shards").iterdir())[1]
    content = shard.read_bytes()
    with Store(moved / "s.h5") as store:
        shard.unlink()
        with h5py.File(moved / "s.h5") as file:
            assert not file["stacks"][120].any()
        with pytest.raises(InputError, match=f"{shard.name}: this shard of s.h5 cannot be read"):
            store.read([0, 120])
    with pytest.raises(InputError, match=f"{shard.name}: missing"):
        Store(moved / "s.h5")
    shutil.copy(sorted(shard.parent.iterdir())[1], shard)
    with Store(moved / "s.h5") as store, pytest.raises(InputError, match="is not the shard that"):
        store.read([120])
    shard.write_bytes(content)
    assert_equal(Store(moved / "s.h5"), alone)


def test_only_what_is_missing_or_has_changed_is_prepared(cluster, dataset, alone, tmp_path):
    stub, path = Stub(tmp_path / "log"), tmp_path / "s.h5"

    def prepared(dataset=dataset, cluster=cluster):
        stub.log.write_text("")
        prepare(dataset, SETTINGS, path, segmenter=stub, cluster=cluster, progress=False).close()
        return len(stub.log.read_text())

    assert prepared() == FILES - 3
    assert prepared() == 0 and prepared(cluster=None) == 0, "one process takes the shards as they are"
    path.unlink()
    first, *_, last = sorted((tmp_path / "s.h5.shards").iterdir())
    before = first.stat().st_mtime_ns
    last.unlink()
    assert prepared() == FILES - 1 - 2 * 112, "as after Ctrl-C: the last shard only"
    assert_equal(Store(path), alone)
    other = replace(dataset, table=dataset.table.assign(label="flu"), classes=("flu",))
    assert prepared(other) == 0 and set(Store(path).table["label"]) == {"flu"}
    assert first.stat().st_mtime_ns == before
    more = replace(dataset, table=dataset.table.iloc[[0, *range(10, FILES)]])
    assert prepared(more) == 0, "rows of the old shards are copied into new ones"
    rows = np.flatnonzero(alone.table["path"].isin(more.table["path"]))
    np.testing.assert_array_equal(Store(path).read(slice(None)), alone.read(rows))
    assert prepared(dataset, None) == 8 and not (tmp_path / "s.h5.shards").exists()
    assert_equal(Store(path), alone)


@pytest.mark.usefixtures("interrupts")
def test_after_ctrl_c_and_after_a_lost_scheduler_the_finished_shards_stay(dataset, alone, tmp_path, capsys):
    import distributed

    stub = Stub(tmp_path / "log", tmp_path / "victim")
    done = tmp_path / "s.h5.shards"
    local = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**local, local_directory=str(tmp_path / "dask")) as lent:

        def end(how):
            until = time.monotonic() + 240
            while not (stub.victim.exists() and list(done.glob("*.h5"))):
                assert time.monotonic() < until
                time.sleep(0.02)
            how()

        def broken_off(how, error):
            stub.victim.unlink(missing_ok=True)
            ending = threading.Thread(target=end, args=[how])
            ending.start()
            with pytest.raises(error) as caught, connected(lent.scheduler_address) as cluster:
                prepare(dataset, SETTINGS, tmp_path / "s.h5", segmenter=stub, cluster=cluster)
            ending.join()
            return str(caught.value)

        broken_off(lambda: os.kill(os.getpid(), signal.SIGINT), KeyboardInterrupt)
        assert f"of {FILES}; the same command goes on from there" in capsys.readouterr().err
        assert not (tmp_path / "s.h5").exists()
        text = broken_off(lent.close, InputError)
        assert "connection to the scheduler lost; the same command goes on from there" in text
    assert len(list(done.glob("*.h5"))) >= 1


ENDLESS = """
import time
from covidcxnet.cluster import connected
from enhancement.progress import ProgressBar

def work(batch, jobs):
    with ProgressBar(batch):  # as in a worker that reads files
        print("up", flush=True)
        time.sleep(60)

if __name__ == "__main__":
    with connected(workers=1) as cluster:
        list(cluster.map(work, [[1]], files=lambda batch: []))
"""


def test_sigterm_ends_workers_and_leaves_no_folder_and_no_semaphore(tmp_path):
    (tmp_path / "script.py").write_text(ENDLESS)
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(Path(__file__).parents[1])}
    command, pipes = [sys.executable, str(tmp_path / "script.py")], dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=environment, **pipes, text=True) as process:
        assert process.stdout.readline() == "up\n"
        assert list((tmp_path / "tmp").glob("covidcxnet-*"))
        process.terminate()
        assert "leaked" not in process.communicate(timeout=30)[1]
        assert process.returncode == 143
    assert not list((tmp_path / "tmp").glob("covidcxnet-*"))


def test_files_that_kill_every_worker_are_read_in_processes_of_their_own(cluster):
    fatal = "__import__('os')._exit(1)"
    batches = [["1 + 1", "2 + 2"], ["3 + 3", fatal, "4 + 4"]]

    def work(batch, jobs):
        return list(map_files(eval, batch, lost=lambda item: "lost", jobs=jobs, batch=2))

    assert list(cluster.map(work, batches, files=lambda batch: [])) == [[2, 4], [6, "lost", 8]]


def lent_classifier(**how):
    """A classifier without Keras: its network is a sum, whose last bits depend on the batch as those of others do."""

    def run(stacks):
        values = stacks.mean(axis=(1, 2, 3), dtype=np.float32) / 255
        return ((values + np.float32(1e-4) * values.mean())[:, None],)

    network = Network(run, (16, 16, 2), ((1,),), 1)
    metadata = {"classes": ["normal", "flu"], "input": replace(SETTINGS, region="none").to_dict()}
    classifier = Classifier(None, metadata, __file__, network=network, segmenter=Stub(Path(os.devnull)))
    classifier.origin = lent_classifier
    return classifier


def test_predictions_are_those_of_one_process(cluster, dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(dataset.root)
    monkeypatch.setattr(pretrained, "load_model", lambda *_, **__: lent_classifier())
    files = [f"{i:03d}.png" for i in range(6, FILES)]  # relative, which workers must not take for their own
    arguments = [*files, "--weights", "any", "--batch-size", "7", "--csv"]
    assert predict([*arguments, str(tmp_path / "one.csv")]) == 1
    lines = capsys.readouterr().out
    assert predict([*arguments, str(tmp_path / "two.csv"), "--scheduler", cluster.address]) == 1
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert capsys.readouterr().out == lines and lines.count("is not an image") == 1


def test_what_a_worker_lacks_is_an_error_that_names_it(cluster, tmp_path, monkeypatch):
    def run(**options):
        return list(cluster.map(lambda batch, jobs: batch, [["x"]], **{"files": lambda batch: batch, **options}))

    host = clusters.socket.gethostname()
    with monkeypatch.context() as patch:
        patch.setattr(clusters.os, "access", lambda path, mode: True)  # this machine sees the file
        with pytest.raises(InputError, match=f"^x: the worker on {host} cannot read it"):
            run()
    assert run() == [["x"]], "a file that is nowhere is the batch's to report"
    with pytest.raises(InputError, match=f"absent: the worker on {host} cannot read it"):
        run(needs=[tmp_path / "absent"])
    monkeypatch.setattr(clusters, "code_version", lambda: "9.9 (0123abcd)")
    with pytest.raises(InputError, match=r"has covidcxnet 0\.\S+ \(\w+\), this command is 9\.9 \(0123abcd\); install"):
        run()


def test_clusters_that_cannot_be_had_are_refused_in_a_line(monkeypatch, dataset, capsys):
    monkeypatch.setattr(clusters, "_ANSWER", 0.5)
    for arguments, reason in (
        ({"scheduler": "tcp://127.0.0.1:9"}, "nobody answers at tcp://127.0.0.1:9"),
        ({"scheduler": "localhost"}, "an address such as tcp://host:8786 expected"),
        ({"scheduler": "tcp://a:1", "workers": 2}, "leave one out"),
    ):
        with pytest.raises(InputError, match=reason), connected(**arguments):
            pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setattr(pretrained, "load_model", lambda *_, **__: lent_classifier())
    assert predict([str(dataset.paths[0]), "--weights", "any", "--workers", "2"]) == 2
    assert "pip install 'covidcxnet[cluster]'" in capsys.readouterr().err
