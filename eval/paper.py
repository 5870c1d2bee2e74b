"""The published results of MentalArena, and ours next to them; pure.

Numbers are accuracies in percent as printed, zero-shot, in arXiv version 1 (the main table and table 4). Invariant: no
cell stands without its doubt: each says whether a whole number of right answers could give it, whether one answer to
every item would, and whether it beats naming the most frequent answer each time. Knows nothing of how ours were
measured.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from eval.comparison import ExamResult, accuracy
from eval.statistics.intervals import Interval, share_interval

Mark = Literal["", "no such share", "constant", "outlier", "garbled", "other items"]

TASKS: Final = ("medqa", "medmcqa", "pubmedqa", "cams", "dreaddit", "irf")
NUM_ITEMS: Final = {"medqa": 173, "medmcqa": 314, "pubmedqa": 328, "cams": 625, "dreaddit": 414, "irf": 2113}
NUM_MOST_FREQUENT: Final = {"medqa": 51, "medmcqa": 133, "pubmedqa": 321, "cams": 184, "dreaddit": 211, "irf": 1366}
"""Items of the published files whose answer is the most frequent one: A, A, yes, alienation, yes, yes."""
MEANINGS: Final[dict[Mark, str]] = {
    "no such share": "no whole number of right answers gives this figure for the published number of items",
    "constant": "exactly what giving one answer to every item gets",
    "outlier": "twice the figures of the iterations before and after it",
    "garbled": "does not fit the row's printed average",
    "other items": "not the published number of items: no fair comparison",
}
SYMBOLS: Final[dict[Mark, str]] = {
    "": "",
    "no such share": "?",
    "constant": "=",
    "outlier": "!",
    "garbled": "??",
    "other items": "*",
}
BELOW: Final = "<"
"""Shown at a figure that does not beat naming the most frequent answer each time."""


class PaperRow(msgspec.Struct, frozen=True):
    """One printed row: accuracies in percent in the order of `TASKS`, their average as printed, doubts by task."""

    name: str
    percents: tuple[float, ...]
    average: float
    marks: Mapping[str, Mark] = {}

    @property
    def mean(self) -> float:
        """The average that the cells give."""
        return sum(self.percents) / len(self.percents)


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One accuracy in percent, its 95 % interval in percent (None where the number of right answers is unknown), its
    doubt, and whether it beats naming the most frequent answer each time."""

    percent: float
    interval: Interval | None
    mark: Mark
    is_above_trivial: bool


class TableRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row: cells in the order of `TASKS`, None where a task was not taken; no average where a cell is missing.

    `is_average_doubtful` says that the printed average is not that of the printed cells.
    """

    name: str
    cells: tuple[Cell | None, ...]
    average: float | None
    is_ours: bool
    is_average_doubtful: bool = False


_GPT: Final[dict[str, Mark]] = {"dreaddit": "constant", "irf": "constant"}

RESULTS: Final = (
    PaperRow("MentaLLaMa-13b", (28.32, 12.42, 28.96, 37.28, 62.08, 46.81), 35.98),
    PaperRow("Mental-LLM-alpaca", (28.32, 12.42, 0.00, 29.76, 64.98, 51.96), 31.24),
    PaperRow("Mental-LLM-t5", (0.00, 0.32, 49.09, 27.04, 63.29, 47.70), 31.24),
    PaperRow("GPT-4o", (87.86, 74.20, 60.06, 27.68, 49.03, 64.65), 60.58, _GPT),
    PaperRow(
        "GPT-4o + MedPrompt",
        (90.17, 78.34, 67.38, 31.52, 53.27, 64.65),
        64.22,
        {"dreaddit": "no such share", "irf": "constant"},
    ),
    PaperRow("GPT-3.5-turbo", (64.16, 33.76, 44.68, 28.96, 49.03, 64.65), 47.54, {**_GPT, "pubmedqa": "no such share"}),
    PaperRow(
        "GPT-3.5 + MedPrompt",
        (69.94, 43.89, 47.26, 30.20, 49.03, 64.65),
        50.83,
        {**_GPT, "medmcqa": "no such share", "cams": "no such share"},
    ),
    PaperRow(
        "GPT-3.5 + MentalArena", (74.57, 91.08, 97.56, 32.80, 49.03, 64.65), 68.28, {**_GPT, "medmcqa": "outlier"}
    ),
    PaperRow("Llama-3-8b", (70.52, 42.04, 86.59, 25.12, 58.45, 45.76), 54.75),
    PaperRow(
        "Llama-3-8b + CoT",
        (75.14, 47.77, 88.21, 33.60, 62.22, 45.91),
        58.81,
        {"pubmedqa": "no such share", "dreaddit": "no such share"},
    ),
    PaperRow(
        "Llama-3-8b + MedPrompt",
        (76.88, 49.41, 89.99, 35.08, 61.59, 48.05),
        60.17,
        dict.fromkeys(("medmcqa", "pubmedqa", "cams", "irf"), "no such share"),
    ),
    PaperRow("Llama-3-8b + MentalArena", (78.03, 50.32, 92.68, 29.60, 65.46, 52.25), 61.39),
)
"""The main table. Rows of GPT-3.5 and GPT-4o with chain of thought are not known."""

ITERATIONS: Final = (
    PaperRow("GPT-3.5, iteration 1", (72.83, 46.18, 70.12, 32.64, 49.03, 64.65), 55.91, _GPT),
    PaperRow(
        "GPT-3.5, iteration 2",
        (74.57, 91.08, 97.56, 32.80, 49.03, 64.65),
        68.28,
        {**_GPT, "medmcqa": "outlier"},
    ),
    PaperRow("GPT-3.5, iteration 3", (72.25, 46.50, 95.43, 31.20, 49.03, 64.65), 59.84, _GPT),
    PaperRow("GPT-3.5, iteration 4", (70.52, 50.64, 92.07, 31.68, 49.03, 64.65), 59.77, _GPT),
    PaperRow(
        "Llama-3-8b, iteration 1",
        (76.88, 48.09, 89.33, 27.20, 46.57, 57.91),
        57.91,
        {"dreaddit": "garbled", "irf": "garbled"},
    ),
    PaperRow("Llama-3-8b, iteration 2", (76.88, 48.41, 89.63, 28.48, 60.39, 55.67), 58.24, {"irf": "garbled"}),
    PaperRow("Llama-3-8b, iteration 3", (77.46, 49.04, 92.38, 28.64, 61.84, 56.24), 59.27, {"irf": "garbled"}),
    PaperRow("Llama-3-8b, iteration 4", (78.03, 50.32, 92.68, 29.60, 65.46, 52.25), 61.39),
    PaperRow("Llama-3-8b, iteration 5", (77.46, 48.73, 91.16, 27.36, 65.46, 44.72), 59.15),
    PaperRow("Llama-3-8b, iteration 6", (78.03, 45.86, 91.77, 26.56, 61.11, 56.57), 58.32, {"irf": "garbled"}),
)
"""The table of iterations."""


def num_right(percent: float, number: int) -> int | None:
    """Return the number of right answers of `number` that prints as `percent` with two decimals, None for none."""
    right = round(percent * number / 100)
    # Half a unit of the last decimal, and rounding of the float itself.
    return right if abs(100 * right / number - percent) <= 0.005 + 1e-9 else None


def beside(ours: Sequence[ExamResult], rows: Sequence[PaperRow] = RESULTS) -> tuple[TableRow, ...]:
    """Return the paper's rows, what naming the most frequent answer gets, and our exams, in this order.

    Tasks of ours that the paper has not are left out.
    """
    return (*map(_printed, rows), _trivial(), *map(_measured, ours))


def text_rows(table: Sequence[TableRow]) -> list[tuple[str, ...]]:
    """Return the table as cells of text: name, tasks, average. Doubts are `SYMBOLS`, `BELOW` is no better than
    guessing."""
    return [(row.name, *map(_text, row.cells), _average_text(row)) for row in table]


def _printed(row: PaperRow) -> TableRow:
    cells = []
    for task, percent in zip(TASKS, row.percents, strict=True):
        mark = row.marks.get(task, "")
        right = num_right(percent, NUM_ITEMS[task]) if mark != "garbled" else None
        cells.append(_cell(task, percent, right, NUM_ITEMS[task], mark))
    is_doubtful = abs(row.mean - row.average) > 0.01
    return TableRow(
        name=row.name, cells=tuple(cells), average=row.average, is_ours=False, is_average_doubtful=is_doubtful
    )


def _trivial() -> TableRow:
    cells = [_shared(task, NUM_MOST_FREQUENT[task], NUM_ITEMS[task], "constant") for task in TASKS]
    return TableRow(name="most frequent answer", cells=tuple(cells), average=_mean(cells), is_ours=False)


def _measured(exam: ExamResult) -> TableRow:
    cells: list[Cell | None] = []
    for task in TASKS:
        if task not in exam.tasks:
            cells.append(None)
            continue
        found = accuracy(exam.tasks[task])
        mark: Mark = "" if found.num_items == NUM_ITEMS[task] else "other items"
        cells.append(_shared(task, found.num_right, found.num_items, mark))
    return TableRow(name=exam.name, cells=tuple(cells), average=_mean(cells), is_ours=True)


def _shared(task: str, right: int, number: int, mark: Mark) -> Cell:
    return _cell(task, 100 * right / number, right, number, mark)


def _cell(task: str, percent: float, right: int | None, number: int, mark: Mark) -> Cell:
    interval = None
    if right is not None:
        found = share_interval(right, number)
        interval = Interval(100 * found.low, 100 * found.high)
    trivial = 100 * NUM_MOST_FREQUENT[task] / NUM_ITEMS[task]
    # A printed figure equal to the trivial one differs from it by rounding.
    return Cell(percent=percent, interval=interval, mark=mark, is_above_trivial=percent > trivial + 0.005)


def _mean(cells: Sequence[Cell | None]) -> float | None:
    known = [cell.percent for cell in cells if cell is not None]
    return sum(known) / len(known) if len(known) == len(TASKS) else None


def _text(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    return f"{cell.percent:.2f}{SYMBOLS[cell.mark]}{'' if cell.is_above_trivial else BELOW}"


def _average_text(row: TableRow) -> str:
    return "-" if row.average is None else f"{row.average:.2f}{SYMBOLS['garbled'] if row.is_average_doubtful else ''}"
