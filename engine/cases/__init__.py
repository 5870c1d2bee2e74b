"""Cases: who the patients are, and the principles by which they talk. Knows nothing of protocols or models."""

from engine.cases.errors import CaseError
from engine.cases.loaders import load_cases
from engine.cases.neighbors import NeighborReport, nearest_neighbor_report
from engine.cases.principles import PrincipleGroup, load_principles
from engine.cases.sampler import iter_cases, sample_cases
from engine.cases.schema import Case, fingerprint

__all__ = [
    "Case",
    "CaseError",
    "NeighborReport",
    "PrincipleGroup",
    "fingerprint",
    "iter_cases",
    "load_cases",
    "load_principles",
    "nearest_neighbor_report",
    "sample_cases",
]
