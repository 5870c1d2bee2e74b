"""Names of data sets of the hub."""

import pytest

from engine.cases.datasets import is_dataset, parse_dataset
from engine.cases.errors import CaseError


@pytest.mark.parametrize(
    ("source", "id_", "file"),
    [
        ("hf:org/cases", "org/cases", ""),
        ("hf:squad", "squad", ""),
        ("hf:org/ca-ses_1.0:data/train-00000-of-00001.parquet", "org/ca-ses_1.0", "data/train-00000-of-00001.parquet"),
    ],
)
def test_a_source_names_a_data_set_and_maybe_a_file_of_it(source: str, id_: str, file: str) -> None:
    name = parse_dataset(source)
    assert (name.id, name.file, str(name)) == (id_, file, source)


@pytest.mark.parametrize(
    "source",
    ["hf:", "hf:a/b/c", "hf:a b", "hf:/a", "hf:org/x:", "hf:org/x:../y", "hf:org/x:/etc/passwd", "hf:org/x:a//b"],
)
def test_what_names_none_is_refused_with_an_example(source: str) -> None:
    with pytest.raises(CaseError, match="must be hf:ORG/NAME or hf:ORG/NAME:FILE, got .*such as hf:org/cases:data"):
        parse_dataset(source)


def test_words_and_files_are_none() -> None:
    assert not any(map(is_dataset, ("bundled", "org/name", "cases.json", "/hf:x")))
