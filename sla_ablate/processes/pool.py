"""Many runs of one zygote, a few at a time, of which one may die without the others."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from selectors import EVENT_READ, DefaultSelector

from sla_ablate.errors import InputError
from sla_ablate.processes import outcome
from sla_ablate.processes.zygote import LostError, Zygote
from sla_ablate.text.telling import tell, waiting


def call_each(
    module: str,
    preloaded: Sequence[str],
    arguments: Iterable[str],
    jobs: int,
    began: Callable[[str], object] = lambda argument: None,
) -> Iterator[tuple[str, str | None, list[str]]]:
    """Call `main([argument])` for each of many arguments, `jobs` at a time, each in a process of its own.

    The processes end with this one, however it ends, and when the iterator is closed.

    Args:
        module: whose `main` it is.
        preloaded: further modules that it will need.
        arguments: one for each call.
        jobs: how many calls there are at a time.
        began: called with the argument of each call that has begun.

    Yields:
        Each argument when its call has ended, with what went wrong, if anything, and the lines that it wrote to stderr.

    Raises:
        InputError: the process that they are forked from is gone, as where there is no memory for it.
    """
    ahead = iter(arguments)
    with (
        _told(),
        closing(Zygote(module, preloaded, os.environ)) as zygote,
        DefaultSelector() as running,
        ExitStack() as preloading,
    ):
        preloading.enter_context(waiting("starting the process that imports what all runs need", tell))

        def start(count: int) -> None:
            for argument in islice(ahead, count):
                log = tempfile.TemporaryFile()  # noqa: SIM115 (closed when its call has ended)
                call = zygote.start(argument, log.fileno())
                running.register(call, EVENT_READ, (call, argument, log))

        try:
            start(jobs)
            while running.get_map():
                for key, _ in running.select():
                    call, argument, log = key.data
                    exit_code = call.wait(0)
                    if exit_code is None:
                        preloading.close()
                        began(argument)
                        continue
                    running.unregister(call)
                    start(1)
                    with log:
                        log.seek(0)
                        lines = log.read().decode(errors="replace").splitlines()
                    yield argument, outcome.reason(exit_code, lines) if exit_code else None, lines
        finally:
            for key in running.get_map().values():
                key.data[0].send(signal.SIGKILL)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except LostError as lost:
        raise InputError(str(lost)) from lost
