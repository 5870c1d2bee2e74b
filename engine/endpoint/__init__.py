"""A pool of served models as an OpenAI-compatible endpoint: what other tools ask over HTTP, the pool answers."""
