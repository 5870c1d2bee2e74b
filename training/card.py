"""The card of a sample set: what it is, what it is not, and what was left out; as markdown with a YAML head. Pure."""

import json

import msgspec

from engine.export_card import NOTICE, table
from training.convert import Tally
from training.settings import SampleSettings


def sample_card(format: str, settings: SampleSettings, tally: Tally, data_file: str) -> str:
    """Return the card."""
    blocks = [
        _head(data_file),
        "# Samples",
        NOTICE,
        f"{tally.num_rows:,} rows, format `{format}`.",
        "## Rows",
        table(("kind", "rows"), [(kind, f"{number:,}") for kind, number in tally.kept.items()]),
        "## Left out",
        table(("reason", "samples"), [(reason, f"{number:,}") for reason, number in tally.dropped.most_common()])
        if tally.dropped
        else "Nothing.",
        "## Settings",
        table(
            ("setting", "value"), [(name, json.dumps(value)) for name, value in msgspec.to_builtins(settings).items()]
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def _head(data_file: str) -> str:
    lines = ["license: other", "license_name: unknown", "tags:", "- synthetic", "- research-only", "configs:"]
    files = ["- config_name: default", "  data_files:", "  - split: train", f"    path: {json.dumps(data_file)}"]
    return "\n".join(["---", *lines, *files, "---"])
