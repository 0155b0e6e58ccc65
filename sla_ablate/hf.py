"""The Hugging Face classes, under the name by which exported folders import them."""

from sla_ablate.model.formats.hf import SLAConfig, SLAForCausalLM

__all__ = ["SLAConfig", "SLAForCausalLM"]
