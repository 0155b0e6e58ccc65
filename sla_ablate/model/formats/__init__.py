"""The files that a model is written to and read from."""
