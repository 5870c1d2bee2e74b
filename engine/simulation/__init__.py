"""The simulated fleet: the unmodified scheduler in virtual time against replicas that model continuous batching."""
