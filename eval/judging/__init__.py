"""Judging: what judges make of a transcript under a rubric. One protocol; the spec is what the engine asks for."""

from eval.judging.spec import PROTOCOL, spec_for

__all__ = ["PROTOCOL", "spec_for"]
