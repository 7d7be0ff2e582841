"""The lockstep decoder: every lane of a playground in one batch. The prompt is read once for each model
that takes part; then each forward carries the rows of all lanes (one for greedy and sampling, n for beams,
k for contrastive candidates), which all stand at the same position, so one cache serves them without
padding or mask. Lanes that finish leave the batch. Every sampling lane draws from its own generator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from tui_lab.core.errors import LabError
from tui_lab.decoding.decoders import BeamPlayer, ContrastivePlayer, Player, SinglePlayer, Telling
from tui_lab.decoding.detokenize import Decode
from tui_lab.decoding.forward import VirtualTokens, prefill, step
from tui_lab.decoding.records import DecodingRecord, DecodingRequest, LaneResult
from tui_lab.decoding.sampling import BatchedSampler
from tui_lab.decoding.strategies import Beam, Contrastive


class Split(Protocol):
    """Adapters on parts of the batch (see ``adapters.AdapterSplit``)."""

    names: tuple[str, ...]

    def rows(self, counts: Sequence[int]) -> Any:
        """A context in which the first counts[0] rows are the base's, the next counts[1] the first
        adapter's, and so on."""


@dataclass
class Lockstep:
    """One batch of lanes over one set of weights. ``start`` reads the prompt, a ``step`` is one forward;
    records go to ``tell`` as they come. ``numbers`` are the lanes' numbers in the caller's counting;
    ``alone`` says that all lanes run on ``model`` as it is, whatever their names for it."""

    model: Any
    request: DecodingRequest
    decode: Decode
    tell: Callable[[DecodingRecord], None] = lambda record: None
    numbers: Sequence[int] | None = None
    split: Split | None = None
    virtual: VirtualTokens | None = None
    alone: bool = False
    clock: Callable[[], float] = time.perf_counter
    results: dict[int, LaneResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validate_request(self.request, self.model.config, self.virtual)
        self.active = True
        self._started = False

    def start(self) -> None:
        """Reads the prompt and takes every lane's first decision."""
        self._started = True
        request, model = self.request, self.model
        self._begun = self.clock()
        self._device = model.get_input_embeddings().weight.device
        numbers = self.numbers if self.numbers is not None else range(len(request.lanes))
        names = ("base", *(self.split.names if self.split else ()))
        origin = {name: at for at, name in enumerate(names)}
        source = {
            n: 0 if self.alone else origin[lane.on or "base"]
            for n, lane in zip(numbers, request.lanes, strict=True)
        }
        ordered = sorted(zip(numbers, request.lanes, strict=True), key=lambda item: source[item[0]])
        used = sorted(set(source.values()))
        self._telling = Telling(
            decode=self.decode, tell=self.tell, inspect=request.inspect, clock=self.clock, begun=self._begun
        )
        room = remaining_context(self.model.config, len(request.prompt_ids), self.virtual)
        limit = request.max_new_tokens if room is None else min(request.max_new_tokens, room)
        self._players: list[Player] = []
        for number, lane in ordered:
            maker: type[Player]
            if isinstance(lane.strategy, Beam) and lane.strategy.num_beams > 1:
                maker = BeamPlayer
            elif isinstance(lane.strategy, Contrastive) and not lane.strategy.greedy:
                maker = ContrastivePlayer
            else:
                maker = SinglePlayer
            player: Player = maker(number, lane, request, limit, self._telling, self._device)
            player.origin = source[number]
            self._players.append(player)
        self._want_hidden = any(isinstance(p, ContrastivePlayer) for p in self._players)

        prompt = torch.tensor(request.prompt_ids, device=self._device).expand(len(used), -1)
        counts = [int(at in used) for at in range(len(names))]
        with self._adapters(counts):
            read = prefill(model, prompt, want_hidden=self._want_hidden, virtual=self.virtual)
        self._cache = read.cache
        row_of = {at: row for row, at in enumerate(used)}
        origins = [row_of[p.origin] for p in self._players for _ in range(p.rows)]
        self._cache.fan_out(origins, self._cache.length + limit)
        self._lay_out()
        for player in self._players:
            if isinstance(player, ContrastivePlayer):
                assert read.hidden is not None
                player.read(read.hidden[row_of[player.origin]])
        self._feed = torch.zeros(len(origins), dtype=torch.long, device=self._device)
        with torch.inference_mode():
            self._decide(read.logits[torch.tensor(origins, device=self._device)], None)

    def step(self) -> None:
        """One forward of all rows and every lane's next decision; the first call starts."""
        if not self._started:
            self.start()
            return
        counts = [0] * (1 + len(self.split.names if self.split else ()))
        for player in self._players:
            counts[player.origin] += player.rows
        with self._adapters(counts):
            logits, hidden = step(self.model, self._feed, self._cache, want_hidden=self._want_hidden)
        with torch.inference_mode():
            self._decide(logits, hidden)

    def cancel(self) -> None:
        """Ends all lanes where they are."""
        if not self._started:
            self._players = []
            self._started = True
        for player in self._players:
            player.end("cancelled")
            self._finish(player)
        self._players = []
        self.active = False

    def _adapters(self, counts: list[int]) -> Any:
        return self.split.rows(counts) if self.split else nullcontext()

    def _lay_out(self) -> None:
        """Gives every lane its rows, in order, and groups those that are picked together."""
        first = 0
        for player in self._players:
            player.first = first
            first += player.rows
        singles = [p for p in self._players if isinstance(p, SinglePlayer)]
        self._singles = BatchedSampler(singles, self.request, self._device) if singles else None

    def _decide(self, logits: torch.Tensor, hidden: torch.Tensor | None) -> None:
        """Hands every lane its rows of logits (R, V) and hidden states (R, H) and collects what to feed."""
        if self._singles:
            self._singles.decide(logits, self._feed)
        for player in self._players:
            if not isinstance(player, SinglePlayer):
                player.decide(logits, hidden, self._feed, self._cache)
        ended = [p for p in self._players if p.finish_reason]
        if not ended:
            return
        for player in ended:
            self._finish(player)
        stay = [p for p in self._players if not p.finish_reason]
        rows = [row for p in stay for row in range(p.first, p.first + p.rows)]
        self._players = stay
        if not stay:
            self.active = False
            return
        self._cache.keep(rows)
        self._feed = self._feed[torch.tensor(rows, device=self._device)]
        self._lay_out()

    def _finish(self, player: Player) -> None:
        result = player.result()
        self.results[player.number] = result
        self.tell(result)


def decode_all(
    sessions: Iterable[Lockstep], cancelled: Callable[[], bool] = lambda: False
) -> list[LaneResult]:
    """Decodes all sessions, a step of each in turn so that all lanes stream; looks at ``cancelled`` before
    every step. The results are in the order of the lanes' numbers."""
    sessions = list(sessions)
    while any(s.active for s in sessions):
        for session in sessions:
            if not session.active:
                continue
            if cancelled():
                session.cancel()
            else:
                session.step()
    merged = {number: result for s in sessions for number, result in s.results.items()}
    return [merged[number] for number in sorted(merged)]


def context_length(config: Any) -> int | None:
    """Positions that the model was made for; None when its config does not say."""
    text = config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        if value := getattr(text, name, None):
            return int(value)
    return None


def remaining_context(config: Any, prompt_tokens: int, virtual: VirtualTokens | None = None) -> int | None:
    """New tokens for which there is room after the prompt; None when the context is not known."""
    context = context_length(config)
    # the last token is told without being fed, so it takes no position
    return None if context is None else context - prompt_tokens - (virtual.length if virtual else 0)


def validate_request(request: DecodingRequest, config: Any, virtual: VirtualTokens | None = None) -> None:
    """Raises LabError, with all mistakes at once, for what cannot be decoded."""
    found = []
    vocabulary = config.get_text_config(decoder=True).vocab_size
    if not request.prompt_ids:
        found.append("the prompt is empty: type at least one word (this model begins no text by itself)")
    elif not all(0 <= token < vocabulary for token in request.prompt_ids):
        found.append(
            f"the prompt has tokens beyond the model's vocabulary of {vocabulary}: "
            "tokenizer and model do not belong together"
        )
    if not request.lanes:
        found.append("there is no lane: add one strategy at least")
    if request.max_new_tokens < 1:
        found.append(f"max_new_tokens is at least 1, not {request.max_new_tokens}")
    room = remaining_context(config, len(request.prompt_ids), virtual)
    if room is not None and room < 1:
        found.append(
            f"the prompt has {len(request.prompt_ids)} tokens and the model's context is "
            f"{context_length(config)}: cut {1 - room} tokens or more from the prompt's start"
        )
    for number, lane in enumerate(request.lanes, 1):
        if lane.strategy.random and lane.seed is None:
            found.append(f"lane {number} ({lane.text}) draws and has no seed")
    if found:
        raise LabError("; ".join(found))
