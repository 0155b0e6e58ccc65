"""What determines a result stays as it is: data order, initial weights, model, optimizer, schedule, validation.

Each pattern's validation loss after a few steps of the real training path is held to 1e-9 nats per token. That is in
float64, in which processors differ by 1e-15; in float32, where already the initial weights differ in their last digit,
the baseline's is held to 1e-5. Runs that were measured are compared with those of later code, so a change here makes
them worthless. One that is meant raises `SCHEMA` in `sla_ablate/runs/identity.py`; the numbers are written anew by
`python tests/training/test_losses_stay.py`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import torch

from sla_ablate.config.compose import choices, compose
from sla_ablate.data.shards import prepare
from sla_ablate.processes.signals import Interruption
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.ledger import enter
from sla_ablate.runs.record import read_record
from sla_ablate.text.telling import Silence
from sla_ablate.training.attempt import attempt

LOSSES = Path(__file__).with_name("losses.json")
PATTERNS = choices("pattern")
OVERRIDES = [
    "model.n_layer=6", "model.n_head=4", "model.n_embd=32", "model.block_size=16", "data.tokenizer=bytes",
    "data.validation_fraction=0.2", "optim.steps=8", "optim.warmup_steps=2", "optim.batch_size=4", "optim.lr=1e-2",
    "trainer.accelerator=cpu", "trainer.precision=fp32", "seed=5",
]  # fmt: skip
NEEDED = {"tables": ["pattern.key_source=[[0,0,0,0],[0,1,0,1],[2,1,0,2],[3,3,1,0],[0,4,2,4],[1,3,5,5]]"]}


def validation_loss(pattern: str, folder: Path, dtype: torch.dtype = torch.float64) -> float:
    """Nats per token of a tiny run, carried out in this process as a worker would."""
    corpus = folder / "corpus.jsonl"
    words = "of the people by law shall be kept in peace and each state".split()
    texts = (" ".join(words[i * j % 13] for j in range(1, 60 + i)) for i in range(2, 42))
    corpus.write_text("".join(json.dumps({"id": f"document {i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    paths = [f"data.path={corpus}", f"data.cache={folder / 'cache'}", f"output={folder / 'runs'}"]
    (config,) = compose([f"pattern={pattern}", *NEEDED.get(pattern, []), *OVERRIDES, *paths]).configs
    digest = prepare(config.data, log=str).digest
    enter(config, digest)
    run = run_folder(config, identify(config, digest))
    torch.set_default_dtype(dtype)
    try:
        attempt(run, Interruption(), Silence("run"))
    finally:
        torch.set_default_dtype(torch.float32)
    validation = read_record(run)["results"]["validation"]
    return sum(validation["nll"]) / sum(validation["tokens"])


@pytest.fixture(scope="module")
def losses():
    return json.loads(LOSSES.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_validation_loss_of_every_pattern_stays(losses, pattern, tmp_path):
    assert validation_loss(pattern, tmp_path) == pytest.approx(losses["float64"][pattern], rel=0, abs=1e-9)


def test_the_validation_loss_in_float32_stays(losses, tmp_path):
    loss = validation_loss("baseline", tmp_path, torch.float32)
    assert loss == pytest.approx(losses["float32"]["baseline"], rel=0, abs=1e-5)


def test_the_losses_tell_patterns_from_each_other(losses):
    values = losses["float64"].values()
    assert list(losses["float64"]) == PATTERNS
    assert min(abs(a - b) for a in values for b in values if a != b) > 1e-6


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for each in (*PATTERNS, "float32"):
            (Path(temporary) / each).mkdir()
        in_float64 = {pattern: validation_loss(pattern, Path(temporary) / pattern) for pattern in PATTERNS}
        in_float32 = {"baseline": validation_loss("baseline", Path(temporary) / "float32", torch.float32)}
    LOSSES.write_text(json.dumps({"float64": in_float64, "float32": in_float32}, indent=2) + "\n")
