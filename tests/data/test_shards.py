import dataclasses
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import TokenShards, prepare
from sla_ablate.data.splits import split_of
from sla_ablate.data.tokenizers import END_OF_TEXT
from sla_ablate.errors import InputError
from sla_ablate.text.sealed import seal, unseal

REPOSITORY = Path(__file__).parents[2]


def expected_split(identity, fraction):
    """By the hexadecimal digits, not by the code under test."""
    return "validation" if int(hashlib.sha256(identity.encode()).hexdigest()[:16], 16) < fraction * 16**16 else "train"


def start(program, *arguments):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def fail_if_called(line):
    raise AssertionError(f"prepared again: {line}")


@pytest.mark.parametrize("tokenizer", ["bpe", "bytes"])
def test_shards_hold_every_document_in_its_split(corpus, texts, tokenizer):
    shards = prepare(dataclasses.replace(corpus, tokenizer=tokenizer), log=str)
    ids = set()
    for split, tokens in ("train", shards.train), ("validation", shards.validation):
        assert not tokens.flags.writeable
        assert tokens.dtype == np.dtype("<u2")
        table = shards.documents(split)
        for row in table.itertuples():
            text = texts[row.id]
            assert row.split == split == expected_split(row.id, 0.3)
            assert shards.tokenizer.decode(tokens[row.start : row.start + row.tokens]) == text
            assert tokens[row.start + row.tokens] == shards.tokenizer.end_of_text
            assert (row.bytes, row.words) == (len(text.encode()), len(text.split()))
        members = [i for i in texts if expected_split(i, 0.3) == split]
        assert table["id"].tolist() == members
        joined = "".join(texts[i] + END_OF_TEXT for i in members)
        assert shards.tokenizer.decode(tokens) == joined
        assert shards.manifest["splits"][split] == {
            "documents": len(members),
            "tokens": len(tokens) - len(members),
            "bytes": sum(len(texts[i].encode()) for i in members),
            "words": sum(len(texts[i].split()) for i in members),
        }
        ids.update(members)
    assert ids == set(texts)
    with pytest.raises(InputError, match="split 'test' is unknown"):
        shards.documents("test")


def test_manifest_and_files(corpus, tmp_path):
    shards = prepare(corpus, log=str)
    folder = shards.folder
    assert folder.parent == tmp_path / "cache"
    assert folder.name.startswith("speeches-bpe-") and len(folder.name) == len("speeches-bpe-") + 12
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]  # of the rest
    assert manifest == shards.manifest
    files = {path.name for path in folder.iterdir()}
    assert files == {"manifest.json", "train.bin", "validation.bin", "tokenizer.json", "documents.parquet"}
    assert set(manifest["files"]) == files - {"manifest.json"}
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["tokenizer_fingerprint"] == shards.tokenizer.fingerprint
    assert (manifest["vocab_size"], manifest["end_of_text"], manifest["dtype"]) == (280, 279, "uint16")
    assert manifest["sources"] == ["speeches.jsonl"]


def test_the_vocabulary_is_learnt_from_the_training_split_alone(corpus, texts):
    before = prepare(corpus, log=str)
    path = Path(corpus.path)
    changed = {i: t if expected_split(i, 0.3) == "train" else "zebra " * 50 for i, t in texts.items()}
    path.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in changed.items()))
    after = prepare(corpus, log=str)
    assert after.folder != before.folder
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint
    assert np.array_equal(after.train, before.train)
    assert after.digest != before.digest


def test_split_depends_on_the_id_alone(corpus, texts):
    ids = {split: set(prepare(corpus, log=str).documents(split)["id"]) for split in ("train", "validation")}
    path = Path(corpus.path)
    lines = path.read_text().splitlines()
    extra = json.dumps({"id": "another", "text": "nation"})
    path.write_text("\n".join([extra, *reversed(lines)]))
    shards = prepare(corpus, log=str)
    for split, members in ids.items():
        assert set(shards.documents(split)["id"]) - {"another"} == members


def test_split_share_is_the_fraction():
    draws = [split_of(str(i), 0.1) for i in range(10_000)]
    assert draws == [expected_split(str(i), 0.1) for i in range(10_000)]
    assert abs(draws.count("validation") / 10_000 - 0.1) < 4 * (0.1 * 0.9 / 10_000) ** 0.5


def test_second_call_reuses_and_what_matters_is_in_the_key(corpus):
    first = prepare(corpus, log=str)
    second = prepare(corpus, log=fail_if_called)
    assert second.folder == first.folder and second.digest == first.digest

    def folder(**changes):
        return prepare(dataclasses.replace(corpus, **changes), log=str).folder

    folders = {
        folder(vocab_size=281),
        folder(validation_fraction=0.4),
        folder(tokenizer="bytes"),
        first.folder,
    }
    assert len(folders) == 4
    assert folder(tokenizer="bytes", vocab_size=999) in folders  # raw bytes have one vocabulary
    os.utime(corpus.path, ns=(1, 1))
    assert folder() not in folders


def test_digest_is_the_same_wherever_the_corpus_lies(corpus, tmp_path):
    moved = tmp_path / "elsewhere" / "other-name.jsonl"
    moved.parent.mkdir()
    moved.write_bytes(Path(corpus.path).read_bytes())
    here = prepare(corpus, log=str)
    there = prepare(dataclasses.replace(corpus, path=str(moved), cache=str(tmp_path / "second")), log=str)
    assert there.digest == here.digest and len(here.digest) == 12
    assert there.folder.name != here.folder.name


@pytest.mark.parametrize(
    "name", ["train.bin", "validation.bin", "tokenizer.json", "documents.parquet", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_damaged_file_is_refused_by_name(corpus, name, damage):
    folder = prepare(dataclasses.replace(corpus, tokenizer="bytes"), log=str).folder
    path = folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-3])
    else:
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(InputError) as caught:
        TokenShards.open(folder)
    message = str(caught.value)
    assert str(path) in message and damage in message
    assert f"move the folder {folder} away" in message and "\n" not in message


def test_other_schema_version_is_refused(corpus):
    folder = prepare(corpus, log=str).folder
    manifest = folder / "manifest.json"
    manifest.write_bytes(seal(unseal(manifest.read_bytes()) | {"schema": 99}))
    with pytest.raises(InputError, match=r"manifest\.json is of schema 99.*move the folder"):
        prepare(corpus)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": "bep"}, "data.tokenizer 'bep' is unknown; choose from bpe, bytes, .*; did you mean 'bpe'"),
        ({"validation_fraction": 0}, "data.validation_fraction 0 is out of range"),
        ({"validation_fraction": 1.0}, "data.validation_fraction 1.0 is out of range"),
        ({"validation_fraction": 1e-9}, "the validation split is empty: the corpus has 60 documents"),
        ({"validation_fraction": 1 - 1e-9}, "the train split is empty"),
        ({"validation_fraction": 1e-9, "tokenizer": "bytes"}, "the validation split is empty"),
        ({"vocab_size": 4096}, "vocab_size 4096 is more than the training text allows"),
        ({"text_field": "txt"}, "data.text_field 'txt' is unknown"),
    ],
)
def test_bad_options_are_refused_and_leave_nothing(corpus, changes, message):
    with pytest.raises(InputError, match=message):
        prepare(dataclasses.replace(corpus, **changes), log=str)
    cache = Path(corpus.cache)
    assert not cache.exists() or not [path for path in cache.iterdir() if path.is_dir()]


def test_cache_that_cannot_be_made(corpus):
    with pytest.raises(InputError, match=r"data\.cache .* cannot be made"):
        prepare(dataclasses.replace(corpus, cache=corpus.path + "/below"))


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_a_full_disk_is_told_and_leaves_nothing(corpus, tokenizer):
    config = dataclasses.replace(corpus, tokenizer=tokenizer)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as full:
            prepare(config, log=lambda line: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.value.filename.endswith(".partial")
    assert not [path for path in Path(config.cache).iterdir() if path.is_dir()]


def test_progress_is_a_few_plain_lines(corpus, lines):
    prepare(corpus, log=lines.append)
    assert lines[1] == "learning 280 tokens"
    assert lines[2].startswith("tokenizing: 60 documents, 0.0 MB, ")
    assert len(lines) == 4 and not any("\r" in line or "\n" in line for line in lines)


def test_rows_without_text_are_counted_and_said(corpus, lines):
    with Path(corpus.path).open("a", encoding="utf-8") as file:
        file.write('{"id": "null", "text": null}\n{"id": "blank", "text": " \\n"}\n')
    prepare(corpus, log=lines.append)
    assert lines.count("2 row(s) without text left out") == 1


def test_a_single_document_is_cut_and_the_manifest_says_so(tmp_path, lines):
    text = "".join(f"{i} {'word ' * (5 + i % 7)}\n\n" for i in range(2000))
    (tmp_path / "input.txt").write_text(text, encoding="utf-8")
    config = DataConfig(str(tmp_path / "input.txt"), vocab_size=280, validation_fraction=0.1, cache=str(tmp_path))
    shards = prepare(config, log=lines.append)
    train, validation = (shards.documents(split)["id"].tolist() for split in ("train", "validation"))
    assert [*train, *validation] == [f"input.txt#{i + 1}" for i in range(len(train + validation))]
    decoded = "".join(map(shards.tokenizer.decode, (shards.train, shards.validation)))
    assert decoded.replace(END_OF_TEXT, "") == text and decoded.count(END_OF_TEXT) == len(train + validation)
    assert shards.manifest["split_by"] == "place in the single document"
    assert f"one document, cut into parts: {len(train)} for train, {len(validation)} for validation" in lines


PREPARE = """
import sys, time
from pathlib import Path
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
path, cache, role, flags = sys.argv[1:]
flags, config = Path(flags), DataConfig(path=path, vocab_size=280, validation_fraction=0.3, cache=cache)
def wait(name):
    while not (flags / name).exists(): time.sleep(0.01)
def hold(line):
    lines.append(line)
    if len(lines) == 1:  # inside the lock, with the partial folder there
        (flags / "preparing").touch()
        wait("second")
        time.sleep(0.5)
lines = []
if role == "second":
    wait("preparing")
    (flags / "second").touch()
shards = prepare(config, hold if role == "first" else lines.append)
print(shards.digest, len(lines))
"""


def test_two_processes_at_once(corpus, tmp_path):
    first, second = (start(PREPARE, corpus.path, corpus.cache, role, tmp_path) for role in ("first", "second"))
    (one, n_one), (two, n_two) = (process.communicate(timeout=60)[0].split() for process in (first, second))
    assert one == two == prepare(corpus, log=fail_if_called).digest
    assert (n_one, n_two) == ("4", "0")  # the second waited and prepared nothing


def test_killed_process_leaves_nothing_that_matters(corpus, tmp_path):
    process = start(PREPARE, corpus.path, corpus.cache, "first", tmp_path)
    while not (tmp_path / "preparing").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    leftovers = [path for path in Path(corpus.cache).iterdir() if path.is_dir()]
    assert len(leftovers) == 1 and leftovers[0].suffix == ".partial"
    (leftovers[0] / "train.bin").write_bytes(b"half")
    shards = prepare(corpus, log=str)
    assert [path for path in Path(corpus.cache).iterdir() if path.is_dir()] == [shards.folder]


def test_import_is_light():
    program = (
        "import sys, sla_ablate.data.shards\n"
        "print([m for m in ('torch', 'pandas', 'pyarrow', 'tokenizers') if m in sys.modules])"
    )
    assert start(program).communicate()[0].strip() == "[]"


@pytest.mark.parametrize("tokenizer", ["bpe", "bytes"])
@pytest.mark.parametrize("cap", [16, 100, 1000, 10**6])
def test_a_capped_validation_takes_beginnings_up_to_the_cap(corpus, texts, tokenizer, cap):
    shards = prepare(dataclasses.replace(corpus, tokenizer=tokenizer), log=str)
    whole = shards.documents("validation").set_index("id")
    expected, left = {}, cap
    for name in sorted(
        whole.index, key=lambda name: hashlib.sha256(f"validation order of {name}".encode()).hexdigest()
    ):
        expected[name] = min(whole.tokens[name], cap // 16, left)
        left -= expected[name]
    scored = shards.scored(cap).set_index("id")
    assert scored.tokens.to_dict() == {name: n for name, n in expected.items() if n}
    assert scored.index.tolist() == [name for name in whole.index if expected[name]]  # in the order of the shard
    for name, row in scored.iterrows():
        assert row.start == whole.start[name]
        ids = shards.validation[row.start : row.start + row.tokens]
        if row.tokens == whole.tokens[name]:
            assert (row.bytes, row.words) == (whole.bytes[name], whole.words[name])
        else:  # the beginning, which may end within a character
            text = shards.tokenizer.decode(ids).removesuffix("\ufffd")
            assert texts[name].startswith(text)
            assert 0 <= row.bytes - len(text.encode()) < 4
            assert row.words - len(text.split()) in (0, 1)
    if cap == 10**6:
        assert scored.equals(whole)
    assert shards.scored(None).equals(whole.reset_index())


def test_the_scored_set_depends_on_ids_alone(corpus):
    before = prepare(corpus, log=str).scored(200)
    path = Path(corpus.path)
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    after = prepare(corpus, log=str).scored(200)
    columns = ["id", "tokens"]
    assert before[columns].sort_values("id").values.tolist() == after[columns].sort_values("id").values.tolist()
