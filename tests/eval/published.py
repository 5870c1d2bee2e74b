"""The published exam files, where they are; tests that read them skip elsewhere."""

from pathlib import Path

import pytest

from eval.items import ItemSet
from eval.tasks import find_task
from eval.tasks.loading import load_items

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "eval"
FILES = {
    "medqa": "medqa/psychosis.jsonl",
    "medmcqa": "medmcqa/psychosis.jsonl",
    "pubmedqa": "pubmedqa/test_samples.jsonl",
    "mmlu": "mmlu/medical_genetics_test.jsonl",
    "cams": "imhi/CAMS_complete.csv",
    "dreaddit": "imhi/dreaddit_instruction.csv",
}


def published(task: str, file: str = "") -> ItemSet:
    path = FOLDER / (file or FILES[task])
    if not path.is_file():
        pytest.skip("the published exam files are not here")
    return load_items(find_task(task), path)
