import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from sla_ablate.data import progress, tokenizers
from sla_ablate.data.config import DataConfig
from sla_ablate.data.tokenizers import (
    END_OF_TEXT,
    BytePairTokenizer,
    ByteTokenizer,
    load_tokenizer,
    token_dtype,
    tokenizer_of,
)
from sla_ablate.errors import InputError

TEXTS = ["the nation and the Union, the state of the nation", "of the people, by the people", "naïve año"] * 3
BPE = BytePairTokenizer.train(TEXTS, 290)
UNICODE = st.text() | st.lists(st.sampled_from([END_OF_TEXT, "the", " ", "\r\n", "\0", "é", "🙂", "|>"])).map("".join)


@pytest.mark.parametrize("tokenizer", [BPE, ByteTokenizer()], ids=["bpe", "bytes"])
@given(texts=st.lists(UNICODE, max_size=4))
def test_any_text_survives_the_round_trip(tokenizer, texts):
    encoded = tokenizer.encode_batch(texts)
    assert [tokenizer.decode(ids) for ids in encoded] == texts
    assert all((ids < tokenizer.end_of_text).all() for ids in encoded)
    assert all(ids.dtype == np.uint16 and ids.ndim == 1 for ids in encoded)


def test_bytes_are_ids():
    (ids,) = ByteTokenizer().encode_batch(["aé"])
    assert ids.tolist() == [97, 0xC3, 0xA9]
    assert (ByteTokenizer().vocab_size, ByteTokenizer().end_of_text) == (257, 256)
    assert ByteTokenizer().decode([97, 256, 0xC3]) == f"a{END_OF_TEXT}\ufffd"


def test_bpe_has_exactly_the_vocabulary_asked_for():
    assert BPE.vocab_size == 290
    assert BPE.end_of_text == 289
    assert BPE.decode([289]) == END_OF_TEXT
    used = {int(i) for ids in BPE.encode_batch(TEXTS) for i in ids}
    assert max(used) >= 256  # merges are used


def test_first_merge_is_the_most_frequent_pair():
    words = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["west"] * 9
    pairs = Counter(pair for word in words for pair in itertools.pairwise(word))
    (best, count), (_, second) = pairs.most_common(2)
    assert count > second  # no tie
    assert BytePairTokenizer.train(words, 258).decode([256]) == "".join(best)


def test_no_space_is_added_and_words_keep_their_leading_space():
    tokenizer = BytePairTokenizer.train(["a nation"] * 9, 263)  # all that the text allows
    with_space, without = tokenizer.encode_batch([" nation", "nation"])
    assert len(with_space) == 1  # one token, so the space was part of the word in training
    assert tokenizer.decode(without) == "nation"


def test_training_is_deterministic_across_processes_and_threads():
    program = (
        f"from sla_ablate.data.tokenizers import BytePairTokenizer as T\nprint(T.train({TEXTS!r}, 290).fingerprint)"
    )
    for threads in "1", "4":
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}
        output = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
        assert output.strip() == BPE.fingerprint


def test_vocabulary_limits():
    with pytest.raises(InputError, match=r"vocab_size 256 is too small.* at least 257"):
        BytePairTokenizer.train(TEXTS, 256)
    assert BytePairTokenizer.train(["abab"], 257).vocab_size == 257
    with pytest.raises(InputError, match=r"vocab_size 300 is more .* choose from 257 to 259"):
        BytePairTokenizer.train(["abab"], 300)  # "ab" and "abab" are all there is to merge
    assert BytePairTokenizer.train(["abab"], 259).vocab_size == 259


@pytest.mark.parametrize("word", ["ACGT" * 5000, "-" * 20_000, "\n" * 20_000, "é" * 10_000, "日本" * 4000])
def test_a_long_word_is_learnt_from_in_pieces(word):
    said = []
    piecewise = BytePairTokenizer.train([*TEXTS, word], 290, said.append)
    assert said[0] == "1 word(s) of more than 3,000 bytes: learnt from in pieces of that many"
    raw = word.encode()
    pieces = [raw[i : i + 3000].decode() for i in range(0, len(raw), 3000)]
    assert piecewise.fingerprint == BytePairTokenizer.train([*TEXTS, *pieces], 290).fingerprint
    assert piecewise.decode(piecewise.encode_batch([word])[0]) == word
    assert "FixedLength" not in piecewise.backend.to_str()


def test_learning_says_how_long_it_takes(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.001)
    said = []
    with progress.waiting("learning", said.append):
        while len(said) < 3:
            pass
    assert said[:2] == ["learning", "learning: 0 s"]


def test_words_of_usual_length_are_not_touched():
    def as_the_library_learns(texts):
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=289, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator(texts, trainer)
        return json.loads(backend.to_str())["model"]["merges"]

    for texts in TEXTS, [*TEXTS, "ab" * 1500, "https://a.b/" * 5000]:
        said = []
        tokenizer = BytePairTokenizer.train(texts, 290, said.append)
        assert json.loads(tokenizer.backend.to_str())["model"]["merges"] == as_the_library_learns(texts)
        assert said == ["learning 290 tokens"]


@pytest.mark.parametrize("tokenizer", [BPE, ByteTokenizer()], ids=["bpe", "bytes"])
def test_save_and_load(tmp_path, tokenizer):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    loaded = load_tokenizer(path)
    assert (loaded.vocab_size, loaded.fingerprint) == (tokenizer.vocab_size, tokenizer.fingerprint)
    text = f"the nation {END_OF_TEXT} año"
    assert loaded.encode_batch([text])[0].tolist() == tokenizer.encode_batch([text])[0].tolist()


def test_fingerprint_tells_vocabularies_apart():
    others = [BytePairTokenizer.train(TEXTS, 289), BytePairTokenizer.train(TEXTS[:3] + ["xyz"] * 9, 290)]
    prints = {tokenizer.fingerprint for tokenizer in [BPE, ByteTokenizer(), *others]}
    assert len(prints) == 4
    assert all(len(bytes.fromhex(print_)) == hashlib.sha256().digest_size for print_ in prints)


def test_ids_beyond_uint16():
    assert token_dtype(2**16) == np.uint16
    assert token_dtype(2**16 + 1) == np.uint32


def test_a_forked_child_encodes_without_warning_or_deadlock(capfd):
    BPE.encode_batch(TEXTS)  # starts the library's threads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own warning about forking a threaded process
        child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends a deadlock
        BPE.encode_batch(TEXTS)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "other"}', "[" * 100_000, b"\xff"])
def test_a_damaged_file_is_told(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"{path} is no tokenizer"):
        load_tokenizer(path)


def test_a_file_that_is_longer_than_any_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers, "MOST_BYTES", 1000)
    BPE.save(path := tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match=r"it has [\d,]+ bytes, more than 1,000"):
        load_tokenizer(path)


SPLIT = {"type": "Split", "pattern": {"Regex": "(a*)*b("}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.update(pre_tokenizer=SPLIT), "no byte-level BPE but .*Split"),
        (lambda stored: stored.update(normalizer={"type": "Lowercase"}), "no byte-level BPE but .*Lowercase"),
        (lambda stored: stored["model"].update(type="Unigram"), "no byte-level BPE but .*Unigram"),
        (lambda stored: stored["model"]["vocab"].update(a=10**9), "its ids are not 0 to 288"),
        (lambda stored: stored["model"]["vocab"].pop("a"), "its pieces are not those of all bytes"),
        (lambda stored: stored["model"]["vocab"].update({"日": 289}), "its pieces are not those of all bytes"),
        (lambda stored: stored["model"]["merges"].append(["qq", "zz"]), "out of vocabulary"),
        (lambda stored: stored["model"]["merges"].append(5), "TypeError"),
    ],
)
def test_a_file_of_somebody_elses_is_no_other_kind_of_tokenizer(tmp_path, change, message):
    stored = json.loads(BPE.backend.to_str())
    change(stored)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=message) as refused:
        load_tokenizer(path)
    assert "\n" not in str(refused.value)


def test_the_library_encodes_as_the_stored_file_says(tmp_path):
    BPE.save(path := tmp_path / "tokenizer.json")
    theirs, ours = Tokenizer.from_file(str(path)), load_tokenizer(path)
    assert json.loads(ours.backend.to_str()) == json.loads(path.read_text())
    for text in TEXTS:
        assert theirs.encode(text).ids == ours.encode_batch([text])[0].tolist()


@pytest.mark.parametrize("tokenizer", [BPE, ByteTokenizer()], ids=["bpe", "bytes"])
def test_tokens_have_their_bytes(tokenizer):
    text = "naïve 🙂 the\tUnion\r\n\0日本" + TEXTS[0]
    (ids,) = tokenizer.encode_batch([text])
    assert b"".join(tokenizer.token_bytes[i] for i in ids) == text.encode()
    assert len(tokenizer.token_bytes) == tokenizer.vocab_size
    assert tokenizer.token_bytes[tokenizer.end_of_text] == b""


def byte_level():
    """As GPT-2's, with a token before every text that its file asks for, and a limit of five tokens."""
    theirs = Tokenizer.from_str(BytePairTokenizer.train(TEXTS, 290).backend.to_str())
    theirs.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, theirs.token_to_id(END_OF_TEXT))]
    )
    theirs.enable_truncation(5)
    theirs.enable_padding()
    return theirs


def like_llama():
    """BPE of words that begin with a mark, and bytes for what is not in its vocabulary."""
    theirs = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    theirs.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    theirs.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    theirs.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False))
    return theirs


def like_bert():
    """Words cut into pieces, in lower case, what is not known as one token."""
    theirs = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    theirs.normalizer = normalizers.BertNormalizer()
    theirs.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    theirs.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=80, special_tokens=special, show_progress=False)
    theirs.train_from_iterator(TEXTS, trainer)
    return theirs


def like_t5():
    """The likeliest pieces, of words that begin with a mark."""
    theirs = Tokenizer(models.Unigram())
    theirs.normalizer = normalizers.NFKC()
    theirs.pre_tokenizer, theirs.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<unk>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    theirs.train_from_iterator(TEXTS, trainer)
    return theirs


KINDS = {make.__name__: make() for make in (byte_level, like_llama, like_bert, like_t5)}
ENDS = {"byte_level": END_OF_TEXT, "like_llama": "</s>", "like_bert": "[SEP]", "like_t5": "</s>"}


@pytest.fixture(scope="module", params=KINDS)
def own(request, tmp_path_factory):
    """A tokenizer of the library's and ours of its file."""
    theirs = KINDS[request.param]
    path = tmp_path_factory.mktemp("own") / "my tokenizer.json"
    theirs.save(str(path))
    ours = tokenizer_of(DataConfig(tokenizer=str(path)))
    assert ours.end_of_text_token == ENDS[request.param]
    assert ours.end_of_text == theirs.token_to_id(ENDS[request.param])
    return theirs, ours


@given(texts=st.lists(st.text(), max_size=3))
def test_an_own_tokenizer_gives_the_librarys_ids(own, texts):
    theirs, ours = own
    whole = Tokenizer.from_str(theirs.to_str())
    whole.no_truncation()
    whole.no_padding()
    whole.encode_special_tokens = True
    encoded = ours.encode_batch(texts)
    expected = [whole.encode(text, add_special_tokens=False).ids for text in texts]
    assert [ids.tolist() for ids in encoded] == expected
    assert [ours.decode(ids) for ids in encoded] == [whole.decode(ids, skip_special_tokens=False) for ids in expected]


def test_an_own_tokenizer_is_kept_as_it_came(own, tmp_path):
    theirs, ours = own
    ours.save(tmp_path / "tokenizer.json")
    assert (tmp_path / "tokenizer.json").read_text() == theirs.to_str(pretty=True)
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert (loaded.fingerprint, loaded.end_of_text) == (ours.fingerprint, ours.end_of_text)
    text = f"the nation {ours.end_of_text_token} año"  # which is text there, and ends nothing
    (ids,) = loaded.encode_batch([text])
    assert (ours.end_of_text in ids) == ('"Unigram"' in theirs.to_str())
    text = " ".join(TEXTS[:2])
    pieces = b"".join(loaded.token_bytes[i] for i in loaded.encode_batch([text])[0]).decode()
    expected = text.lower().replace(",", " ,") if ours.end_of_text_token == "[SEP]" else text
    assert pieces.split() == expected.split()


def test_the_token_that_ends_a_document(tmp_path):
    theirs = Tokenizer(models.WordLevel({"a": 0, "b": 1, "stop": 9}, unk_token="a"))  # with a gap in its ids
    theirs.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match=r"does not say which token ends a document; add data.end_of_text"):
        tokenizer_of(DataConfig(tokenizer=str(tmp_path)))
    with pytest.raises(InputError, match=r"data.end_of_text 'stopp' is unknown; .*did you mean 'stop'"):
        tokenizer_of(DataConfig(tokenizer=str(tmp_path), end_of_text="stopp"))
    ours = tokenizer_of(DataConfig(tokenizer=str(tmp_path), end_of_text="stop"))
    assert (ours.end_of_text, ours.vocab_size, len(ours.token_bytes)) == (9, 10, 10)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "b", "lstrip": False}}))
    assert tokenizer_of(DataConfig(tokenizer=str(tmp_path))).end_of_text == 1
    prints = {tokenizer_of(DataConfig(tokenizer=str(tmp_path), end_of_text=end)).fingerprint for end in ("b", "stop")}
    assert len(prints) == 2
    with pytest.raises(InputError, match="end_of_text is of use to a tokenizer of your own, not to bpe"):
        tokenizer_of(DataConfig(end_of_text="stop"))


@pytest.mark.parametrize("text", ["{", "[]", '{"model": {"vocab": {}}}', "é"])
def test_what_is_no_tokenizer_is_told(tmp_path, text):
    (tmp_path / "mine.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"mine.json (is no tokenizer|does not say)"):
        tokenizer_of(DataConfig(tokenizer=str(tmp_path / "mine.json")))
    with pytest.raises(InputError, match=r"there is no .*tokenizer.json"):
        tokenizer_of(DataConfig(tokenizer=str(tmp_path)))
