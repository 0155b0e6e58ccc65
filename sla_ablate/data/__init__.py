"""Text to tensors: corpora → tokenizer → token shards → batches."""
