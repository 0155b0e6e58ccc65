"""Continuing sequences of tokens."""
