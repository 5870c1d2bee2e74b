"""`report.html`: what happened in a run, for people. Reads a run's directory alone; one that is played is only read."""
