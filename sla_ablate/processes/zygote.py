"""A process that has imported what every run needs, and forks a fresh one for each.

Importing torch and Lightning takes seconds, forking a hundredth of one. The zygote is started by exec and never
runs anything itself, so no thread, no random state and no GPU context leaks into a run, and none from run to run.
Unlike multiprocessing's forkserver it works below any launcher. It ends when the process that started it ends, and
then asks its run to stop (on Linux; elsewhere the run is finished).
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from sla_ablate.processes.signals import end_with_parent


class LostError(Exception):
    """The zygote is gone, and with it the exit code of its run."""


class Zygote:
    """The side of the process that wants runs: one at a time.

    Args:
        module: whose `main([argument])` a run is.
        preloaded: further modules that a run will need.
        environment: of the zygote and its runs.
    """

    def __init__(self, module: str, preloaded: Sequence[str], environment: Mapping[str, str]) -> None:
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
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a terminal's Ctrl-C is the supervisor's to pass on
            )
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._socket, selectors.EVENT_READ)
        self.run: int | None = None
        """Process id of the last run; None until it has begun, which the imports precede."""
        self._began = 0.0

    @property
    def seconds(self) -> float:
        """Since the last run began; 0 before."""
        return 0.0 if self.run is None else time.monotonic() - self._began

    def start(self, argument: str, environment: Mapping[str, str], stderr: int, held: Sequence[int]) -> None:
        """Ask for `main([argument])` with variables of its own. It keeps the descriptors `held` open while it lives."""
        self.run = None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `wait` will tell
            socket.send_fds(self._socket, [json.dumps([argument, environment]).encode()], [stderr, *held])

    def wait(self, seconds: float) -> int | None:
        """The exit code of the run, negative for a signal; None if there is none within so many seconds.

        Raises:
            LostError: there will be none.
        """
        if not self._ready.select(seconds):
            return None
        try:
            message = self._socket.recv(4)
        except ConnectionResetError:  # it has not read the request
            message = b""
        if not message:
            raise LostError(f"the process that starts runs ended with exit code {self._process.wait()}")
        number = int.from_bytes(message, "big", signed=True)
        if self.run is None:
            self.run, self._began = number, time.monotonic()
            return None
        return number

    def send(self, number: signal.Signals) -> None:
        """Signal the run, or the zygote before there is one. SIGKILL takes along all that the run started."""
        with contextlib.suppress(ProcessLookupError):
            if self.run is None:
                self._process.send_signal(number)
            elif number == signal.SIGKILL:
                os.killpg(self.run, number)
            else:
                os.kill(self.run, number)

    def close(self) -> None:
        """Let the zygote end."""
        self._ready.close()
        self._socket.close()
        self._process.wait()


def _serve(connection: socket.socket) -> str:
    """Fork for every request: returns the argument in the child, and never in the parent."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, 65536, 253)  # Linux sends no more
        if not request:
            os._exit(0)
        parent = os.getpid()
        run = os.fork()
        if run == 0:
            connection.close()
            stderr, *_held = descriptors  # as long as this process lives
            os.dup2(stderr, sys.stderr.fileno())
            os.close(stderr)
            _end_with(parent)
            argument, environment = json.loads(request)
            os.environ.update(environment)
            return str(argument)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.setpgid(run, run)  # a group of its own, to be killed with all that it starts
        connection.sendall(run.to_bytes(4, "big"))
        _, status = os.waitpid(run, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run, signal.SIGKILL)  # what it left behind
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))


def _end_with(parent: int) -> None:
    """Get SIGTERM when the parent process ends, however it ends."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str]) -> None:
    """Entry point of the zygote, and in its children of a run."""
    descriptor, parent, *names = arguments
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
    """Of a run, as the interpreter would have it, with its traceback where it says nothing itself."""
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
