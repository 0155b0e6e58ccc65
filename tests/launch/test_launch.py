"""What the launching process keeps of each run."""

from __future__ import annotations

from sla_ablate.config.compose import compose
from sla_ablate.launch import launch


def test_no_configuration_is_kept_of_a_job_that_has_ended(tmp_path, monkeypatch):
    carried_out, jobs = [], []

    class Spy(launch._Callbacks):
        def on_job_end(self, config, job_return, **more):
            assert job_return.cfg is not None
            super().on_job_end(config, job_return, **more)
            jobs.append(job_return)

    monkeypatch.setattr(launch, "_Callbacks", Spy)
    monkeypatch.setattr(launch, "carry_out", carried_out.append)
    hydra = compose([f"output={tmp_path}", "hydra/launcher=basic"], multirun=True).hydra
    folders = [tmp_path / name for name in ("a", "b")]
    launch._launch(folders, hydra)
    assert carried_out == folders
    assert [(job.cfg, job.hydra_cfg, job.return_value) for job in jobs] == [(None, None, None)] * 2
