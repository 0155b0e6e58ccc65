"""What is asked of the machine, of machines that are made up."""

from __future__ import annotations

import pytest

from sla_ablate.config import machine
from sla_ablate.config.machine import natural_precision, processor_name


@pytest.mark.parametrize(
    ("accelerator", "visible", "capabilities", "flags", "on_other_machines", "precision"),
    [
        ("cpu", "0", [9.0], {"avx512f"}, False, "fp32"),
        ("cpu", "0", [7.5], {"avx512f", "amx_tile"}, False, "bf16"),
        ("auto", "", [9.0], {"avx512f"}, False, "fp32"),  # a GPU that this process may not use
        ("auto", "", [], {"avx512_bf16"}, False, "bf16"),
        ("auto", "0", [8.0], set(), False, "bf16"),
        ("auto", "0,1", [9.0, 7.5], {"avx512_bf16"}, False, "fp32"),
        ("gpu", "0", [7.5], set(), False, "fp32"),
        ("auto", "", [], set(), True, "bf16"),  # from a login node without a GPU, and with an old one
        ("auto", "0", [7.5], set(), True, "bf16"),
        ("cpu", "0", [9.0], set(), True, "fp32"),
    ],
)
def test_auto_is_what_the_devices_multiply_natively(
    monkeypatch, accelerator, visible, capabilities, flags, on_other_machines, precision
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(machine, "_compute_capabilities", lambda: capabilities)
    monkeypatch.setattr(machine, "processor", lambda field: " ".join(flags))
    assert natural_precision(accelerator, on_other_machines) == precision


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model name": "AMD EPYC 9655 96-Core Processor", "model": "2"}, "AMD EPYC 9655"),
        ({"model name": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"}, "Intel Xeon Platinum 8481C"),
        (
            {"model name": "Intel(R) Xeon(R) CPU @ 2.20GHz", "cpu family": "6", "model": "79"},
            "Intel Xeon, family 6, model 79",
        ),
        ({"CPU part": "0xd40"}, "aarch64, part 0xd40"),
        ({}, "aarch64"),
    ],
)
def test_a_processor_has_a_short_plain_name(monkeypatch, fields, name):
    monkeypatch.setattr(machine, "processor", lambda field: fields.get(field, ""))
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    assert processor_name() == name
