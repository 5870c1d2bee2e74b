"""From episodes to weights. Imports engine."""
