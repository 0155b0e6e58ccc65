"""The model: plain torch, no Lightning, no Hydra."""
