"""How one run is trained and scored."""
