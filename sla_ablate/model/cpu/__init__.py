"""What is there for the speed of a processor only."""
