"""Results that travel: what is altered is refused by name, what is cut off is no line, and nobody's line is lost."""

import hashlib
import json
import multiprocessing
import os
import signal

import pytest

from sla_ablate.errors import InputError
from sla_ablate.items.lines import append_lines, digest, line_of, processor_of, read_lines, record_of

RECORD = {
    "schema": 3,
    "run_id": "baseline-s10-01234567",
    "pairing": "p",
    "setting": "s",
    "seed": 10,
    "state": "done",
    "pattern": {"name": "baseline", "label": "baseline", "key_source": [[0]], "value_source": [[0]]},
    "config": {"model": {"n_layer": 1}, "data": {"path": "/home/me/text", "cache": "~", "vocab_size": 300}, "seed": 10,
               "optim": {"steps": 5}, "output": "/home/me/runs", "logger": {"tracking_uri": "https://me:secret@host"}},
    "environment": {"processor": "Processor 9", "precision": "32-true"},
    "cost": {"tokens": 1},
    "results": {
        "classes": {},
        "validation": {
            "context_length": 8, "stride": 8, "start_token": "<|endoftext|>", "documents": ["a", "b"],
            "nll": [1.5, 2.25], "tokens": [3, 4], "bytes": [10, 11], "words": [2, 2],
        }
    },
}  # fmt: skip


def line(**changes):
    return line_of({**RECORD, **changes}, "d", None)


def test_a_line_has_the_sums_and_nothing_of_the_machine():
    found = line()
    assert found["validation"]["nll"] == 3.75
    assert found["validation"]["tokens"] == 7
    assert found["validation"]["documents"] == 2
    assert "home/me" not in json.dumps(found)
    assert "secret" not in json.dumps(found)


def test_the_digest_is_that_of_the_rest_of_the_line():
    found = line()
    rest = {name: value for name, value in found.items() if name != "digest"}
    assert found["digest"] == hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def test_what_was_written_is_read(tmp_path):
    lines = [line(), line(run_id="other")]
    append_lines(tmp_path / "a" / "runs.jsonl", lines[:1])
    append_lines(tmp_path / "a" / "runs.jsonl", lines)  # the first is there
    assert read_lines(tmp_path / "a" / "runs.jsonl") == lines


@pytest.mark.parametrize(
    "old, new", [('"nll": 3.75', '"nll": 3.65'), ('"seed": 10', '"seed": 11'), ("}", "]"), ("{", "")]
)
def test_an_altered_line_is_refused_by_name(tmp_path, old, new):
    path = tmp_path / "runs.jsonl"
    append_lines(path, [line(run_id="first"), line()])
    first, second = path.read_text().splitlines()
    assert old in second
    path.write_text(f"{first}\n{second.replace(old, new, 1)}\n")
    with pytest.raises(InputError, match=r"runs\.jsonl, line 2"):
        read_lines(path)


def test_what_a_kill_cut_off_is_no_line_and_the_next_writer_takes_it_away(tmp_path):
    path = tmp_path / "runs.jsonl"
    append_lines(path, [line()])
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        assert read_lines(path) == [line()]
        append_lines(path, [line(run_id="next")])
        assert [each["run_id"] for each in read_lines(path)] == [RECORD["run_id"], "next"]


def _append(path, name):
    for n in range(40):
        append_lines(path, [line(run_id=f"{name}{n}")])


def test_several_processes_append_and_one_is_killed(tmp_path):
    path = tmp_path / "runs.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    while writers[2].is_alive() and (not path.exists() or path.stat().st_size < 10_000):
        pass
    os.kill(writers[2].pid, signal.SIGKILL)
    for writer in writers:
        writer.join()
    found = [each["run_id"] for each in read_lines(path)]
    assert len(set(found)) == len(found)
    assert {name for name in found if name[0] in "ab"} == {f"{name}{n}" for name in "ab" for n in range(40)}
    of_the_killed = [name for name in found if name[0] == "c"]
    assert of_the_killed == [f"c{n}" for n in range(len(of_the_killed))]


def test_runs_are_a_pair_on_one_kind_of_processor_only():
    here, there = line(), line(environment=RECORD["environment"] | {"processor": "Other"})
    on_both = line(environment=RECORD["environment"] | {"processor": "Processor 9 + Other"})
    assert [processor_of(each) for each in (here, there, on_both)] == ["Processor 9", "Other", "Processor 9 + Other"]
    assert len({record_of(each)["pairing"] for each in (here, there, on_both)}) == 3


def test_what_is_no_number_is_not_written():
    broken = {**line(), "heads": {"entropy": float("nan")}}
    with pytest.raises(ValueError):
        digest(broken)


def test_a_diverged_run_has_a_line_without_numbers(tmp_path):
    lost = {name: value for name, value in RECORD.items() if name not in ("results", "cost")}
    lost |= {"state": "diverged", "diverged_at_step": 7}
    append_lines(tmp_path / "runs.jsonl", [line_of(lost, "d", None)])
    (found,) = read_lines(tmp_path / "runs.jsonl")
    assert (found["state"], found["diverged_at_step"], found["validation"]) == ("diverged", 7, None)
    assert "results" not in record_of(found)
