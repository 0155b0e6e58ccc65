"""How Lightning trains on several devices, each with its process (see `ranks`): all that is taken from its inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from sla_ablate.config.schema import TrainerConfig
from sla_ablate.model.formats.weights import with_weights
from sla_ablate.model.gpt import GPT
from sla_ablate.training.module import LanguageModel


class Ranks(LightningEnvironment):
    """Tells Lightning that its processes are there, and that Slurm has no say in it.

    Args:
        rank: of this process.
    """

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning shall start none."""
        return True

    def local_rank(self) -> int:
        """Which of the devices is this process's."""
        return self._rank


def strategy(config: TrainerConfig) -> Strategy | str:
    """Lightning's strategy for the devices of a run."""
    if config.devices == 1:
        return "auto"
    if config.strategy == "fsdp":
        return FullySharded()
    return DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)


class FullySharded(DDPStrategy):
    """FSDP by torch's `fully_shard`: of every weight, gradient and moment a rank holds a share.

    Checkpoints are whole, in the format of a single device. Lightning's FSDPStrategy refuses a CPU; its
    ModelParallelStrategy numbers the moments by the model's order of parameters, not by the optimizer's.
    """

    def model_to_device(self) -> None:
        """Shard, layer by layer, so that no device ever holds more than one whole layer."""
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        module = self.lightning_module
        assert isinstance(module, LanguageModel)
        for part in (*module.model.h, module.model):
            fully_shard(part, mesh=mesh)
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Nothing is to be wrapped."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, on rank 0."""
        return _gathered(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimizer's whole state, on rank 0."""
        return _gathered(super().optimizer_state(optimizer))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this rank's share of every moment. (Weights are loaded before they are sharded.)"""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for parameter, moments in zip(parameters, state["state"].values(), strict=True):
                for name, value in moments.items():
                    if value.dim():  # all but the number of steps
                        moments[name] = distribute_tensor(
                            value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
                        )
        super().load_optimizer_state_dict(checkpoint)

    def teardown(self) -> None:
        """Leave the shares on their devices, where alone `whole` can put them together."""
        assert self.cluster_environment is not None
        assert self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()


def whole(model: GPT) -> GPT:
    """The model with whole weights on rank 0, a copy if it was sharded; to be called on every rank."""
    if not isinstance(model.wte.weight, DTensor):
        return model
    weights = _gathered(model.state_dict())
    if torch.distributed.get_rank():
        return model
    return with_weights(GPT, model.config, model.pattern, weights).to(model.device)


def _gathered(state: dict[str, Any]) -> dict[str, Any]:
    """A state with whole tensors in main memory on rank 0; empty ones elsewhere."""

    def gather(shared: DTensor) -> Tensor:
        tensor = shared.full_tensor()
        return tensor.new_empty(0) if torch.distributed.get_rank() else tensor.cpu()

    gathered: dict[str, Any] = apply_to_collection(state, DTensor, gather)
    return gathered
