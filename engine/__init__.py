"""What a dialogue is, and how very many run at once. Imports nothing else of ours; loads no ray, vllm or torch."""
