"""What a prompt is to a simulated replica: how many tokens, and the chained hashes of its blocks.

A text's tokens are (which paragraph, which position): equal paragraphs at equal places in equal prefixes are equal
tokens, which is what a fork that adds a paragraph to the last message needs. Views only grow at their end, so a turn
costs its new blocks and one look-up per message. What an episode brought is forgotten with it; texts that all share
(system texts, instructions) are kept in bounded caches. Knows nothing of replicas or time.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from engine.views import JOINT, Message

Segment: TypeAlias = tuple[int, int]  # what it is, and how many tokens

HEAD_TOKENS: Final = 3
TAIL_TOKENS: Final = 2
"""The template's glue before and after a message (ChatML: start, role, newline; end, newline)."""
MAX_TEXTS: Final = 1 << 16
MAX_ROOTS: Final = 1 << 12
MAX_COMMON: Final = 1 << 20

_HEADS: Final = {role: (hash(f"head {role}"), HEAD_TOKENS) for role in ("system", "user", "assistant")}
_TAIL: Final = (hash("tail"), TAIL_TOKENS)


class Chain:
    """Tokens up to some point: own full blocks, and what is left over of the block begun."""

    __slots__ = ("children", "fill", "hashes", "last", "num_tokens", "tail")

    def __init__(self, num_tokens: int, hashes: list[int], last: int, tail: tuple[int, ...], fill: int) -> None:
        self.num_tokens = num_tokens
        self.hashes = hashes
        self.last = last
        self.tail = tail
        self.fill = fill
        self.children: dict[tuple[str, str], Chain] = {}

    def grow(self, segments: Sequence[Segment], size: int) -> "Chain":
        """Return the chain after more segments; its `hashes` are those of the new blocks alone."""
        hashes: list[int] = []
        last, tail, fill, total = self.last, self.tail, self.fill, self.num_tokens
        for what, count in segments:
            total += count
            start = 0
            if fill:
                start = min(size - fill, count)
                tail = (*tail, what, 0, start)
                fill += start
                if fill < size:
                    continue
                last = hash((last, tail))
                hashes.append(last)
                tail, fill = (), 0
            end = start + (count - start) // size * size
            for position in range(start, end, size):
                last = hash((last, what, position))
                hashes.append(last)
            if end < count:
                tail, fill = (what, end, count), count - end
        return Chain(total, hashes, last, tail, fill)


EMPTY: Final = Chain(0, [], 0, (), 0)


class Prompt:
    """One request's tokens. `possible` is how many of them a cache that forgets nothing would have held."""

    __slots__ = ("_chain", "_completion", "_size", "hashes", "num_tokens", "possible")

    def __init__(self, chain: Chain, hashes: list[int], size: int, completion: Sequence[Segment]) -> None:
        self.num_tokens = chain.num_tokens
        self.hashes = hashes
        self.possible = 0
        self._chain = chain
        self._size = size
        self._completion = completion

    def grown(self, num_made: int) -> list[int]:
        """Return the hashes of the full blocks of the prompt and `num_made` completion tokens.

        The last token made is the end of the turn, or not yet computed: it opens no block that counts.
        """
        segments: list[Segment] = []
        left = num_made
        for what, count in self._completion:
            segments.append((what, min(count, left)))
            left -= count
            if left <= 0:
                break
        else:
            segments.append(_TAIL if left >= TAIL_TOKENS else (_TAIL[0], left))
        return self.hashes + self._chain.grow(segments, self._size).hashes


class _Tree:
    """What one episode brought: its chains, its completions' lengths, and every block it ever held."""

    __slots__ = ("known", "roots", "seen")

    def __init__(self) -> None:
        self.roots: dict[tuple[str, str], Chain] = {}
        self.known: dict[str, int] = {}
        self.seen: set[int] = set()


class Tokens:
    """One pool's texts as tokens. `count` measures a text."""

    def __init__(self, count: Callable[[str], int], block_size: int) -> None:
        self._count = count
        self._size = block_size
        self._texts: dict[str, tuple[Segment, ...]] = {}
        self._roots: dict[tuple[str, str], Chain] = {}
        self._trees: dict[str, _Tree] = {}
        # Blocks of what episodes begin with, in two generations: the older one is dropped when the younger is full.
        self._common: set[int] = set()
        self._older: set[int] = set()

    def count(self, text: str) -> int:
        """Return the tokens of a text that is nobody's completion."""
        return sum(tokens for _, tokens in self._segments(text, {}))

    def prompt(self, episode: str, messages: Sequence[Message], completion: str, num_tokens: int) -> Prompt:
        """Return the prompt that asks for the turn after `messages`, and note what the answer will be.

        The completion's text counts as exactly `num_tokens` tokens wherever it is seen again in this episode.
        """
        tree = self._trees.get(episode)
        if tree is None:
            tree = self._trees[episode] = _Tree()
        note_completion(tree.known, completion, num_tokens)
        chain, hashes = EMPTY, []
        for number, message in enumerate(messages[:-1]):
            place = (message.role, message.text)
            children = chain.children if number else tree.roots
            child = children.get(place)
            if child is None:
                child = children[place] = self._root(place) if not number else self._after(chain, message, tree)
            chain = child
            hashes += chain.hashes
        # The last message is often the tail of a fork: its chain is not kept, but made again if the view goes on.
        chain = self._after(chain, messages[-1], tree, _HEADS["assistant"])
        return self._finished(tree, chain, hashes, messages, completion)

    def completed(self, episode: str, prompt: Prompt, num_made: int) -> None:
        """Note that an answer was made: a cache that forgets nothing holds its blocks from now on."""
        tree = self._trees.get(episode)
        if tree is not None:
            tree.seen.update(prompt.grown(num_made)[len(prompt.hashes) :])

    def forget(self, episode: str) -> None:
        """Drop an episode."""
        self._trees.pop(episode, None)

    def _finished(
        self, tree: _Tree, last: Chain, hashes: list[int], messages: Sequence[Message], completion: str
    ) -> Prompt:
        hashes += last.hashes
        prompt = Prompt(last, hashes, self._size, self._segments(completion, tree.known))
        seen, common, older = tree.seen, self._common, self._older
        # Blocks are chained: whoever holds one has held all before it.
        held = bisect_left(hashes, True, key=lambda one: one not in seen and one not in common and one not in older)
        prompt.possible = min(held, (last.num_tokens - 1) // self._size) * self._size
        if len(messages) > 2:
            seen.update(hashes[held:])
        else:
            self._note_common(hashes)
        return prompt

    def _note_common(self, hashes: list[int]) -> None:
        if len(self._common) > MAX_COMMON:
            self._older, self._common = self._common, set()
        self._common.update(hashes)

    def _root(self, place: tuple[str, str]) -> Chain:
        """Return an episode's own copy of the chain of a first message; the hashes are shared by all episodes."""
        known = self._roots.get(place)
        if known is None:
            if len(self._roots) >= MAX_ROOTS:
                del self._roots[next(iter(self._roots))]
            role, text = place
            known = EMPTY.grow([_HEADS[role], *self._segments(text, {}), _TAIL], self._size)
            self._roots[place] = known
        return Chain(known.num_tokens, known.hashes, known.last, known.tail, known.fill)

    def _after(self, chain: Chain, message: Message, tree: _Tree, *more: Segment) -> Chain:
        segments = [_HEADS[message.role], *self._segments(message.text, tree.known), _TAIL, *more]
        return chain.grow(segments, self._size)

    def _segments(self, text: str, known: dict[str, int]) -> Sequence[Segment]:
        """Return the paragraphs of a text with their lengths."""
        if text in known:
            return ((hash(text), known[text]),)
        segments = self._texts.get(text)
        if segments is None:
            paragraphs = text.split(JOINT)
            own = [known.get(paragraph) for paragraph in paragraphs]
            segments = tuple(
                (hash(paragraph) + bool(number), (self._count(paragraph) if length is None else length) + bool(number))
                for number, (paragraph, length) in enumerate(zip(paragraphs, own, strict=True))
            )
            if all(length is None for length in own):
                if len(self._texts) >= MAX_TEXTS:
                    del self._texts[next(iter(self._texts))]
                self._texts[text] = segments
        return segments


def note_completion(known: dict[str, int], text: str, num_tokens: int) -> None:
    """Note a completion's length, shared out over its paragraphs by their size."""
    paragraphs = text.split(JOINT)
    left, chars = num_tokens, len(text)
    for paragraph in paragraphs[:-1]:
        share = min(left, round(num_tokens * len(paragraph) / chars))
        known[paragraph] = share
        left -= share
    known[paragraphs[-1]] = max(left - len(paragraphs) + 1, 0)
