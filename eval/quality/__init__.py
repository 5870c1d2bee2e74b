"""Corpus quality: what a stored run's dialogues look like, in figures, and how rounds differ."""
