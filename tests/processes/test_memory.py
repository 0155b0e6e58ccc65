"""What a process owns is counted, and not the files that it has mapped."""

from __future__ import annotations

import os
import subprocess
import sys

from sla_ablate.processes.memory import group_bytes, owned_bytes

CODE = """
import mmap, os, sys
file = open(sys.argv[1], "r+b")
mapped = mmap.mmap(file.fileno(), 0)
sum(mapped[i] for i in range(0, len(mapped), 4096))  # every page is resident now
held = b"x" * 50_000_000
child = os.fork()
if child == 0:
    more = b"y" * 50_000_000
    os.write(1, b".")
    sys.stdin.read()
    os._exit(0)
os.write(1, b".")
sys.stdin.read()
os.wait()
"""


def test_mapped_files_do_not_count_and_children_do(tmp_path):
    (tmp_path / "file").write_bytes(bytes(200_000_000))
    command = [sys.executable, "-c", CODE, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout.read(2) == b".."
        alone, together = owned_bytes(process.pid), group_bytes(process.pid)
        process.stdin.close()
    assert 50e6 < alone < 100e6
    assert 100e6 < together < 250e6  # the child shares with its parent what neither has written to
    assert owned_bytes(process.pid) == group_bytes(process.pid) == 0
    assert owned_bytes() == owned_bytes(os.getpid())
