"""What a run tells of the machine that it found."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

from sla_ablate.training import machine


def test_versions_are_told_in_a_checkout_that_is_not_installed(monkeypatch):
    installed = machine._versions("cpu")
    assert {"sla-ablate", "torch", "lightning", "hydra-core", "numpy"} <= installed.keys()

    def not_installed(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(machine, "requires", not_installed)
    assert machine._versions("cpu") == installed
