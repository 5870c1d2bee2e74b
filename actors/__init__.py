"""The served models: Ray actors that host vLLM, and the local embedder.

Only this layer imports ray, vllm, torch and transformers, and only inside functions and actor processes: importing
`actors` or `actors.fleet` loads none of them. It knows nothing of dialogues beyond one request and its completion.
"""
