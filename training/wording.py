"""What the rows ask and say beside the corpus: the project's own words, one place."""

from typing import Final

EXPERT: Final = "You are an experienced psychiatrist."

DIAGNOSIS: Final = "Which mental disorder is the most likely diagnosis for this person?"
TREATMENT: Final = "Which therapy would suit this person best?"
MEDICATION: Final = "Which medication, if any, would be appropriate for this person?"

FORMULATOR: Final = "You describe how people think and feel, in the terms of cognitive therapy."

DIAGRAM: Final = (
    "From this history, work out the person's cognitive model: the beliefs behind it, the same while depressed, and "
    "how the person copes."
)
REACTION: Final = (
    "Given this cognitive model, how does the person react to the situation below? Name the automatic thoughts, the "
    "emotions and the behaviour."
)
