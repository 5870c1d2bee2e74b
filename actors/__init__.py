"""The served models: Ray actors hosting vLLM, and the embedder. Imports engine."""
