import re
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.plots import page, plot_goals, share_of_goal
from tests.benchmarks.records import make_figure

HOSTILE = "<script>alert(1)</script> $x$ & \\frac"


def test_the_page_has_every_plot_and_no_script() -> None:
    scaling = {"replicas": [1, 2, 4], "tokens_per_s": [10.0, 20.0, 39.0]}
    rows = {
        "efficiency_simulated": (make_figure("efficiency_steady_simulated", 0.97, 0.99, goal=0.98),),
        "replicas_simulated": (make_figure("scaling", 0.9, configuration=scaling, goal=0.95),),
        HOSTILE: (make_figure(HOSTILE, goal=1.0, note=HOSTILE, unit=HOSTILE),),
    }
    text = page(rows, HOSTILE)
    assert text.count("<svg") == text.count("</svg>") == 3
    assert "<script" not in text.lower()
    assert not re.search(r"\son\w+=", text)
    assert "default-src 'none'" in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)


def test_without_goals_there_is_no_plot_of_them() -> None:
    assert plot_goals([make_figure("lag")]) == ""
    assert "<svg" not in page({"lag": (make_figure("lag"),)}, "a record")


@pytest.mark.parametrize(("value", "is_at_most", "expected"), [(8.0, False, 2.0), (2.0, True, 2.0), (8.0, True, 0.5)])
def test_a_goal_is_reached_at_one_on_either_side(value: float, is_at_most: bool, expected: float) -> None:
    assert share_of_goal(make_figure("lag", value, goal=4.0, is_at_most=is_at_most), value) == expected
