"""MentalArena: encode a patient, interview, decode and ask again, diagnose, plan, extract six fields."""

from engine.protocols.mental_arena.spec import PROTOCOL

__all__ = ["PROTOCOL"]
