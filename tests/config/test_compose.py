from __future__ import annotations

import pytest

from sla_ablate.config import compose as module
from sla_ablate.config.compose import compose


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=demo", "seed=0,1", "optim.lr=1e-3,2e-3", "data=sotu,sotu_bytes", "trainer.threads=2"],
        ["pattern=sla,cla", "scale=smoke", "pattern.heads=1,2", "++optim.betas=[0.8,0.9],[0.9,0.99]"],
        ["model=micro,nano", "pattern=sla", "optim.steps=${seed}", "seed=70,80", "hydra/launcher=local"],
    ],
)
def test_the_cells_of_a_multirun_are_those_that_hydra_composes(overrides, monkeypatch):
    ours = compose(overrides, multirun=True).configs
    assert len(ours) >= 4
    monkeypatch.setattr(module, "_cells", lambda compose, batch: [module._typed(compose(c)) for c in batch])
    assert ours == compose(overrides, multirun=True).configs
