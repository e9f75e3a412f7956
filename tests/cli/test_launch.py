"""`covidcxnet launch`: what its processes find in their environment, which code ends it, and that none is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from covidcxnet.cli import main

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

# Each process writes its number and pid to a folder, then does what the test is about.
PROGRAM = """
import os, sys, time
from pathlib import Path
folder, number = Path(sys.argv[1]), int(os.environ["KERAS_DISTRIBUTION_PROCESS_ID"])
(folder / str(number)).write_text(str(os.getpid()))
while len(list(folder.iterdir())) < int(os.environ["KERAS_DISTRIBUTION_NUM_PROCESSES"]): time.sleep(0.01)
"""
WAIT = "time.sleep(600)"  # longer than any test waits: what ends before was ended


def launched(folder, then, count=2, **options):
    """A started launch of `count` processes that write into the folder; in a session that a test can end."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "covidcxnet", "launch", "-n", str(count)]
    return subprocess.Popen(
        [*command, sys.executable, "-c", PROGRAM + then, str(folder)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def processes(folder, count=2):
    """Process ids, once all have written them."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        texts = [path.read_text() for path in sorted(folder.glob("*"))]
        if len(texts) == count and all(texts):
            return [int(text) for text in texts]
        time.sleep(0.02)
    raise AssertionError("the processes have not started")


def assert_gone(pids, seconds=60.0):
    def runs(pid):
        try:
            # a killed orphan stays a zombie where nobody reaps it
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    limit = time.monotonic() + seconds
    while any(map(runs, pids)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not [pid for pid in pids if runs(pid)]


def test_processes_get_a_number_an_address_and_their_own_arguments_and_only_the_first_prints(tmp_path):
    names = "('KERAS_DISTRIBUTION_JOB_ADDRESSES', 'COVIDCXNET_LOCAL_PROCESS_ID')"
    show = f"print(number, *(os.environ[n] for n in {names}))\n(folder / f'{{number}}').write_text('ended')"
    launch = launched(tmp_path / "run", show, count=3)
    out, err = launch.communicate(timeout=120)
    number, address, local = out.split()
    assert (launch.returncode, number, local, err) == (0, "0", "0", "")
    assert address.startswith("127.0.0.1:") and int(address.rpartition(":")[2]) > 0
    assert [path.read_text() for path in sorted((tmp_path / "run").iterdir())] == ["ended"] * 3


def test_flags_behind_the_command_are_the_commands_and_a_word_that_is_none_is_named(capfd):
    assert main(["launch", "--processes", "1", "models", "list", "--json"]) == 0
    assert '"small-cnn"' in capfd.readouterr().out
    for arguments, words in (
        (["-n", "2", "trian"], "'trian' is no command of covidcxnet and no program; did you mean train?"),
        (["-n", "2"], "COMMAND"),
        (["-n", "0", "train"], "from 1 expected"),
        (["train"], "-n/--processes"),
    ):
        assert main(["launch", *arguments]) == 2
        assert words in capfd.readouterr().err


@pytest.mark.parametrize(
    "death, code",
    [("print('no such file'); sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137)],
    ids=["exits", "killed"],
)
def test_a_process_that_dies_ends_the_others_with_a_line(tmp_path, death, code):
    launch = launched(tmp_path / "run", f"if number == 1: {death}\n{WAIT}")
    pids = processes(tmp_path / "run")
    _, err = launch.communicate(timeout=120)
    assert launch.returncode == code
    assert err.count("\n") == 1 and f"process 1 ended with exit code {code}" in err
    assert ("(no such file)" in err) == (code == 3)
    assert_gone(pids)


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_is_forwarded_once_and_the_processes_decide_how_they_end(tmp_path):
    then = f"try: {WAIT}\nexcept KeyboardInterrupt: print('saved'); sys.exit(130)"
    launch = launched(tmp_path / "run", then)
    pids = processes(tmp_path / "run")
    time.sleep(0.3)
    launch.send_signal(signal.SIGINT)
    out, err = launch.communicate(timeout=120)
    assert (launch.returncode, out, err) == (130, "saved\n", "")
    assert_gone(pids)


@pytest.mark.usefixtures("interrupts")
def test_a_second_ctrl_c_ends_processes_that_do_not_heed_the_first(tmp_path):
    launch = launched(tmp_path / "run", f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{WAIT}")
    pids = processes(tmp_path / "run")
    time.sleep(0.3)
    launch.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert launch.poll() is None
    launch.send_signal(signal.SIGINT)
    launch.communicate(timeout=120)
    assert launch.returncode == 137
    assert_gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="the system must end them")
def test_no_process_outlives_a_launch_that_was_killed_outright(tmp_path):
    launch = launched(tmp_path / "run", WAIT)
    pids = processes(tmp_path / "run")
    launch.kill()
    launch.communicate(timeout=120)
    assert_gone(pids)
