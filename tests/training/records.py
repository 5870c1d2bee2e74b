"""Published records, written for tests."""

import json
from pathlib import Path

FIELDS = {
    "symptom": "History: sleeps badly.",
    "illness": "Doctor 2's diagnosis of MDD",
    "treatment": "CBT",
    "explain_t": "It helps.",
    "medicine": "None",
    "explain_m": "",
}


def write_records(path: Path, *records: object) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), "utf-8")
    return path
