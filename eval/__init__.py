"""How good a model, a dialogue, a corpus is. Imports engine."""
