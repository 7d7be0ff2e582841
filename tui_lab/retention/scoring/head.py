"""The output layer on chosen positions, a block of them at a time, so that the logits of a batch need little
memory and the layers below run once.

The model itself makes the logits of every block, with its bias, scaling and soft cap: a hook gives the output
layer the hidden states of the block, and for the blocks after the first one the layers below are not run
again, whatever lies between them and the output layer. The feed-forward part of the last layer, which sees
one position at a time, runs on the chosen positions alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers.utils.generic import ModelOutput

from tui_lab.data.rows import Model
from tui_lab.hardware.memory_budget import free_bytes

#: The most logits in memory at once, by device: 16 MiB in float32 on a CPU, 2 GiB on a card.
MAX_LOGITS = {"cpu": 2**22, "mps": 2**25, "cuda": 2**29}
#: Bytes of one logit while it is used: in the model's dtype, in float32, and a copy of that.
_LOGIT_BYTES = 12
#: Share of the free memory of a GPU that a block may take.
_MEMORY_SHARE = 0.25
#: Positions of a block at least: with fewer the output layer's matrix product is slow (on a CPU 32 positions
#: of 152,000 logits take 1.3 times as long as 220).
MIN_POSITIONS = {"cpu": 256}
_MIN_POSITIONS_GPU = 64
#: Above this share of chosen positions, leaving the others out of a layer saves less than the copies cost.
_MOST_CHOSEN = 0.8


def positions_per_block(device: torch.device, vocabulary: int) -> int:
    """The positions whose logits over the vocabulary are in memory at once."""
    most = MAX_LOGITS.get(device.type, MAX_LOGITS["cuda"])
    if device.type == "cuda":
        most = min(most, int((free_bytes("cuda") or 0) * _MEMORY_SHARE) // _LOGIT_BYTES)
    return max(MIN_POSITIONS.get(device.type, _MIN_POSITIONS_GPU), most // vocabulary)


@torch.no_grad()  # around each step of the generator: held over a yield it would leak into what runs between
def logits_in_blocks(
    reader: Model, model: Model, inputs: dict[str, Any], places: torch.Tensor, block: int
) -> Iterator[torch.Tensor]:
    """The logits (n, V) at ``places`` (N, 2: row, position) of a batch, in order, ``block`` at a time.

    ``model``: a causal language model of transformers; ``reader``: the model itself, or the adapter around it
    that inserts virtual tokens; ``inputs``: of its forward."""
    head, ids = model.get_output_embeddings(), inputs["input_ids"]
    places = places.to(ids.device)
    states = torch.empty(0)

    def first_block(hidden: torch.Tensor) -> torch.Tensor:
        """(B, T, H) → (1, n, H); ``states`` has all places for the later blocks."""
        nonlocal states
        before = hidden.shape[1] - ids.shape[1]  # virtual tokens
        states = hidden[places[:, 0], places[:, 1] + before]
        return states[None, :block]

    chosen = (
        _last_feed_forward_at(model, places, ids.shape[1])
        if len(places) < _MOST_CHOSEN * ids.numel()
        else nullcontext()
    )
    with _first_token_of_body(model) as outputs, head_input(head, first_block), chosen:
        logits = reader(**inputs, use_cache=False).logits[0]
    yield logits
    for begin in range(block, len(places), block):
        part = _constant(states[None, begin : begin + block])
        with _without_body(model, outputs), head_input(head, part):
            logits = reader(input_ids=ids[:1, :1], use_cache=False).logits[0]
        yield logits


def _constant(states: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda _: states


@contextmanager
def head_input(head: torch.nn.Module, select: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Inside, the output layer ``head`` gets ``select(states)`` as its input: (B, T, H) → (1, n, H)."""

    def before(_: object, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (select(args[0]), *args[1:])

    handle = head.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _last_feed_forward_at(model: Model, places: torch.Tensor, width: int) -> Iterator[None]:
    """Inside, the feed-forward part of the last layer runs on the positions ``places`` (N, 2) of rows of
    ``width`` tokens, after virtual ones; it gives zeros elsewhere. In models whose layers have it under
    another name than ``mlp`` it runs on all."""
    layers = getattr(model.base_model, "layers", None) or getattr(model.base_model, "h", None)
    part = getattr(layers[-1], "mlp", None) if isinstance(layers, torch.nn.ModuleList) else None
    if not isinstance(part, torch.nn.Module):
        yield
        return
    whole: list[torch.Tensor] = []

    def before(_module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor] | None:
        whole.clear()
        if len(args) != 1 or args[0].dim() != 3:
            return None
        whole.append(args[0])
        return (args[0][places[:, 0], places[:, 1] + args[0].shape[1] - width][None],)

    def after(module: torch.nn.Module, _args: object, output: object) -> object:
        if not whole:
            return output
        if not isinstance(output, torch.Tensor):  # a mixture of experts may return more
            return module.forward(whole.pop())
        rows, length = whole.pop().shape[:2]
        spread = output.new_zeros((rows, length, output.shape[2]))
        spread[places[:, 0], places[:, 1] + length - width] = output[0]
        return spread

    handles = (part.register_forward_pre_hook(before), part.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _first_token_of_body(model: Model) -> Iterator[list[Any]]:
    """Collects what the layers below the output layer return inside, reduced to the first token of the first
    row; nothing for a model that has them not in a module of its own."""
    outputs: list[Any] = []
    body = model.base_model
    if body is model:
        yield outputs
        return

    def collect(_module: torch.nn.Module, _args: object, output: object) -> None:
        if isinstance(output, ModelOutput) and isinstance(output.get("last_hidden_state"), torch.Tensor):
            outputs.append(type(output)(last_hidden_state=output["last_hidden_state"][:1, :1].clone()))
        elif isinstance(output, tuple) and isinstance(output[0], torch.Tensor):
            outputs.append((output[0][:1, :1].clone(),))

    handle = body.register_forward_hook(collect)
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def _without_body(model: Model, outputs: list[Any]) -> Iterator[None]:
    """Inside, the layers below the output layer return the last of ``outputs`` without being run; with no
    outputs they run."""
    if not outputs:
        yield
        return
    body, own = model.base_model, model.base_model.__dict__.get("forward")
    body.forward = lambda *_, **__: outputs[-1]
    try:
        yield
    finally:
        if own is None:
            del body.forward
        else:
            body.forward = own
