"""Items: questions with all that answers them, a folder each, and the results of their runs as lines that travel."""
