"""The command `covidcxnet launch`: start local processes that train together, and end them together."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from covidcxnet.cli import COMMANDS
from enhancement.command_line import Parser, at_least, command, did_you_mean
from enhancement.errors import InputError, one_line

SUMMARY = """Start processes on this machine that train one model together, and wait for them.

COMMAND is a command of covidcxnet, or any program. Each process finds its number and the address of process 0 in its
environment, as docs/scaling.md says. Only process 0 prints. When one fails, the others are stopped and its last line is
shown. Several processes train together under JAX.

  KERAS_BACKEND=jax covidcxnet launch -n 2 train --recipe covid-cxnet

Exit code: the largest of the processes; 128 and the number of the signal for one that a signal ended."""
GRACE = 3.0  # seconds that processes have to end by themselves, and again after SIGTERM
PAUSE = 0.05
VALUED = ("-n", "--processes")


@command("covidcxnet launch")
def main(argv: list[str], prog: str) -> int:
    """Start the processes, forward Ctrl-C to them, and return the worst of their exit codes."""
    parser = Parser(prog=prog, description=SUMMARY, usage=f"{prog} -n N COMMAND [arguments]")
    parser.add_argument("-n", "--processes", type=at_least(1), required=True, metavar="N", help="number of processes")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="what each of them runs")
    # What follows the command's name is the command's, and spelt as it spells it.
    first = next((k for k, word in enumerate(argv) if word[:1] != "-" and argv[k - 1] not in VALUED), len(argv))
    values = parser.parse_args(argv[: first + 1])
    if values.command is None:
        parser.error("COMMAND: the name of a command expected, such as train")
    words = argv[first:]
    if words[0] in COMMANDS:
        words = [sys.executable, "-m", "covidcxnet", *words]
    group, signals = Group(values.processes, prog), (signal.SIGINT, signal.SIGTERM)
    # Before the first process starts: a signal in between would leave that one alone.
    before = [signal.signal(number, group.forward) for number in signals]
    try:
        group.start(words)
        return group.wait()
    except FileNotFoundError:
        near = did_you_mean(words[0], COMMANDS)
        raise InputError(f"COMMAND: {words[0]!r} is no command of covidcxnet and no program{near}") from None
    finally:
        group.kill()
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


class Group:
    """Processes that end together."""

    def __init__(self, count: int, prog: str):
        self.count, self.prog = count, prog
        self.processes: list[subprocess.Popen[bytes]] = []
        # Process 0 has the terminal. The others would repeat it: what they print is shown where they fail.
        hidden = [tempfile.TemporaryFile() for _ in range(1, count)]  # noqa: SIM115
        self.outputs: list[IO[bytes] | None] = [None, *hidden]
        self.signals = 0

    def start(self, words: Sequence[str]) -> None:
        """Start all of them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        for number, output in enumerate(self.outputs):
            variables = {
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
                "KERAS_DISTRIBUTION_NUM_PROCESSES": str(self.count),
                "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
                "COVIDCXNET_LOCAL_PROCESS_ID": str(number),
            }
            self.processes.append(
                subprocess.Popen(
                    words,
                    env=os.environ | variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # A terminal sends Ctrl-C to all that it sees. Here this process alone passes it on.
                    start_new_session=True,
                    preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                )
            )

    def wait(self) -> int:
        """Wait for all; after the first failure the others are stopped. The worst exit code of those that ended."""
        while (codes := self.codes()).count(0) < self.count:
            if any(codes):
                break
            time.sleep(PAUSE)
        else:
            return 0
        failed = next(number for number, code in enumerate(codes) if code)
        # Those that wait for it may notice by themselves and say how to go on.
        for ask in (False, True):
            if ask:
                self.end(signal.SIGTERM)
            limit = time.monotonic() + GRACE
            while None in self.codes() and time.monotonic() < limit:
                time.sleep(PAUSE)
        if not self.signals:
            others = "; the others were stopped" if self.count > 1 else ""
            text = f"process {failed} ended with exit code {codes[failed]}{self.last_line(failed)}{others}"
            print(f"{self.prog}: {text}", file=sys.stderr)
        return max(filter(None, codes))

    def codes(self) -> list[int | None]:
        """Exit codes as shells report them, None for those that run."""
        codes = [process.poll() for process in self.processes]
        return [code if code is None or code >= 0 else 128 - code for code in codes]

    def last_line(self, number: int) -> str:
        """Where process `number` was not seen and ended by itself: what it printed last."""
        output = self.outputs[number]
        if output is None or self.processes[number].returncode < 0:
            return ""
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
        return f" ({one_line(lines[-1])})" if lines else ""

    def forward(self, number: int, frame: object = None) -> None:
        """Pass a signal on; a second one ends them outright."""
        self.signals += 1
        if self.signals == 1:
            self.end(number)
        else:
            self.kill()

    def end(self, number: int) -> None:
        """Send a signal to those that run."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def kill(self) -> None:
        """End what still runs outright, with what it has started."""
        for process in self.processes:
            if os.name == "posix":
                # Each process leads a group of its own, in which the workers that prepare its images are.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()


def _end_with_parent() -> None:
    """Let Linux end this process with its parent, even one that is killed outright."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
