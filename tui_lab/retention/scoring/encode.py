"""Items as token rows, by the rules of lm-evaluation-harness (``lm_eval/api/model.py`` and ``utils.py``).

Spaces at the end of a context move to the continuation; both are encoded together and split at the length of
the encoded context; rows longer than the model's context are cut on the left; documents are split into
windows that do not overlap. No torch."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.data.rows import Model, Tokenizer
from tui_lab.decoding.context import context_length
from tui_lab.retention.suites.records import Item, Suite

#: The context of a model whose configuration names none: the default of lm-evaluation-harness.
DEFAULT_CONTEXT = 2048
_UNLIMITED = 10**12  # tokenizers without a limit give 10**30
#: Texts in one call of the tokenizer.
_TEXTS_AT_ONCE = 2048


@dataclass(frozen=True)
class ScoringRow:
    """One sequence to score: ``tokens`` are the input, and its last ``len(targets)`` tokens predict
    ``targets``.

    ``item`` is the index in the suite, ``choice`` that of the continuation or window.
    """

    item: int
    choice: int
    tokens: tuple[int, ...]
    targets: tuple[int, ...]
    cut: int = 0  # tokens removed on the left


def row_length(model: Model, tokenizer: Tokenizer, virtual_tokens: int = 0) -> int:
    """The most tokens of a row: the context of the model, else the limit of the tokenizer, else the default
    of lm-evaluation-harness, less the virtual tokens."""
    if (positions := context_length(model.config)) is not None:
        return positions - virtual_tokens
    limit = getattr(tokenizer, "model_max_length", None)
    found = int(limit) if limit is not None and limit < _UNLIMITED else DEFAULT_CONTEXT
    return found - virtual_tokens


class Encoder:
    """Encodes a suite's items with one tokenizer for a model of ``context`` positions."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context
        specials = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        self._prefix: int | None = next((token for token in specials if token is not None), None)
        self._prefix_text = "" if self._prefix is None else str(tokenizer.decode(self._prefix))
        #: Items with messages go through the chat template where the tokenizer has one.
        self.chat = bool(tokenizer.chat_template)

    def rows(self, suite: Suite, indices: Sequence[int]) -> list[ScoringRow]:
        """The rows of these items. Raises LabError for an item that cannot be scored."""
        if suite.kind == "perplexity":
            return [row for at in indices for row in self._document(suite, at)]
        return self._pairs(suite, indices)

    # --- pairs ------------------------------------------------------------------------------------

    def _pairs(self, suite: Suite, indices: Sequence[int]) -> list[ScoringRow]:
        pairs: list[tuple[int, int, str, str]] = []  # item, choice, context, continuation
        for at in indices:
            item = suite.items[at]
            context, continuations = self._texts(item)
            own = item.contexts or [context] * len(continuations)
            for n, (before, text) in enumerate(zip(own, continuations, strict=True)):
                stripped = before.rstrip()
                pairs.append((at, n, stripped, before[len(stripped) :] + text))
        contexts = list(dict.fromkeys(context for _, _, context, _ in pairs))
        encoded = dict(zip(contexts, self._encode(contexts), strict=True))
        joined_rows = self._encode([context + text for _, _, context, text in pairs])
        return [
            self._row(suite, at, n, encoded[context], joined)
            for (at, n, context, _), joined in zip(pairs, joined_rows, strict=True)
        ]

    def _texts(self, item: Item) -> tuple[str, tuple[str, ...]]:
        """Context and continuations; in a chat the continuation has no leading space."""
        if not (self.chat and item.messages):
            return item.context, item.continuations
        return self.chat_text(item), tuple(text.removeprefix(" ") for text in item.continuations)

    def chat_text(self, item: Item) -> str:
        """The item's messages rendered by the chat template, with the generation prompt."""
        from tui_lab.data import row_tokens

        return row_tokens.prompt_text(self._tokenizer, item.messages)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text; a text that spells out its start token gets no second one."""
        found: list[list[int]] = []
        for begin in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[begin : begin + _TEXTS_AT_ONCE])
            starts = [bool(self._prefix_text) and text.startswith(self._prefix_text) for text in part]
            plain = iter(self._batch([t for t, has in zip(part, starts, strict=True) if not has], True))
            begun = iter(self._batch([t for t, has in zip(part, starts, strict=True) if has], False))
            found += [next(begun) if has else next(plain) for has in starts]
        return found

    def _batch(self, texts: list[str], special: bool) -> Iterable[list[int]]:
        if not texts:
            return []
        batch = self._tokenizer(
            texts,
            add_special_tokens=special,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        found: list[list[int]] = batch["input_ids"]
        return found

    def _row(self, suite: Suite, at: int, choice: int, context: list[int], joined: list[int]) -> ScoringRow:
        split = len(context)
        if split >= len(joined):
            # The tokenizer merged the continuation into the last token of the context (lm-evaluation-harness
            # stops here): the tokens after the common beginning are scored, and at least the last one.
            split = shared_prefix_length(context, joined)
            split = min(split, len(joined) - 1)
        if split <= 0:
            if self._prefix is None:
                raise LabError(
                    f"{_name(suite, at)} has an empty context, and the tokenizer has no start token "
                    "to put there; give the item a question"
                )
            joined, split = [self._prefix, *joined], 1
        targets = joined[split:]
        if len(targets) > self._context:
            raise LabError(
                f"{_name(suite, at)} has an answer of {len(targets):,} tokens, more than the "
                f"{self._context:,} that this model reads at once; take the item out of the suite"
            )
        window = joined[-(self._context + 1) :]
        return ScoringRow(at, choice, tuple(window[:-1]), tuple(targets), len(joined) - len(window))

    # --- documents --------------------------------------------------------------------------------

    def _document(self, suite: Suite, at: int) -> list[ScoringRow]:
        [tokens] = self._encode([suite.items[at].continuations[0]])
        if not tokens:
            raise LabError(f"{_name(suite, at)} is empty; take it out of the suite")
        if self._prefix is None:
            raise LabError(
                "the tokenizer has neither a start nor an end token, so the first token of a document has no "
                "probability; score a suite of questions instead"
            )
        return [
            ScoringRow(at, n, tuple(read), tuple(targets))
            for n, (read, targets) in enumerate(windows(tokens, self._prefix, self._context))
        ]


def windows(tokens: Sequence[int], prefix: int, length: int) -> list[tuple[list[int], list[int]]]:
    """A document as (input, targets) windows of at most ``length`` tokens: each token is a target once.

    The first token is predicted from ``prefix``; the last window has as much context as fits.
    """
    tokens = list(tokens)
    first = tokens[:length]
    found = [([prefix, *first[:-1]], first)]
    done = len(first)
    while done < len(tokens):
        end = min(done + length, len(tokens))
        found.append((tokens[max(end - length - 1, 0) : end - 1], tokens[done:end]))
        done = end
    return found


def shared_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common beginning, found by bisection over slices."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    return bisect.bisect_left(range(1, most + 1), True, key=lambda n: one[:n] != other[:n])


def _name(suite: Suite, at: int) -> str:
    return f"suite {sanitize(suite.name)}: item {sanitize(suite.items[at].id)}"
