"""``tui-lab generate``: one prompt with several decoding strategies at once. On a terminal all lanes decode
together and are printed one after the other; a pipe gets plain text or one JSON object."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET, Struct, UnsetType

from tui_lab.cli.conversation import Conversation, valid_text
from tui_lab.cli.interrupt import interruptible
from tui_lab.cli.output import Answer, downloads_noted, json_line, note
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding import strategies
from tui_lab.decoding.records import (
    DecodingRecord,
    DecodingSpeed,
    FinishReason,
    LaneResult,
    TokenRecord,
)
from tui_lab.hardware.memory_budget import take_gpu
from tui_lab.models import catalog, download
from tui_lab.playground.messages import ChatTurn, GenerateRequest, with_answers
from tui_lab.playground.names import lane_name
from tui_lab.runs import inputs
from tui_lab.runs.folder import Run
from tui_lab.runs.references import ModelReference, adapter_target, model_target

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tui_lab.decoding.session import DecodingSession
    from tui_lab.playground.prompts import EncodedPrompt, Prompters


class GeneratedLane(Struct, kw_only=True, frozen=True):
    """What one strategy generated. ``on``: base, or the name of an adapter's run; ``logprobs``: natural
    logarithms of the model's own probabilities, before warping; ``turns``: what was said before."""

    strategy: str
    parameters: dict[str, object]
    seed: int | None
    on: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str
    logprobs: list[float]
    finish_reason: FinishReason
    tok_per_s: float
    first_token_s: float
    turns: tuple[ChatTurn, ...] | UnsetType = UNSET


class Generation(Answer, tag="generation", kw_only=True, frozen=True):
    """One prompt continued by every lane."""

    model: str
    adapters: list[str]
    raw: bool
    thinking: str
    lanes: list[GeneratedLane]
    speed: DecodingSpeed | None


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError for invalid input."""
    lanes = _lanes(args)
    if args.max_new_tokens < 1:
        raise LabError(f"--max-new-tokens must be at least 1, not {args.max_new_tokens}")
    if args.raw and args.system:
        raise LabError("--system needs the chat template, which --raw omits: use one of them")
    chat = Conversation.of(args)
    runs_dir = args.runs_dir
    with downloads_noted():
        adapters = [adapter_target(name, runs_dir, args.allow_large) for name in args.adapter]
        model = model_target(args.model, runs_dir, args.allow_large, adapters)
        for each in (model, *(adapter for adapter in adapters if adapter.adapter is None)):
            download.ensure(each.location, each.revision)
    for target in (model, *adapters):
        changes = inputs.changed_of_reference(target, model.location, model.revision)
        for sentence in inputs.require_unchanged(changes, sanitize(target.name)):
            note(sentence)

    from tui_lab.data.templates import load_for
    from tui_lab.models.loading import quiet_libraries
    from tui_lab.playground.prompts import Prompters, encode_lanes, lane_groups

    # decided before the slow part
    terminal = sys.stdout.isatty() and not args.json
    results: list[LaneResult] = []
    encoded: list[EncodedPrompt] = []
    interrupted = False
    turns = tuple(chat.turns for _ in lanes)
    with quiet_libraries():
        if sys.stderr.isatty():
            note(f"loading {sanitize(model.location)} …")
        prompters = Prompters(load_for(model.location, model.revision))
        session, names = _load_session(args, model, adapters, prompters)
        if not args.raw and not prompters.of().has_template:
            note("this model has no chat template: a plain one is used; --raw omits it")
        lanes = _with_models(lanes, names)
        texts = tuple(lane.text for lane in lanes)
        stop = tuple(valid_text(text, "--stop") for text in args.stop if text)
        for prompt in chat.prompts():
            request = GenerateRequest(
                prompt, texts, chat.system, args.raw, args.thinking, args.max_new_tokens, stop, turns=turns
            )
            encoded = encode_lanes(session.model, prompters, request, lanes)
            printer = LanePrinter(lanes) if terminal else None
            on_record: Callable[[DecodingRecord], None] = printer.on_record if printer else _ignore
            groups = lane_groups(request, lanes, encoded)
            with interruptible() as cancelled:
                results = list(session.decode_groups(groups, on_record, cancelled).values())
                interrupted = cancelled()
            if not terminal and not args.json:
                _print_plain(results)
            if chat.continues:
                turns = with_answers(request, [result.text for result in results])
            if interrupted:
                break
    if args.json:
        _print_json(args, model, results, [tuple(p.ids) for p in encoded], turns, session.speed)
    elif terminal and session.speed and session.speed.parts:
        note(sanitize(" · ".join(session.speed.parts)))
    return 130 if interrupted else 0


def _ignore(_: DecodingRecord) -> None:
    """For output that is printed at the end."""


def _lanes(args: argparse.Namespace) -> tuple[strategies.Lane, ...]:
    if args.lanes and args.lanes not in strategies.PRESETS:
        raise LabError(f"--lanes {sanitize(args.lanes)!r}: the sets are {', '.join(strategies.PRESETS)}")
    found = (*(strategies.PRESETS[args.lanes] if args.lanes else ()), *strategies.parse_all(args.lane))
    # unset seeds differ from call to call and are printed
    return strategies.with_seeds(found or (strategies.Lane(),), time.time_ns() % 1_000_000)


def _load_session(
    args: argparse.Namespace,
    model: ModelReference,
    adapters: list[ModelReference],
    prompters: Prompters,
) -> tuple[DecodingSession, list[str]]:
    """Loads everything, also how each is prompted; the session, and the names of the models that lanes can
    run on besides the base."""
    from tui_lab.decoding.session import DecodingSession
    from tui_lab.hardware.cuda_support import torch_device
    from tui_lab.models.loading import NO_QUANTIZED, ModelSource, Precision, has_quantized, load_model

    quantization = "nf4" if args.four_bit else args.quantization
    if quantization != "none" and not has_quantized(torch_device()):
        note(NO_QUANTIZED)

    def weights(target: ModelReference) -> PreTrainedModel:
        return load_model(
            ModelSource(target.location, target.revision),
            Precision(args.dtype, quantization),
            allow_large=args.allow_large,
        )

    take_gpu()
    source = ModelSource(model.location, model.revision)
    session = DecodingSession(weights(model), prompters.own.tokenizer)
    catalog.check_size(model.location, session.model.num_parameters(), args.allow_large)
    # a run as --model includes its adapter
    wanted = ([model] if model.adapter else []) + adapters
    names: list[str] = []
    for target in wanted:
        name = _name(target, names)
        if target.adapter is None:
            session.add_model(name, weights(target))
        else:
            session.add_adapter_or_copy(name, target.adapter, lambda: weights(model))
        prompters.add(name, source, target.saved)
        session.use_tokenizer(name, prompters.of(name).tokenizer)
        names.append(name)
    return session, names


def _name(target: ModelReference, taken: Sequence[str]) -> str:
    """What lanes call a run's weights: the short name of the run; "tuned" for weights of no run."""
    run = Path(target.adapter or target.location).parent
    if (run / "recipe.toml").is_file():
        return lane_name(Run(run), taken)
    return next(name for n in count(1) if (name := "tuned" if n == 1 else f"tuned{n}") not in taken)


def _with_models(lanes: tuple[strategies.Lane, ...], names: list[str]) -> tuple[strategies.Lane, ...]:
    """Lanes without a model run on the first adapter, where there is one. "tuned", "tuned1" and "tuned2"
    name them by their order, too."""
    ordered = {f"tuned{number}": name for number, name in enumerate(names, 1)}
    by_order = {"": names[0], "tuned": names[0], **ordered} if names else {}
    return tuple(
        replace(lane, on=lane.on if lane.on in names else by_order.get(lane.on, lane.on)) for lane in lanes
    )


def _heading(lane: strategies.Lane) -> str:
    return f"── {sanitize(lane.text)} ──"


class LanePrinter:
    """Prints lanes one below the other: the first unfinished one live, then the next."""

    def __init__(self, lanes: tuple[strategies.Lane, ...]) -> None:
        self._lanes = lanes
        self._pending: dict[int, list[str]] = {n: [] for n in range(len(lanes))}
        self._results: dict[int, LaneResult] = {}
        self._current = 0
        self._has_heading = False

    def on_record(self, record: DecodingRecord) -> None:
        if isinstance(record, TokenRecord):
            self._pending[record.lane].append(record.text)
        elif isinstance(record, LaneResult):
            self._results[record.lane] = record
        else:
            return
        self._print()

    def _print(self) -> None:
        while self._current < len(self._lanes):
            if not self._has_heading:
                print(_heading(self._lanes[self._current]))
                self._has_heading = True
            text = "".join(self._pending[self._current])
            self._pending[self._current].clear()
            print(sanitize(text, keep_newlines=True), end="", flush=True)
            result = self._results.get(self._current)
            if result is None:
                return
            ending = f"{len(result.token_ids)} tokens, {result.tok_per_s:.1f} tok/s, {result.finish_reason}"
            print(f"\n[{ending}]\n", flush=True)
            self._current += 1
            self._has_heading = False


def _print_plain(results: list[LaneResult]) -> None:
    """The text alone; with headings for several lanes."""
    for result in results:
        if len(results) > 1:
            print(_heading(result.description))
        print(result.text)


def _print_json(
    args: argparse.Namespace,
    model: ModelReference,
    results: list[LaneResult],
    prompt_ids: Sequence[tuple[int, ...]],
    turns: Sequence[tuple[ChatTurn, ...]],
    speed: DecodingSpeed | None,
) -> None:
    lanes = [
        GeneratedLane(
            strategy=r.description.strategy.name,
            parameters=strategies.parameters(r.description.strategy),
            seed=r.description.seed if r.description.strategy.random else None,
            on=r.description.on or "base",
            prompt_token_ids=tuple(prompt_ids[r.lane]),
            token_ids=r.token_ids,
            text=r.text,
            logprobs=[t.logprob for t in r.tokens],
            finish_reason=r.finish_reason,
            tok_per_s=round(r.tok_per_s, 3),
            first_token_s=round(r.first_token_s, 4),
            turns=turns[r.lane] if any(turns) else UNSET,
        )
        for r in results
    ]
    json_line(
        Generation(
            model=model.location,
            adapters=args.adapter,
            raw=args.raw,
            thinking=args.thinking,
            lanes=lanes,
            speed=speed,
        )
    )
