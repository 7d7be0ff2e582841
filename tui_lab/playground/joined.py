"""Requests of several clients in one batch: what waits at the same time is decoded together, each request
with its own prompt, sampling, limit and stop strings. Every answer is sent when its own lanes have ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from tui_lab.core.errors import LabError
from tui_lab.decoding.forward import takes_positions
from tui_lab.decoding.records import DecodingRecord, DecodingRequest, LaneGroup, LaneResult
from tui_lab.decoding.session import BASE, DecodingSession, NotEnoughMemoryError
from tui_lab.playground.event_batcher import EventBatcher, lane_summary
from tui_lab.playground.messages import (
    Generated,
    GenerateRequest,
    GenerationEvent,
    LaneDone,
    PromptLength,
    PromptTooLongError,
    TooLong,
)
from tui_lab.playground.prompts import Prompters, prepared

#: Requests of one batch at most.
MOST_JOINED = 16


@dataclass(frozen=True)
class JoinedRequest:
    """A request with the client that waits for it. ``finish`` is called once, with its result or why there is
    none; ``abandoned``: whether the client has gone."""

    request: GenerateRequest
    emit: Callable[[PromptLength | GenerationEvent], None]
    finish: Callable[[Generated | TooLong | LabError], None]
    abandoned: Callable[[], bool]


class _Part:
    """A request in the batch. ``first``: the id of its first lane there; its client counts from 0."""

    def __init__(self, joined: JoinedRequest, prompt_ids: Sequence[tuple[int, ...]], first: int) -> None:
        self.joined, self.first = joined, first
        self.lane_ids = range(first, first + len(prompt_ids))
        self._ids = prompt_ids
        self._results: dict[int, float] = {}
        self._batcher = EventBatcher(joined.emit, self._summary)

    def add(self, record: DecodingRecord) -> None:
        """Takes a record of one of its lanes; the last result ends the request."""
        lane = record.lane - self.first
        if not isinstance(record, LaneResult):
            self._batcher.add(structs.replace(record, lane=lane))
            return
        tokens = tuple(structs.replace(token, lane=lane) for token in record.tokens)
        self._batcher.add(replace(record, lane=lane, tokens=tokens))
        if len(self._results) == len(self._ids):
            self.joined.finish(Generated(self._results))

    def _summary(self, result: LaneResult) -> LaneDone:
        done = lane_summary(result, self._ids[result.lane])
        self._results[result.lane] = done.perplexity_base
        return done


def generate_joined(
    session: DecodingSession, prompters: Prompters, requests: Sequence[JoinedRequest]
) -> None:
    """Decodes the requests together, or one after the other where the memory is too small for that. A request
    that cannot be decoded is finished with its error. Raises what fails while decoding, for all that are not
    finished."""
    parts: list[_Part] = []
    groups: list[LaneGroup] = []
    first = 0
    for each in requests:
        try:
            found = prepared(session.model, prompters, each.request)
            session.validate(found.groups)
        except PromptTooLongError as error:
            each.finish(error.length)
            continue
        except LabError as error:
            each.finish(error)
            continue
        each.emit(found.length)
        parts.append(_Part(each, found.prompt_ids, first))
        groups += [
            LaneGroup(group.request, tuple(first + lane for lane in group.lane_ids)) for group in found.groups
        ]
        first += len(found.prompt_ids)
    try:
        _decode(session, merged(session, groups), parts)
    except NotEnoughMemoryError:
        for part in parts:
            _decode(session, [group for group in groups if group.lane_ids[0] in part.lane_ids], [part])


def _decode(session: DecodingSession, groups: Sequence[LaneGroup], parts: Sequence[_Part]) -> None:
    part_of = {lane: part for part in parts for lane in part.lane_ids}

    def abandoned() -> set[int]:
        return {lane for part in parts if part.joined.abandoned() for lane in part.lane_ids}

    if groups:
        session.decode_groups(groups, lambda record: part_of[record.lane].add(record), abandoned=abandoned)


def merged(session: DecodingSession, groups: Sequence[LaneGroup]) -> list[LaneGroup]:
    """Groups whose lanes are greedy or sample, and end at the same tokens, as one batch; others as they are.
    Prompts of different lengths need models that take positions."""
    kept: list[LaneGroup] = []
    together: dict[tuple[frozenset[int], int], list[LaneGroup]] = {}
    for group in groups:
        request = group.request
        alone = request.inspect or any(
            lane.strategy.algorithm != "sampling" or _has_virtual_tokens(session, lane.on)
            for lane in request.lanes
        )
        if alone:
            kept.append(group)
        else:
            ragged = all(takes_positions(session.model_of(lane.on or BASE)) for lane in request.lanes)
            length = 0 if ragged else len(request.prompt_ids)
            together.setdefault((request.stop_ids, length), []).append(group)
    return kept + [found[0] if len(found) == 1 else _one_group(found) for found in together.values()]


def _has_virtual_tokens(session: DecodingSession, name: str) -> bool:
    adapter = session.adapters.get(name)
    return adapter is not None and adapter.virtual is not None


def _one_group(groups: Sequence[LaneGroup]) -> LaneGroup:
    each = [(group.request, number) for group in groups for number in range(len(group.request.lanes))]
    request = DecodingRequest(
        groups[0].request.prompt_ids,
        tuple(request.lanes[number] for request, number in each),
        max(request.max_new_tokens for request, _ in each),
        groups[0].request.stop_ids,
        lane_prompts=tuple(request.prompt_of(number) for request, number in each),
        lane_limits=tuple(request.limit_of(number) for request, number in each),
        lane_stops=tuple(request.stops_of(number) for request, number in each),
    )
    return LaneGroup(request, tuple(lane for group in groups for lane in group.lane_ids))
