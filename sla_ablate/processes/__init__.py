"""Work in other processes: forked from one that has imported what it needs, watched, and ended by signals."""
