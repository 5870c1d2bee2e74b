"""Detectors: what one text of a dialogue gives away. Pure functions from text to a finding with its span.

Texts are hostile: every pattern has bounded repeats, so a search takes time linear in the text. Word lists are of
English; they say what a text contains, never what its writer meant.
"""
