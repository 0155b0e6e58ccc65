"""What one run is configured by, and how a command line becomes configurations."""
