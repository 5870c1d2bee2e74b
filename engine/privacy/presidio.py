"""Names, places and groups in English text by Presidio, beside what has a form of its own. The extra `privacy`.

Presidio and its spaCy model are imported when the detector is opened. Nothing is downloaded: a model that is missing is
refused with the command that brings it. Presidio's own detectors of forms are left out: this package has its own.
"""

import functools
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any, Final

from engine.errors import InputError
from engine.privacy.detectors import find_personal
from engine.privacy.finding import Detector, Span, apart

INSTALL: Final = "pip install -e '.[privacy]' in the checkout"
MODELS: Final = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")
"""Of spaCy; the first that is installed is taken."""
ENTITIES: Final = {"PERSON": "name", "LOCATION": "place", "NRP": "group"}
MIN_SCORE: Final = 0.5
MAX_CHARS: Final = 100_000
"""Of one text that are looked at together: spaCy takes memory by length, and refuses more than a million."""


@functools.cache
def open_presidio(model: str = "") -> Detector:
    """Return the detector, with a spaCy model by name or path, else the best that is installed. Raises InputError."""
    for package in ("presidio_analyzer", "spacy"):
        if importlib.util.find_spec(package) is None:
            rule = 'privacy.detector = "presidio" must find its package'
            raise InputError(f'{rule}, got no {package}: {INSTALL}, or set detector = "structured"')
    analyzer = make_analyzer(model or _installed_model())

    def detect(text: str) -> list[Span]:
        return apart([*find_personal(text), *_named(analyzer, text)], text)

    return detect


def _installed_model() -> str:
    found = next((name for name in MODELS if importlib.util.find_spec(name) is not None), "")
    if not found:
        rule = f'privacy.detector = "presidio" must find a spaCy model ({", ".join(MODELS)})'
        raise InputError(f"{rule}, got none installed: python -m spacy download {MODELS[0]}")
    return found


def make_analyzer(model: str) -> Any:
    """Return Presidio's engine on a spaCy model, given by name or path."""
    engines: Any = importlib.import_module("presidio_analyzer.nlp_engine")
    presidio: Any = importlib.import_module("presidio_analyzer")
    named = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
    engine = engines.NlpEngineProvider(nlp_configuration=named).create_engine()
    return presidio.AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])


def _named(analyzer: Any, text: str) -> Iterator[Span]:
    """Yield the names in a text, which is looked at in parts."""
    for start in range(0, len(text), MAX_CHARS):
        part = text[start : start + MAX_CHARS]
        results: Sequence[Any] = analyzer.analyze(
            text=part, language="en", entities=[*ENTITIES], score_threshold=MIN_SCORE
        )
        for one in sorted(results, key=lambda result: -float(result.score)):
            yield Span(ENTITIES[one.entity_type], start + one.start, start + one.end)
