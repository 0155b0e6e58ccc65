"""What is measured after training, from run records and checkpoints only."""
