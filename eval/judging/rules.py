"""The `[protocol]` table of a judging run: which rubric, which pipeline, how many judges and rounds."""

from typing import Final, Literal, TypeAlias

from engine.errors import InputError
from engine.protocol import Rules
from eval.rubric import load_rubric

PipelineName: TypeAlias = Literal["single", "dual", "debate", "majority", "panel"]

JUDGE: Final = "judge"
MAX_JUDGES: Final = 9
MAX_ROUNDS: Final = 5


class JudgeRules(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of one judging run, which `sandplay judge` makes.

    `rubric` is a shipped name or the path of a file. `pipeline`: `single` asks one judge; `dual` lets a second one
    correct the first; `debate` has `num_judges` argue for `num_rounds` and then vote; `majority` asks one judge
    `num_judges` times, at a `temperature` above 0; `panel` asks `num_judges` roles, `judge_1`, `judge_2`, ..., instead
    of `judge`, each with a model of its own. With `has_reasons` a judge writes its reasons, of at most `max_tokens`,
    before each verdict: one more call.
    """

    name: str = "judging"
    max_tokens: int = 256
    temperature: float = 0.0
    rubric: str = "counselling"
    pipeline: PipelineName = "single"
    num_judges: int = 3
    num_rounds: int = 2
    has_reasons: bool = True

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each; the problems of the rubric among them."""
        found = super().problems()
        for name, low, high in (("num_judges", 2, MAX_JUDGES), ("num_rounds", 1, MAX_ROUNDS)):
            value = getattr(self, name)
            if not low <= value <= high:
                found.append(f"protocol.{name} must be {low}..{high}, got {value}: set a number in that range")
        if self.pipeline == "majority" and self.temperature == 0:
            found.append(
                'protocol.temperature must be above 0 where pipeline = "majority", got 0: '
                "set 0.7, say, or every sample is the same"
            )
        try:
            load_rubric(self.rubric)
        except InputError as refused:
            found += [f"protocol.rubric: {problem}" for problem in refused.problems]
        return found

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that are asked: `judge`, or `judge_1`, `judge_2`, ... of a panel."""
        if self.pipeline != "panel":
            return (JUDGE,)
        return tuple(f"{JUDGE}_{number + 1}" for number in range(self.num_judges))
