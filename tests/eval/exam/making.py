"""Small item files in the published forms, in words of our own."""

import json
from pathlib import Path
from typing import Any

from eval.exam import Materials, Pool, Source
from eval.items import Item, Option

QUESTIONS = (
    ("Which of these is a bone of the forearm?", ("Radius", "Femur", "Patella", "Sternum"), "A"),
    ("Which of these vitamins is made in sunlit skin?", ("Vitamin K", "Vitamin D", "Vitamin C", "Biotin"), "B"),
    ("Which sign belongs to a panic attack?", ("Rash", "Deafness", "Palpitations", "Jaundice"), "C"),
    ("Which drug needs its blood level watched?", ("Aspirin", "Paracetamol", "Melatonin", "Lithium"), "D"),
    ("Which organ makes insulin?", ("Pancreas", "Spleen", "Thyroid", "Kidney"), "A"),
    ("Which nerve moves the diaphragm?", ("Ulnar", "Phrenic", "Median", "Sciatic"), "B"),
)
DECISIONS = (("Does a walk each day lift a low mood?", "yes"), ("Do lamps in daylight colour cure measles?", "no"))


def write_medqa(directory: Path) -> Path:
    path = directory / "lettered.jsonl"
    rows = [
        {"question": text, "options": dict(zip("ABCD", texts, strict=True)), "answer_idx": gold}
        for text, texts, gold in QUESTIONS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_pubmedqa(directory: Path) -> Path:
    path = directory / "decisions.jsonl"
    rows = [
        {"QUESTION": text, "CONTEXTS": "[]", "LONG_ANSWER": "", "final_decision": gold, "id": str(number)}
        for number, (text, gold) in enumerate(DECISIONS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def make_item(number: int = 0, **changes: Any) -> Item:
    text, texts, gold = QUESTIONS[number]
    options = tuple(Option(label, option) for label, option in zip("ABCD", texts, strict=True))
    fields = {"id": f"forms/{number + 1}", "task": "medqa", "line": number + 1, "question": text}
    return Item(**{**fields, "options": options, "gold": gold, **changes})


def make_materials(*items: Item) -> Materials:
    found = items or tuple(make_item(number) for number in range(len(QUESTIONS)))
    source = Source(task="medqa", path="forms.jsonl", sha256="", num_items=len(found))
    return Materials({"forms": Pool("medqa", found)}, {"forms": source})
