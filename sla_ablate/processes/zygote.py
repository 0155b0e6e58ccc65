"""A process that has imported what every run needs, and forks a fresh one for each.

Importing torch and Lightning takes seconds, forking a hundredth of one. The zygote is started by exec and never
runs anything itself, so no thread, no random state and no GPU context leaks into a run, and none from run to run.
Each run has a keeper between the zygote and itself, which waits for it and tells what became of it; so there can be
several at a time. Unlike multiprocessing's forkserver it works below any launcher. It ends when the process that
started it ends, and then asks its runs to stop (on Linux; elsewhere they are finished).
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sla_ablate.processes.signals import end_with_parent
from sla_ablate.text import streams

# A process that forks must have one thread only. pyarrow's allocator starts one as it is loaded, used or not; those of
# OpenBLAS, which numpy and scipy start, are ended before a fork by OpenBLAS itself.
_THREADLESS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}


class LostError(Exception):
    """The zygote is gone, and with it the exit codes of its runs."""


class Zygote:
    """A zygote, as the process that started it has it: asks it for runs, and ends it.

    Args:
        module: whose `main([argument])` a run is.
        preloaded: further modules that a run will need.
        environment: of the zygote and its runs.

    Raises:
        LostError: the system has no process for it.
    """

    def __init__(self, module: str, preloaded: Sequence[str], environment: Mapping[str, str]) -> None:
        try:
            self._begin(module, preloaded, environment)
        except OSError as error:
            raise LostError(f"the process that starts runs cannot be started: {error.strerror}") from error

    def _begin(self, module: str, preloaded: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the zygote)
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "sla_ablate.processes.zygote",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    module,
                    *preloaded,
                ],
                stdin=subprocess.DEVNULL,
                stderr=self._errors,
                env={**environment, **_THREADLESS},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a terminal's Ctrl-C is the supervisor's to pass on
            )

    def start(self, argument: str, stderr: int, environment: Mapping[str, str] = {}, held: Sequence[int] = ()) -> Call:
        """Have a process call `main([argument])`, beside those that do already.

        Args:
            argument: of the call.
            stderr: a descriptor that the process writes its errors to.
            environment: variables of its own.
            held: descriptors that it keeps open while it lives.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.suppress(ConnectionError):  # `wait` will tell
            socket.send_fds(self._socket, [b"+"], [theirs.fileno(), stderr, *held])
            ours.sendall(json.dumps([argument, dict(environment)]).encode())
            ours.shutdown(socket.SHUT_WR)
        return Call(self, ours)

    def send(self, number: signal.Signals) -> None:
        """Signal the zygote."""
        self._process.send_signal(number)

    def lost(self) -> LostError:
        """What has become of the zygote, which ends if only a keeper is gone: with the last line that it wrote."""
        self._process.terminate()
        code = self._process.wait()
        reason = next((f": {line}" for line in reversed(self._told().split("\n")) if line.strip()), "")
        return LostError(f"the process that starts runs ended with exit code {code}{reason}")

    def close(self) -> None:
        """End the zygote, ask its runs to stop, and pass on what it has told."""
        self._socket.close()
        self._process.wait()
        sys.stderr.write(self._told())
        self._errors.close()

    def _told(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")


class Call:
    """A run that a zygote was asked for; a selector tells which of several have something to `wait` for."""

    def __init__(self, zygote: Zygote, connection: socket.socket) -> None:
        self._zygote = zygote
        self._socket = connection
        self.pid: int | None = None
        """Process id of the run; None until it has begun, which the imports precede."""
        self._began = 0.0

    @property
    def seconds(self) -> float:
        """Time since the run began; 0 before."""
        return 0.0 if self.pid is None else time.monotonic() - self._began

    def fileno(self) -> int:
        """The descriptor that can be read once `wait` has something to read."""
        return self._socket.fileno()

    def wait(self, seconds: float) -> int | None:
        """The exit code of the run, negative for a signal; None if there is none within so many seconds.

        Raises:
            LostError: there will be none.
        """
        self._socket.settimeout(seconds)
        try:
            message = self._socket.recv(4)
        except (TimeoutError, BlockingIOError):  # the latter within no time
            return None
        except ConnectionResetError:  # nobody has read the request
            message = b""
        if not message:
            self._socket.close()
            raise self._zygote.lost()
        number = int.from_bytes(message, "big", signed=True)
        if self.pid is None:
            self.pid, self._began = number, time.monotonic()
            return None
        self._socket.close()
        return number

    def send(self, number: signal.Signals) -> None:
        """Signal the run, or the zygote before there is one. SIGKILL takes along all that the run started."""
        with contextlib.suppress(ProcessLookupError):
            if self.pid is None:
                self._zygote.send(number)
            elif number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)


def _serve(connection: socket.socket) -> str:
    """Fork a keeper for every request: returns the argument in the runs, and never in the zygote."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a keeper
    zygote = os.getpid()
    told = False
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, 1, 253)  # Linux sends no more
        if not request:
            os._exit(0)
        if os.fork() == 0:
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _end_with(zygote)
            caller, stderr, *held = descriptors
            return _keep(socket.socket(fileno=caller), stderr, held)
        if not told and (others := _other_threads()):  # whose locks are held for ever in what was forked
            told = True
            print(
                f"the process that starts runs has threads, so that a run may hang: {', '.join(others)}",
                file=sys.stderr,
                flush=True,
            )
        for descriptor in descriptors:
            os.close(descriptor)


def _other_threads() -> list[str]:
    """The names of this process's threads but the main one, after a fork; none where the system does not tell them."""
    try:
        tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
        return [(task / "comm").read_text(encoding="utf-8").strip() for task in tasks]
    except OSError:  # no Linux, or a thread that has just ended
        return []


def _keep(caller: socket.socket, stderr: int, held: Sequence[int]) -> str:
    """Fork a run and tell its caller of it: returns the argument in the run, and never in the keeper."""
    with caller.makefile() as request:
        argument, environment = json.load(request)
    keeper = os.getpid()
    run = os.fork()
    with contextlib.suppress(ProcessLookupError):
        os.setpgid(run, run)  # a group of its own, to be killed with all that it starts; whoever comes first makes it
    if run == 0:
        caller.close()
        os.dup2(stderr, sys.stderr.fileno())
        os.close(stderr)
        assert isinstance(sys.stderr, io.TextIOWrapper)
        sys.stderr.reconfigure(encoding="utf-8")  # a log is a file, whatever the terminal can show
        _end_with(keeper)
        os.environ.update(environment)
        return str(argument)
    for descriptor in (stderr, *held):  # the run's alone, as long as it lives
        os.close(descriptor)
    with contextlib.suppress(ConnectionError):  # the caller is gone
        caller.sendall(run.to_bytes(4, "big"))
        _, status = os.waitpid(run, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run, signal.SIGKILL)  # what it left behind
        caller.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os._exit(0)


def _end_with(parent: int) -> None:
    """Get SIGTERM when the parent process ends, however it ends."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str]) -> None:
    """Entry point of the zygote, and in the processes forked from it of a run."""
    descriptor, parent, *names = arguments
    streams.settle()
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # Slurm signals every process of a job; the supervisor and the run answer
    _end_with(int(parent))
    module, *_ = [importlib.import_module(name) for name in names]
    gc.collect()
    gc.freeze()  # the collector of a child would copy the pages of all that it looks at
    argument = _serve(socket.socket(fileno=int(descriptor)))
    faulthandler.enable()  # a segfault leaves its traceback in the log
    os._exit(_exit_code(module.main, argument))  # the interpreter would spend half a second on ending


def _exit_code(run: Callable[[list[str]], object], argument: str) -> int:
    """The exit code of a run, as the interpreter would have it, with its traceback where it says nothing itself."""
    code: object = 0
    try:
        run([argument])
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


if __name__ == "__main__":
    main(sys.argv[1:])
