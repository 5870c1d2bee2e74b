"""Rows on simulated replicas: the unmodified scheduler in virtual time against contenders that feed the same replica.

Repeats are seeds: a simulation repeats exactly, so its spread is that of the sampled cases and lengths.
"""
