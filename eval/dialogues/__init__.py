"""Stored dialogues side by side: what the patient disclosed, what was understood, whether the illness was named."""
