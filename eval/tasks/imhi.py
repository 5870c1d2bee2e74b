"""The IMHI sets: a social media post, a question about it, a verdict.

Class names and published rules are those of IMHI's test files and its scorer. Classes carry the phrases by which the
instruction and the completion files name them, which differ: CAMS says "no causes of depression" in one, "none" in the
other.
"""

from typing import Final

from eval.items import Option
from eval.legacy import BINARY_RULE, KeywordRule, LegacyRule
from eval.tasks.forms import IMHI
from eval.tasks.task import Metric, Task, show_post

ASK_VERDICT: Final = "Begin with your verdict, yes or no, then a full stop; your reasoning may follow."
ASK_CLASS: Final = "Begin with exactly one of the possible answers, then a full stop; your reasoning may follow."


def binary_task(name: str, title: str, *marks: str, yes: tuple[str, ...] = (), no: tuple[str, ...] = ()) -> Task:
    """Return a yes/no task in IMHI's form; `yes` and `no` are sentences that say the same as the word.

    A word of `marks` must stand in every question, () for no such check.
    """
    return Task(
        name=name,
        title=title,
        forms=(IMHI,),
        show=show_post,
        ask=ASK_VERDICT,
        classes=(Option("yes", "yes", yes), Option("no", "no", no)),
        legacy=BINARY_RULE,
        metric="macro_f1",
        trivial=("yes", "no"),
        marks=marks,
    )


def class_task(
    name: str,
    title: str,
    classes: tuple[Option, ...],
    *marks: str,
    legacy: LegacyRule | None = None,
    metric: Metric = "macro_f1",
) -> Task:
    """Return a task with several classes in IMHI's form; `marks` as in `binary_task`."""
    return Task(
        name=name,
        title=title,
        forms=(IMHI,),
        show=show_post,
        ask=ASK_CLASS,
        classes=classes,
        legacy=legacy,
        metric=metric,
        is_skewed=True,
        marks=marks,
    )


def _suffers(what: str) -> dict[str, tuple[str, ...]]:
    return {
        "yes": (f"the poster suffers from {what}", f"the poster is suffering from {what}"),
        "no": (f"the poster does not suffer from {what}", f"the poster is not suffering from {what}"),
    }


NO_DISORDER: Final = ("no mental disorder", "no mental disorder symptoms", "no mental disorders symptoms")

DREADDIT: Final = binary_task("dreaddit", "Dreaddit (stress)", "stress", **_suffers("stress"))
DR: Final = binary_task("dr", "Depression Reddit (depression)", "depression", **_suffers("depression"))
CLP: Final = binary_task("clp", "CLPsych 2015 (depression)", "depression", **_suffers("depression"))
LONELINESS: Final = binary_task("loneliness", "Loneliness", "loneliness", **_suffers("loneliness"))
IRF: Final = binary_task(
    "irf",
    "IRF (thwarted belongingness, perceived burdensomeness)",
    "belongingness",
    "burdensomeness",
    yes=("the post shows this risk", "this post shows this risk"),
    no=("the post does not show this risk", "this post does not show this risk"),
)
MULTIWD: Final = binary_task(
    "multiwd",
    "MultiWD (is a dimension of wellness present)",
    "wellness",
    yes=("this wellness dimension exists in the post",),
    no=("this wellness dimension does not exist in the post",),
)
CAMS: Final = class_task(
    "cams",
    "CAMS (cause of depression shown by a post)",
    (
        Option("none", "none", ("no cause", "no causes", "no cause of depression", "no causes of depression")),
        Option("bias or abuse", "bias or abuse", ("bias and abuse", "bias/abuse", "bias", "abuse")),
        Option("jobs and career", "jobs and career", ("jobs and careers", "jobs or career", "jobs", "job", "career")),
        Option("medication", "medication", ("medications",)),
        Option("relationship", "relationship", ("relationships",)),
        Option("alienation", "alienation"),
    ),
    "cause",
    legacy=KeywordRule(
        (
            ("none", "none"),
            ("bias", "bias or abuse"),
            ("jobs", "jobs and career"),
            ("medication", "medication"),
            ("relationship", "relationship"),
            ("alienation", "alienation"),
        ),
        default="none",
        gold_keywords=(
            ("none", "none"),
            ("bias or abuse", "bias or abuse"),
            ("jobs and career", "jobs and career"),
            ("medication", "medication"),
            ("relationship", "relationship"),
            ("alienation", "alienation"),
        ),
    ),
)
SAD: Final = class_task(
    "sad",
    "SAD (cause of stress shown by a post)",
    (
        Option("school", "school"),
        Option("financial problem", "financial problem", ("financial problems",)),
        Option("family issues", "family issues", ("family issue",)),
        Option("social relationships", "social relationships", ("social relationship",)),
        Option("work", "work"),
        Option("health issues", "health issues", ("health issue",)),
        Option("emotional turmoil", "emotional turmoil", ("emotion turmoil",)),
        Option("everyday decision making", "everyday decision making", ("everyday decision-making",)),
        Option("other causes", "other causes", ("other stress causes", "other cause", "other stress cause")),
    ),
    "stress",
    legacy=KeywordRule(
        (
            ("school", "school"),
            ("financial", "financial problem"),
            ("family", "family issues"),
            ("social", "social relationships"),
            ("work", "work"),
            ("health", "health issues"),
            ("emotional", "emotional turmoil"),
            ("decision", "everyday decision making"),
            ("other", "other causes"),
        ),
        default="other causes",
        gold_keywords=(
            ("school", "school"),
            ("financial problem", "financial problem"),
            ("family issues", "family issues"),
            ("social relationships", "social relationships"),
            ("work", "work"),
            ("health issues", "health issues"),
            ("emotional turmoil", "emotional turmoil"),
            ("everyday decision making", "everyday decision making"),
            ("other causes", "other causes"),
        ),
    ),
)
SWMH: Final = class_task(
    "swmh",
    "SWMH (symptoms of which mental disorder)",
    (
        Option("no mental disorders", "no mental disorders", NO_DISORDER),
        Option("suicide", "suicide"),
        Option("depression", "depression"),
        Option("anxiety", "anxiety"),
        Option("bipolar disorder", "bipolar disorder", ("bipolar",)),
    ),
    "mental disorder",
    legacy=KeywordRule(
        (
            ("no mental", "no mental disorders"),
            ("suicide", "suicide"),
            ("depression", "depression"),
            ("anxiety", "anxiety"),
            ("bipolar", "bipolar disorder"),
        ),
        default="no mental disorders",
    ),
)
T_SID: Final = class_task(
    "t-sid",
    "T-SID (which mental disorder)",
    (
        Option("no mental disorders", "no mental disorders", NO_DISORDER),
        Option("suicide or self-harm", "suicide or self-harm", ("suicide or self-harm tendency", "suicide")),
        Option("depression", "depression"),
        Option("ptsd", "ptsd"),
    ),
    "mental disorder",
    legacy=KeywordRule(
        (
            ("depression", "depression"),
            ("suicide", "suicide or self-harm"),
            ("ptsd", "ptsd"),
            ("no mental", "no mental disorders"),
        ),
        default="no mental disorders",
        gold_keywords=(
            ("depression", "depression"),
            ("suicide or self-harm", "suicide or self-harm"),
            ("ptsd", "ptsd"),
            ("no mental disorders", "no mental disorders"),
        ),
    ),
)
