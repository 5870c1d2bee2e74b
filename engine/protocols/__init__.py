"""Protocols: one file or folder each; nothing outside this package knows what they are about."""
