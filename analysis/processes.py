"""Many calls, each in a process of its own, of which one may die without the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from sla_ablate.errors import InputError

T = TypeVar("T")


def each_in_a_process(
    function: Callable[[T], object], items: Iterable[T], jobs: int, preload: list[str]
) -> Iterator[tuple[T, str | None]]:
    """Call `function(item)`, `jobs` at a time; yields each item when it is finished, with what went wrong.

    Processes are forked from one that has imported the modules `preload`. They end with this one, however it ends.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    ahead = iter(items)
    running: dict[int, tuple[T, multiprocessing.process.BaseProcess, Connection]] = {}

    def start() -> None:
        for item in ahead:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_call, args=(sender, function, item), daemon=True)
            process.start()
            sender.close()
            running[process.sentinel] = item, process, receiver
            return

    try:
        for _ in range(jobs):
            start()
        while running:
            for sentinel in wait(list(running)):
                assert isinstance(sentinel, int)
                item, process, receiver = running.pop(sentinel)
                process.join()
                start()
                yield item, _error(process.exitcode, receiver)
    finally:
        for _, process, _ in running.values():
            process.kill()


def _call(sender: Connection, function: Callable[[T], object], item: T) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function(item)
    except (InputError, OSError) as error:
        sender.send(str(error))
    except Exception as error:
        traceback.print_exc()
        sender.send(f"{type(error).__name__}: {error}".splitlines()[0])


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _error(exit_code: int | None, receiver: Connection) -> str | None:
    if receiver.poll():
        try:
            return str(receiver.recv())
        except EOFError:  # it is closed and empty
            pass
    if not exit_code:
        return None
    if exit_code > 0:
        return f"exit code {exit_code}"
    return f"ended by signal {-exit_code}: {signal.strsignal(-exit_code)}"
