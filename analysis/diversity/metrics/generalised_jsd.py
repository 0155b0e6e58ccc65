"""The headline number of a layer: how much its heads differ, and how much of it is own against skip heads."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from analysis.diversity.maps import Tile, entropy_terms
from analysis.diversity.metric import Setting, TileMetric


class GeneralisedJSD(TileMetric):
    """⟨H(Σ_h p_h / H) - Σ_h H(p_h) / H⟩ in nats, of [0, ln H] (Lin 1991).

    By the chain rule it is `between` the group means of own and skip heads plus `within`, the mean of the groups'
    own values weighted by their shares of the heads. `own_heads` and `skip_heads` are those values, NaN for none.
    """

    shapes: ClassVar = {
        "generalised_jsd": "L",
        "generalised_jsd_between": "L",
        "generalised_jsd_own_heads": "L",
        "generalised_jsd_skip_heads": "L",
    }

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        members = torch.stack([~self.skip, self.skip], 1).double()  # [L, 2, H]
        self.shares = members.mean(2)
        """Numbers of own and of skip heads in each layer, [L, 2]."""
        self.weights = members / members.sum(2, keepdim=True)
        """Weights of the heads in the mean of each group, [L, 2, H]; NaN for a group without heads."""

    def sums(self, tile: Tile) -> dict[str, Tensor]:
        """Differences of entropies that each add up over keys."""
        layer, device = tile.block.maps.layer, tile.p.device
        shares, weights = self.shares[layer].to(device), self.weights[layer].to(device)
        entropies = tile.entropy.sum(1)  # [H]
        of_all = entropy_terms(tile.mean).sum()
        if self.skip[layer].any() and not self.skip[layer].all():
            of_groups = entropy_terms((weights.to(tile.p.dtype) @ tile.p.flatten(1)).double())  # [2]
        else:
            of_groups = of_all.expand(2)
        within = of_groups - weights @ entropies
        return {
            "generalised_jsd": of_all - entropies.mean(),
            "generalised_jsd_between": of_all - shares @ of_groups,
            "generalised_jsd_own_heads": within[0],
            "generalised_jsd_skip_heads": within[1],
        }

    def results(self, sums: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Means, at least 0, and the part within the groups."""
        means = {name: mean.clamp(min=0) for name, mean in super().results(sums, rows).items()}
        within = (sums["generalised_jsd"] - sums["generalised_jsd_between"]) / rows
        return {**means, "generalised_jsd_within": within.clamp(min=0)}
