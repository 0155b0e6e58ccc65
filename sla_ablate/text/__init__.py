"""What is shown to people: words for numbers, text of others made harmless, lines and notes."""
