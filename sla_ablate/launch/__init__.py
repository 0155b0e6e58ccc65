"""Runs are planned here, started where a launcher says, and watched until it is recorded what became of them."""
