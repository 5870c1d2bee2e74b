"""The tokenizer and renderer of the default model, as the actors' tests have them."""

from tests.actors.conftest import model_path, renderer, tokenizer

__all__ = ["model_path", "renderer", "tokenizer"]
