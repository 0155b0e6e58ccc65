"""From configurations to runs that are carried out: which there are, where each is started, and what became of it."""
