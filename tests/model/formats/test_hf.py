"""A GPT behind Hugging Face's interface: same function, same tokens, same figures in the field's tools."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import re
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from made_up_records import ending, identity
from random_models import model_of

from sla_ablate import SkipPattern
from sla_ablate.commands import main
from sla_ablate.config.schema import RunConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.corpora import read_documents
from sla_ablate.data.shards import prepare
from sla_ablate.data.splits import split_of
from sla_ablate.data.tokenizers import END_OF_TEXT, BytePairTokenizer, ByteTokenizer
from sla_ablate.errors import InputError
from sla_ablate.runs.identity import SCHEMA
from sla_ablate.runs.record import write_record
from sla_ablate.runs.trained import save_model
from sla_ablate.training.evaluation import document_nll

pytest.importorskip("transformers")

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sla_ablate.model.formats.hf import SLAForCausalLM
from sla_ablate.runs.export import export, fast_tokenizer

TASKS = Path(__file__).parents[3] / "experiments" / "lm_eval"
TEXTS = [
    "The state of the Union\r\n\tis  strong. ",
    "año naïve 日本語 🙂\x00\x7f\xad",
    f"not {END_OF_TEXT} the end",
    "",
]
VOCAB_SIZE = 300

MODELS = {
    "baseline": {"pattern": SkipPattern.baseline(3, 2)},
    "sla": {"pattern": SkipPattern.skip_layer(4, 3, distance=2, heads=2)},
    "yoco without biases": {"pattern": SkipPattern.yoco(4, 2), "bias": False},
    "keys and values apart, rotary": {
        "pattern": SkipPattern.from_tables([[0, 0], [1, 1], [2, 0]], [[0, 0], [0, 1], [0, 0]]),
        "positions": "rotary",
    },
}


@pytest.fixture(params=MODELS)
def gpt(request):
    return model_of(**MODELS[request.param], vocab_size=VOCAB_SIZE)


@pytest.fixture
def tokens():
    return torch.randint(VOCAB_SIZE, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def complaints(caplog):
    """What transformers logs, which does not propagate its messages."""
    logging.getLogger("transformers").addHandler(caplog.handler)
    yield caplog
    logging.getLogger("transformers").removeHandler(caplog.handler)


def test_round_trip_through_the_auto_classes(gpt, tokens, tmp_path, complaints):
    model = SLAForCausalLM.from_gpt(gpt)
    assert torch.equal(model(tokens).logits, gpt(tokens))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(loaded, SLAForCausalLM)
    assert complaints.records == []
    assert (loaded.model.config, loaded.model.pattern) == (gpt.config, gpt.pattern)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(loaded.get_parameter(name), p) for name, p in model.named_parameters())
    torch.testing.assert_close(loaded(tokens).logits, gpt(tokens))  # not equal: other alignment of the memory

    config = AutoConfig.from_pretrained(tmp_path)
    shape = config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.max_position_embeddings
    assert shape == (gpt.config.n_embd, gpt.config.n_layer, gpt.config.n_head, 16)
    assert AutoModelForCausalLM.from_config(config).model.pattern == gpt.pattern
    assert AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.slow
def test_a_folder_saved_again_is_loaded_by_a_process_that_trusts_it(tmp_path):
    """With the class of this package, of which no folder holds a copy; one after the other, the first made by us."""
    SLAForCausalLM.from_gpt(model_of(**MODELS["sla"], vocab_size=VOCAB_SIZE)).save_pretrained(tmp_path / "0")
    code = """if True:
        import sys
        from transformers import AutoModelForCausalLM
        for source, target in ("01", "12"):
            assert "sla_ablate.hf" not in sys.modules or source != "0"
            model = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=True)
            assert type(model).__module__ == "sla_ablate.model.formats.hf"
            model.save_pretrained(target)
    """
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in "012"]
    assert files[0] == files[1] == files[2]
    AutoModelForCausalLM.from_pretrained(tmp_path / "1").save_pretrained(tmp_path / "3")
    assert (tmp_path / "3" / "modeling_sla.py").read_text() == (tmp_path / "0" / "modeling_sla.py").read_text()


def test_a_missing_weight_is_initialised_and_told(gpt, tmp_path, complaints):
    model = SLAForCausalLM.from_gpt(gpt)
    state = model.state_dict()
    del state["model.h.0.attn.c_proj.weight"]
    model.save_pretrained(tmp_path, state_dict=state)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "model.h.0.attn.c_proj.weight" in complaints.text
    expected = 0.02 / (2 * gpt.config.n_layer) ** 0.5
    assert loaded.model.h[0].attn.c_proj.weight.std().item() == pytest.approx(expected, rel=0.3)
    assert torch.equal(loaded.model.h[1].attn.c_proj.weight, gpt.h[1].attn.c_proj.weight)


@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_is_ours(gpt, tokens, use_cache):
    model = SLAForCausalLM.from_gpt(gpt)
    ours = gpt.generate(tokens, 7, temperature=0)
    assert torch.equal(model.generate(tokens, max_new_tokens=7, do_sample=False, use_cache=use_cache), ours)
    beams = model.generate(tokens, max_new_tokens=4, num_beams=3, do_sample=False, use_cache=use_cache)

    def probability(sequences):
        return -gpt.nll(sequences[:, :-1], sequences[:, 1:])[:, 8:].sum(1)

    assert (probability(beams) >= probability(ours[:, :13]) - 1e-9).all()

    # Prompts of several lengths, padded on the left.
    short = tokens[1, :4]
    padded = torch.stack([tokens[0], F.pad(short, (5, 0))])
    mask = torch.stack([torch.ones(9), F.pad(torch.ones(4), (5, 0))]).long()
    both = model.generate(padded, attention_mask=mask, max_new_tokens=7, do_sample=False, use_cache=use_cache)
    expected = gpt.generate([tokens[0], short], 7, temperature=0)
    assert torch.equal(both[0], expected[0])
    assert torch.equal(both[1, 5:], expected[1])


@pytest.mark.parametrize(("left", "right"), [(3, 0), (0, 2), (3, 2)])
def test_padding_changes_nothing(gpt, tokens, left, right):
    model = SLAForCausalLM.from_gpt(gpt)
    T = left + 9 + right
    padded = torch.full((2, T), 7)
    mask = torch.zeros(2, T, dtype=torch.long)
    padded[0], mask[0] = torch.arange(T), 1
    padded[1, left : left + 9], mask[1, left : left + 9] = tokens[1], 1
    logits = model(padded, attention_mask=mask).logits
    torch.testing.assert_close(logits[0], gpt(padded[:1])[0])
    torch.testing.assert_close(logits[1, left : left + 9], gpt(tokens[1:])[0])
    torch.testing.assert_close(model(padded, mask, logits_to_keep=2).logits, logits[:, -2:])

    # So are the gradients.
    logits[1, left : left + 9].logsumexp(-1).sum().backward()
    padded_gradient = gpt.wte.weight.grad.clone()
    gpt.zero_grad()
    gpt(tokens[1:])[0].logsumexp(-1).sum().backward()
    torch.testing.assert_close(padded_gradient, gpt.wte.weight.grad)


def test_rows_that_fit_may_be_padded_to_more_than_the_block_size(gpt, tokens):
    model = SLAForCausalLM.from_gpt(gpt)
    padded, mask = torch.full((3, 30), 7), torch.zeros(3, 30, dtype=torch.long)
    for row, start in enumerate((21, 4)):  # the third is padding alone
        padded[row, start : start + 9], mask[row, start : start + 9] = tokens[row], 1
    logits = model(padded, attention_mask=mask).logits
    assert logits.shape == (3, 30, VOCAB_SIZE)
    torch.testing.assert_close(torch.stack([logits[0, 21:], logits[1, 4:13]]), gpt(tokens))

    left, left_mask = F.pad(tokens, (12, 0)), F.pad(torch.ones_like(tokens), (12, 0))
    out = model.generate(left, attention_mask=left_mask, max_new_tokens=7, do_sample=False)
    assert torch.equal(out[:, 12:], gpt.generate(tokens, 7, temperature=0))
    with pytest.raises(InputError, match="21 tokens do not fit into the block size of 16"):
        model(left)


def test_what_tools_pass_to_any_model_is_taken(gpt, tokens):
    model = SLAForCausalLM.from_gpt(gpt)
    nothing = {
        "use_cache": False,
        "output_attentions": False,
        "output_hidden_states": None,
        "past_key_values": None,
        "inputs_embeds": None,
        "token_type_ids": None,
        "return_dict": None,
    }
    assert torch.equal(model(input_ids=tokens, **nothing).logits, gpt(tokens))
    assert torch.equal(model(tokens, position_ids=torch.arange(9)[None]).logits, gpt(tokens))
    (logits,) = model(tokens, return_dict=False)
    assert torch.equal(logits, gpt(tokens))

    mask = torch.ones_like(tokens)
    mask[1, :4] = 0
    positions = (mask.cumsum(1) - 1).masked_fill(mask == 0, 1)  # any number where there is padding
    torch.testing.assert_close(model(tokens, mask, position_ids=positions).logits[1, 4:], gpt(tokens[1:, 4:])[0])
    with pytest.raises(InputError, match="position_ids are not possible but for 0, 1"):
        model(tokens, mask, position_ids=torch.arange(9)[None])
    with pytest.raises(InputError, match="position_ids"):
        model(tokens, position_ids=torch.arange(1, 10)[None])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"use_cache": True}, "use_cache=True is not possible with SLAForCausalLM; leave it out"),
        ({"output_attentions": True}, "output_attentions=True"),
        ({"output_hidden_states": True}, "output_hidden_states=True"),
        ({"past_key_values": ()}, "past_key_values is not possible"),
        ({"inputs_embeds": torch.zeros(1, 9, 6)}, "inputs_embeds is not possible"),
    ],
)
def test_what_there_is_not_is_refused(tokens, option, message):
    model = SLAForCausalLM.from_gpt(model_of(**MODELS["baseline"], vocab_size=VOCAB_SIZE))
    with pytest.raises(InputError, match=message):
        model(tokens, **option)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"output_attentions": True}, "output_attentions=True is not possible"),
        ({"output_hidden_states": True}, "output_hidden_states=True is not possible"),
        ({"output_attentions": True, "num_beams": 2}, "output_attentions=True is not possible"),
        ({"position_ids": torch.arange(1, 10)[None]}, "position_ids are not possible"),
        ({"prompt_lookup_num_tokens": 2}, "assisted generation is not supported"),
    ],
)
def test_what_there_is_not_is_refused_by_generate_too(tokens, option, message):
    model = SLAForCausalLM.from_gpt(model_of(**MODELS["baseline"], vocab_size=VOCAB_SIZE))
    with pytest.raises(ValueError, match=message):
        model.generate(tokens[:1], max_new_tokens=2, do_sample=False, return_dict_in_generate=True, **option)


@pytest.mark.parametrize(("size", "resized"), [(VOCAB_SIZE + 5, {}), (VOCAB_SIZE - 5, {}),
                                              (VOCAB_SIZE + 5, {"mean_resizing": False})])  # fmt: skip
def test_a_resized_vocabulary_is_saved_and_loaded(gpt, tokens, size, resized, tmp_path):
    kept = min(size, VOCAB_SIZE)
    tokens = tokens % kept
    expected = gpt(tokens)[..., :kept]
    torch.manual_seed(0)
    model = SLAForCausalLM.from_gpt(gpt)
    model.resize_token_embeddings(size, **resized)
    assert (model.config.vocab_size, model.model.config.vocab_size) == (size, size)
    logits = model(tokens, labels=tokens).logits
    assert logits.shape[-1] == size
    torch.testing.assert_close(logits[..., :kept], expected)
    if not resized.get("mean_resizing", True):
        assert model.model.wte.weight[kept:].std().item() == pytest.approx(0.02, rel=0.3)

    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.model.config == model.model.config
    torch.testing.assert_close(loaded(tokens).logits, logits)
    assert model.generate(tokens, max_new_tokens=2).shape == (2, 11)
    with pytest.raises(InputError, match=r"Embedding\(9, 3\) is no embedding \d+ wide"):
        model.set_input_embeddings(torch.nn.Embedding(9, 3))


def test_what_cannot_be_read_is_told(tokens):
    model = SLAForCausalLM.from_gpt(model_of(**MODELS["baseline"], vocab_size=VOCAB_SIZE))
    mask = torch.ones_like(tokens)
    mask[1, 4] = 0
    with pytest.raises(InputError, match="zeros between ones"):
        model(tokens, attention_mask=mask)
    with pytest.raises(InputError, match="17 tokens do not fit into the block size of 16"):
        model.generate(tokens, max_new_tokens=9, do_sample=False)


def test_loss_is_of_the_next_token(gpt, tokens):
    labels = tokens.clone()
    labels[0, :4] = -100
    loss = SLAForCausalLM.from_gpt(gpt)(tokens, labels=labels).loss
    expected = F.cross_entropy(gpt(tokens)[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)  # transformers computes it in float32
    # As `Trainer` has it, for the mean over all batches of a step.
    of_all = SLAForCausalLM.from_gpt(gpt)(tokens, labels=labels, num_items_in_batch=26).loss
    assert of_all.item() == pytest.approx(expected.item() * 13 / 26, rel=1e-6)


@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), BytePairTokenizer.train([*TEXTS, "the state of the Union"] * 9, 290)]
)
def test_tokenizers_encode_alike(tokenizer, tmp_path):
    fast_tokenizer(tokenizer).save_pretrained(tmp_path)
    for theirs in (fast_tokenizer(tokenizer), AutoTokenizer.from_pretrained(tmp_path)):
        assert theirs(TEXTS)["input_ids"] == [ids.tolist() for ids in tokenizer.encode_batch(TEXTS)]
        assert [theirs.decode(theirs.encode(text)) for text in TEXTS] == TEXTS
        assert theirs.bos_token_id == theirs.eos_token_id == theirs.pad_token_id == tokenizer.end_of_text
        assert theirs.decode([tokenizer.end_of_text]) == END_OF_TEXT
        assert (len(theirs), theirs.unk_token) == (tokenizer.vocab_size, None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Configuration of the first speeches of the embedded corpus, with some of them in the validation split."""
    folder = tmp_path_factory.mktemp("speeches")
    documents = itertools.islice(read_documents(DataConfig()), 16)
    lines = (json.dumps({"id": document.id, "text": document.text}) for document in documents)
    (folder / "speeches.jsonl").write_text("\n".join(lines))
    return DataConfig(str(folder / "speeches.jsonl"), vocab_size=512, validation_fraction=0.3, cache=str(folder))


@pytest.fixture(scope="module")
def shards(corpus):
    return prepare(corpus, log=lambda line: None)


def bits_per_byte(model, shards, rolling):
    result = document_nll(model, shards, rolling=rolling)
    return sum(result["nll"]) / math.log(2) / sum(result["bytes"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [("sla", torch.float64), ("keys and values apart, rotary", torch.float32)])
def test_lm_evaluation_harness_agrees(name, dtype, corpus, shards, tmp_path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval")
    import datasets
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    texts = [d.text for d in read_documents(corpus) if split_of(d.id, corpus.validation_fraction) == "validation"]
    Path("validation.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    gpt = model_of(**MODELS[name], block_size=48, vocab_size=512).to(dtype)
    harness = HFLM(SLAForCausalLM.from_gpt(gpt), tokenizer=fast_tokenizer(shards.tokenizer), batch_size=8)
    tasks = TaskManager(include_path=str(TASKS), include_defaults=False)
    found = lm_eval.simple_evaluate(harness, tasks=["sla_validation"], task_manager=tasks, bootstrap_iters=0)
    found = found["results"]["sla_validation"]
    ours = bits_per_byte(gpt, shards, rolling=True)
    assert found["bits_per_byte,none"] == pytest.approx(ours, abs=1e-6)
    assert found["byte_perplexity,none"] == pytest.approx(2**ours, rel=1e-6)
    assert abs(ours - bits_per_byte(gpt, shards, rolling=False)) > 1e-5  # the windows matter


def finished_run(run, gpt, shards, corpus):
    gpt.save(run / "checkpoints")
    shards.tokenizer.save(run / "checkpoints" / "tokenizer.json")
    write_record(run, {"schema": SCHEMA, **identity(), **ending()})
    (run / "config.yaml").write_text(yaml.safe_dump(asdict(RunConfig(data=corpus))))
    return run


@pytest.mark.slow
def test_the_readme_of_lm_eval(corpus, shards, tmp_path, monkeypatch, capsys):
    """Its commands, on a run of random weights."""
    pytest.importorskip("lm_eval")
    import datasets
    from lm_eval.__main__ import cli_evaluate

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    gpt = model_of(**MODELS["sla"], block_size=48, vocab_size=512).float()
    run = finished_run(Path("runs/demo/RUN"), gpt, shards, corpus)

    with pytest.raises(SystemExit, match="0"):
        main(["export", str(run), "exported"])
    assert capsys.readouterr().out == "exported\n"
    model = AutoModelForCausalLM.from_pretrained("exported")
    assert model.generation_config.eos_token_id == 511
    tokens = torch.arange(9)[None]
    torch.testing.assert_close(model(tokens).logits, gpt(tokens))

    readme = (TASKS / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    exec(code, names)
    (command,) = re.findall(r" lm_eval (run .*?)\n\n", readme.replace("\\\n", ""), re.DOTALL)
    arguments = command.replace("experiments/lm_eval", str(TASKS)).split()
    monkeypatch.setattr(sys, "argv", ["lm_eval", *arguments])
    cli_evaluate()
    (file,) = Path("results").rglob("*.json")
    found = json.loads(file.read_text())["results"]["sla_validation"]
    assert found["bits_per_byte,none"] == pytest.approx(names["bits_per_byte"], abs=1e-6)
    assert names["bits_per_byte"] == bits_per_byte(gpt, shards, rolling=True)


def test_an_export_replaces_nothing_but_an_export(corpus, shards, tmp_path):
    gpt = model_of(**MODELS["sla"], block_size=48, vocab_size=512).float()
    run, other = (finished_run(tmp_path / name, gpt, shards, corpus) for name in ("run", "other"))
    (tmp_path / "link").symlink_to(run / "checkpoints")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out in (run / "checkpoints", tmp_path / "link", run / "checkpoints" / "new"):
        with pytest.raises(InputError, match=r"is where the model of .* is read from; choose another folder"):
            export(run, out, force=True)
    for out in (run, other / "checkpoints"):
        with pytest.raises(InputError, match=r"holds something else: .* add --force"):
            export(run, out)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    out = tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # as on a full disk
    try:
        with pytest.raises(InputError, match=f"{out} cannot be written: .*File too large"):
            export(run, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(out.iterdir()) == []
    (out / ".git").mkdir()
    for _ in range(2):
        export(run, out)
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    cut = tokenizer("the state of the Union " * 40, truncation=True, return_tensors="pt")
    assert cut["input_ids"].shape == (1, 48)
    assert model(**cut).logits.shape[1] == 48
    export(run, other / "checkpoints", force=True)
    assert AutoModelForCausalLM.from_pretrained(other / "checkpoints").config.model_type == "sla-gpt"


def test_an_own_tokenizer_is_exported_as_it_came(corpus, tmp_path):
    theirs = BytePairTokenizer.train(["the state of the Union"] * 9, 262).backend
    theirs.add_special_tokens(["<stop>"])
    theirs.enable_truncation(4)
    mine = PreTrainedTokenizerFast(tokenizer_object=theirs, eos_token="<stop>", model_max_length=7)
    mine.save_pretrained(tmp_path / "mine")
    shards = prepare(replace(corpus, tokenizer=str(tmp_path / "mine")), log=str)
    assert shards.folder.name.startswith("speeches-own-")
    gpt = model_of(**MODELS["sla"], block_size=48, vocab_size=shards.tokenizer.vocab_size).float()
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    save_model(gpt, shards, run / "checkpoints")
    write_record(run, {"schema": SCHEMA, **identity(), **ending()})
    export(run, tmp_path / "out")
    name = "tokenizer.json"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "mine" / name).read_bytes()
    exported, model = (auto.from_pretrained(tmp_path / "out") for auto in (AutoTokenizer, AutoModelForCausalLM))
    assert exported.eos_token_id == model.generation_config.eos_token_id == shards.tokenizer.end_of_text == 262
    assert exported.model_max_length == 48
    (document, *_) = read_documents(corpus)
    ids = exported(document.text, add_special_tokens=False)["input_ids"]
    assert ids == shards.tokenizer.encode_batch([document.text])[0].tolist()


def test_export_of_no_run_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(tmp_path), str(tmp_path / "out")])
    assert capsys.readouterr().err == f"sla-ablate: {tmp_path} is not a run's folder: it holds no record.json\n"
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_ended_midway_leaves_no_folder_that_looks_whole(corpus, shards, tmp_path, monkeypatch):
    gpts = [model_of(**MODELS[name], block_size=48, vocab_size=512).float() for name in ("baseline", "sla")]
    old, new = (finished_run(tmp_path / str(i), gpt, shards, corpus) for i, gpt in enumerate(gpts))
    out, tokens = tmp_path / "out", torch.arange(9)[None]

    def holds(gpt) -> bool:
        return torch.allclose(AutoModelForCausalLM.from_pretrained(out)(tokens).logits, gpt(tokens), atol=1e-5)

    export(old, out)
    assert holds(gpts[0])
    files = sorted(path.name for path in out.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedTokenizerFast, "save_pretrained", lambda *_: 1 / 0)
        with pytest.raises(InputError, match=r"out cannot be written: division by zero"):
            export(new, out)
    assert holds(gpts[0])

    replace = Path.replace
    for replaced in range(len(files)):
        moves = iter(range(replaced))

        def until_ended(path, target, moves=moves):
            if next(moves, None) is None:
                raise KeyboardInterrupt
            return replace(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", until_ended)
            with pytest.raises(KeyboardInterrupt):
                export(new, out)
        assert not (out / "config.json").exists()
    export(new, out)
    assert holds(gpts[1])
    assert sorted(path.name for path in out.iterdir()) == files
