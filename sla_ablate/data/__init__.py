"""Corpora to tokenizer to token shards to batches; no Hydra, no Lightning."""
