"""General abilities: items made from a seed, to see whether a training made a model forget what anybody can do.

Each of the kinds asks one simple thing (a sum, a plural, an alphabetical order) in our own words, after the ideas of
instruction induction (Honovich et al. 2022, arXiv 2205.10782) and BIG-Bench. It is NOT the published forgetting set of
21 tasks with 100 items each: scores are comparable with each other, before and after a training, and with no paper.
Invariant: an item has exactly one right option, by construction, the options differ, and of each kind every letter is
right equally often. Items depend on seed and kind alone: fewer of them are the first of more.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

from eval.items import Item, Option
from eval.tasks import general_words as words
from eval.tasks.biomedical import ASK_LETTER
from eval.tasks.task import LETTERS, Made, Making, Task, show_options

T = TypeVar("T")

NAME: Final = "general"
NUM_EXAMPLES: Final = 8
"""Items of each kind that are kept for examples and never put."""
MAX_ITEMS: Final = 50
"""The most items of a kind: with the examples, no list of words has to repeat one."""


class Draft(NamedTuple):
    """A question before its options are in order."""

    question: str
    right: str
    wrong: Sequence[str]


Drafts: TypeAlias = Iterator[Draft]


def make_general(num_items: int, seed: int) -> Made:
    """Return `num_items` items of each kind, the first of every kind before the second of any, and the examples."""
    made = {kind: list(_drawn(kind, NUM_EXAMPLES + num_items, seed)) for kind in KINDS}
    examples = [item for items in made.values() for item in items[:NUM_EXAMPLES]]
    put = [item for row in zip(*(items[NUM_EXAMPLES:] for items in made.values()), strict=True) for item in row]
    return Made(tuple(put), tuple(examples))


def _drawn(kind: str, number: int, seed: int) -> Iterator[Item]:
    """Yield the first items of a kind, no question twice; those below `NUM_EXAMPLES` have lines below 1."""
    seen: set[str] = set()
    fresh = (one for one in KINDS[kind](random.Random(f"{seed} {kind}")) if one.question not in seen)
    for place, draft in enumerate(itertools.islice(fresh, number)):
        seen.add(draft.question)
        yield _item(kind, place - NUM_EXAMPLES + 1, draft, _turn(place, 1 + len(draft.wrong), f"{seed} {kind}"))


def _item(kind: str, line: int, draft: Draft, place: int) -> Item:
    texts = [*draft.wrong]
    texts.insert(place, draft.right)
    return Item(
        id=f"{NAME}/{kind}/{line}",
        task=NAME,
        line=line,
        question=draft.question,
        options=tuple(Option(letter, text) for letter, text in zip(LETTERS, texts, strict=False)),
        gold=LETTERS[place],
        subject=kind,
        gold_text=draft.right,
    )


def _turn(number: int, num_options: int, seed: str) -> int:
    """Return the place of the right option: of so many items in a row, each has another."""
    block, place = divmod(number, num_options)
    return random.Random(f"place {seed} {block}").sample(range(num_options), num_options)[place]


def _shuffled(rng: random.Random, values: Sequence[T]) -> list[T]:
    return rng.sample(values, len(values))


def _listed(rng: random.Random, texts: Sequence[str]) -> str:
    return ", ".join(_shuffled(rng, texts))


# ---------------------------------------------------------------- numbers


def _larger(rng: random.Random) -> Drafts:
    while True:
        numbers = rng.sample(range(10, 1000), 4)
        largest = max(numbers)
        texts = [str(number) for number in numbers]
        wrong = [text for text in texts if text != str(largest)]
        yield Draft(f"Which is the largest of these numbers: {_listed(rng, texts)}?", str(largest), wrong)


def _near(rng: random.Random, number: int) -> list[str]:
    """Return three numbers that are near to another, none below 0."""
    steps = (step for step in _shuffled(rng, (-10, -2, -1, 1, 2, 10, 11)) if number + step >= 0)
    return [str(number + step) for step in itertools.islice(steps, 3)]


def _sum(rng: random.Random) -> Drafts:
    while True:
        one, other = rng.randrange(11, 90), rng.randrange(11, 90)
        yield Draft(f"What is {one} + {other}?", str(one + other), _near(rng, one + other))


def _difference(rng: random.Random) -> Drafts:
    while True:
        less, more = sorted(rng.sample(range(11, 100), 2))
        yield Draft(f"What is {more} - {less}?", str(more - less), _near(rng, more - less))


# ---------------------------------------------------------------- letters and words


def _same_letter(rng: random.Random, place: int, verb: str) -> Drafts:
    """Ask which word has the same letter at a place as another word."""
    for word in _shuffled(rng, words.WORDS):
        alike = [one for one in words.WORDS if one[place] == word[place] and one != word]
        others = [one for one in words.WORDS if one[place] != word[place]]
        if alike:
            question = f'Which of these words {verb} with the same letter as "{word}"?'
            yield Draft(question, rng.choice(alike), rng.sample(others, 3))


def _first_letter(rng: random.Random) -> Drafts:
    return _same_letter(rng, 0, "begins")


def _last_letter(rng: random.Random) -> Drafts:
    return _same_letter(rng, -1, "ends")


def _alphabetical(rng: random.Random) -> Drafts:
    while True:
        chosen = rng.sample(words.WORDS, 4)
        first, *others = sorted(chosen)
        question = f"Which of these words comes first in alphabetical order: {_listed(rng, chosen)}?"
        yield Draft(question, first, _shuffled(rng, others))


def _num_letters(rng: random.Random) -> Drafts:
    for word in _shuffled(rng, words.WORDS):
        yield Draft(f'How many letters does the word "{word}" have?', str(len(word)), _counts(rng, len(word)))


def _num_words(rng: random.Random) -> Drafts:
    while True:
        parts = [rng.choice(one) for one in (words.SUBJECTS, words.VERBS, words.OBJECTS, words.PLACES)]
        sentence = " ".join(part for part in parts if part)
        number = len(sentence.split())
        yield Draft(f'How many words does this sentence have: "{sentence}."?', str(number), _counts(rng, number))


def _counts(rng: random.Random, number: int) -> list[str]:
    """Return three other numbers, among them the neighbors."""
    return [str(number + step) for step in _shuffled(rng, (-1, 1, rng.choice((-2, 2))))]


# ---------------------------------------------------------------- grammar and meaning


def _opposite(rng: random.Random) -> Drafts:
    for pair in _shuffled(rng, words.OPPOSITES):
        word, right = _shuffled(rng, pair)
        others = [one for other in words.OPPOSITES if other != pair for one in other]
        yield Draft(f'Which word means the opposite of "{word}"?', right, rng.sample(others, 3))


def _plural(rng: random.Random) -> Drafts:
    for word, right in _shuffled(rng, words.PLURALS):
        stem = f"{word[:-1]}ies" if word.endswith("y") else f"{word}en"
        yield Draft(f'What is the plural of "{word}"?', right, _others(rng, right, f"{word}s", f"{word}es", stem, word))


def _past_tense(rng: random.Random) -> Drafts:
    for word, right in _shuffled(rng, words.PAST_TENSES):
        regular = f"{word}d" if word.endswith("e") else f"{word}ed"
        wrong = _others(rng, right, regular, f"{right}ed", word, f"{word}en")
        yield Draft(f'What is the simple past of the verb "{word}"?', right, wrong)


def _others(rng: random.Random, right: str, *texts: str) -> list[str]:
    """Return the first three that differ from the right one, in any order."""
    return _shuffled(rng, [text for text in dict.fromkeys(texts) if text != right][:3])


def _category(rng: random.Random) -> Drafts:
    members = [(name, word) for name, listed in words.CATEGORIES.items() for word in listed]
    for name, word in _shuffled(rng, members):
        others = rng.sample([one for one in words.CATEGORIES if one != name], 3)
        yield Draft(f'To which category does "{word}" belong?', name, others)


def _odd_one_out(rng: random.Random) -> Drafts:
    while True:
        name, other = rng.sample([*words.CATEGORIES], 2)
        alike, odd = rng.sample(words.CATEGORIES[name], 3), rng.choice(words.CATEGORIES[other])
        yield Draft(f"Which word does not belong with the others: {_listed(rng, [*alike, odd])}?", odd, alike)


def _translation(rng: random.Random) -> Drafts:
    entries = [(language, *pair) for language, pairs in words.TRANSLATIONS.items() for pair in pairs]
    for language, word, right in _shuffled(rng, entries):
        others = [other for _, other in words.TRANSLATIONS[language] if other != right]
        yield Draft(f'What is the {language} word for "{word}"?', right, rng.sample(others, 3))


def _negation(rng: random.Random) -> Drafts:
    while True:
        noun, other_noun = rng.sample(words.NOUNS, 2)
        adjective, other = rng.sample(words.ADJECTIVES, 2)
        wrong = (f"The {noun} is not {other}.", f"The {other_noun} is not {adjective}.", f"The {noun} is {other}.")
        question = f'Which sentence is the negation of "The {noun} is {adjective}."?'
        yield Draft(question, f"The {noun} is not {adjective}.", _shuffled(rng, wrong))


# ---------------------------------------------------------------- order and logic


def _order(rng: random.Random) -> Drafts:
    for first, second in _shuffled(rng, words.EVENTS):
        one, other = _shuffled(rng, (first, second))
        yield Draft(f'Which of these happened first: "{one}" or "{other}"?', first, (second,))


def _logic(rng: random.Random) -> Drafts:
    """Ask what follows from one or two statements about words that mean nothing."""
    while True:
        one, two, three = rng.sample(words.KINDS, 3)
        name, is_chain, is_so = rng.choice(words.NAMES), rng.random() < 0.5, rng.random() < 0.5
        last = three if is_chain else two
        known = f"Every {one} is a {two}. " if is_chain else ""
        rule = (
            f"Every {two if is_chain else one} is a {last}" if is_so else f"No {two if is_chain else one} is a {last}"
        )
        question = f"{known}{rule}. {name} is a {one}. Does it follow that {name} is a {last}?"
        yield Draft(question, "Yes" if is_so else "No", ("No" if is_so else "Yes",))


KINDS: Final[dict[str, Callable[[random.Random], Drafts]]] = {
    "larger": _larger,
    "sum": _sum,
    "difference": _difference,
    "first_letter": _first_letter,
    "last_letter": _last_letter,
    "alphabetical": _alphabetical,
    "num_letters": _num_letters,
    "num_words": _num_words,
    "opposite": _opposite,
    "plural": _plural,
    "past_tense": _past_tense,
    "category": _category,
    "odd_one_out": _odd_one_out,
    "translation": _translation,
    "negation": _negation,
    "order": _order,
    "logic": _logic,
}
"""The kinds of items by name, which are the subjects of the task."""

GENERAL: Final = Task(
    name=NAME,
    title="General abilities (made here, of no published set)",
    forms=(),
    show=show_options,
    ask=ASK_LETTER,
    trivial=("A",),
    making=Making(make=make_general, num_items=20, max_items=MAX_ITEMS),
    is_by_kind=True,
)
