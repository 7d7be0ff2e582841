"""One forward of a batch of packs, and of its logits only those that are read. Works with any causal model
of transformers, wrapped by peft or not: the output layer is given the hidden states that matter, by a hook,
so that whatever a model does to its logits (bias, scaling, soft cap) is done by the model itself. Whether a
model understands a tree's mask, whole and by blocks, is tried out once; one that does not reads every row by
itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
import torch

from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.retention.scoring import block_attention, prefix_tree
from tui_lab.retention.scoring.encode import Row
from tui_lab.retention.scoring.prefix_tree import Pack

#: Logits in memory at once, in elements: 128 MiB in float32.
LOGITS_AT_ONCE = 2**25
#: See `Reader.reach`, by hidden size.
REACH = 3.0
#: The widest pack: its mask, and in some implementations its scores, are as large as the square of it.
WIDEST = 4096
#: Masks are as wide as a multiple of this: what the GPU's attention kernels want.
_STEP = 8
#: How far a tree's log-probabilities may lie from those of single rows in the trial. A model that ignores
#: the mask or the positions is off by much more than rounding.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_ROUGH_TOLERANCE = 0.2


class Reader:
    """Log-likelihoods of rows under one model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._head = self._base.get_output_embeddings()
        if self._head is None:
            raise LabError(
                f"models of type {self._base.config.model_type} have no output layer over their vocabulary, "
                "so their answers have no probabilities; choose a causal language model"
            )
        weights = self._base.get_input_embeddings().weight
        self._device, self._vocabulary = weights.device, int(weights.shape[0])
        self._dtype = next(
            (p.dtype for p in self._base.parameters() if p.dtype.is_floating_point), weights.dtype
        )
        config = self._base.config.get_text_config(decoder=True)
        self._config = config
        #: Attention to so many tokens costs about as much as the matrices of one: 10 H² products against 2 H
        #: and an exponential (tried on two small models; half or twice of it changes less than a tenth).
        self.reach = REACH * int(config.hidden_size)
        sdpa = getattr(config, "_attn_implementation", "") == "sdpa"
        self.width = WIDEST if sdpa else WIDEST // 4
        self.virtual_tokens = virtual_tokens(model)
        #: What one more call of attention costs (`scoring_blocks.CALL`); None: packs are not cut in blocks.
        self._call: int | None = None
        self._plan: list[list[block_attention.Block] | None] = []
        self.trees = not self.virtual_tokens and self._tree_trial()
        if self.trees and sdpa:
            self._call = 1  # as many blocks as there can be
            understood, device = self._tree_trial(), self._device.type
            self._call = (
                block_attention.CALL.get(device, block_attention.CALL_ELSEWHERE) if understood else None
            )
            if understood and device == "cpu":
                self.reach = math.inf  # by blocks nobody looks at what is not its own

    # --- reading ----------------------------------------------------------------------------------

    def read(self, packs: Sequence[Pack]) -> list[list[float]]:
        """The log-likelihood (nats) of every row of every pack, in one forward."""
        nodes: dict[tuple[int, int], int] = {}
        wanted: list[tuple[int, int]] = []  # (index into nodes, target token)
        for at, pack in enumerate(packs):
            for row, read in zip(pack.rows, pack.reads, strict=True):
                for node, target in zip(read, row.targets, strict=True):
                    wanted.append((nodes.setdefault((at, node), len(nodes)), target))
        logprobs = iter(self._logprobs(packs, list(nodes), wanted))
        # summed in double precision: a sum of hundreds of float32 would lose what the harness is compared to
        return [[math.fsum(next(logprobs) for _ in row.targets) for row in pack.rows] for pack in packs]

    def _logprobs(
        self, packs: Sequence[Pack], nodes: list[tuple[int, int]], wanted: list[tuple[int, int]]
    ) -> list[float]:
        """Log-probability of each wanted (node, token)."""
        order = sorted(range(len(wanted)), key=lambda i: wanted[i][0])
        at = torch.tensor([wanted[i][0] for i in order])
        tokens = torch.tensor([wanted[i][1] for i in order])
        places = torch.tensor(nodes)  # (N, 2): pack, position
        chunk = max(1, LOGITS_AT_ONCE // self._vocabulary)
        found: list[torch.Tensor] = []
        hidden: torch.Tensor | None = None
        width = max(pack.width for pack in packs)

        def chosen(states: torch.Tensor) -> torch.Tensor:
            """(B, T, H) → (1, n, H): the first chunk's states; all that are read are kept for later ones."""
            nonlocal hidden
            # virtual tokens may stand before the row
            before = states.shape[1] - inputs["input_ids"].shape[1]
            hidden = states[places[:, 0], places[:, 1] + before]
            return hidden[None, :chunk]

        inputs = self._inputs(packs, width)
        with torch.no_grad():
            for begin in range(0, len(nodes), chunk):
                end = min(begin + chunk, len(nodes))
                if begin == 0:
                    logits = self._logits(inputs, chosen)
                else:
                    assert hidden is not None
                    self._plan = []
                    one_token = {"input_ids": inputs["input_ids"][:1, :1]}
                    logits = self._logits(one_token, always(hidden[None, begin:end]))
                here = (at >= begin) & (at < end)
                rows, ids = at[here].to(logits.device) - begin, tokens[here].to(logits.device)
                values = logits[0].float()  # (n, V); softmax in float32, as the harness
                total = values.logsumexp(-1)
                found.append((values[rows, ids] - total[rows]).cpu())
        values_in_order = torch.cat(found).tolist()
        back = [0.0] * len(wanted)
        for place, value in zip(order, values_in_order, strict=True):
            back[place] = value
        return back

    def _inputs(self, packs: Sequence[Pack], width: int) -> dict[str, Any]:
        branched = any(pack.branched for pack in packs)
        if branched:
            width = math.ceil(width / _STEP) * _STEP
        ids = numpy.zeros((len(packs), width), dtype=numpy.int64)
        for at, pack in enumerate(packs):
            ids[at, : pack.width] = pack.tokens
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(ids).to(self._device)}
        self._plan = []
        if not branched:
            return inputs  # padded on the right, where nothing that is read can see it
        if self._call is not None:
            self._plan = [block_attention.blocks_of(pack, self._call) for pack in packs]
        depths = numpy.zeros((len(packs), width), dtype=numpy.int64)
        for at, pack in enumerate(packs):
            depths[at, : pack.width] = pack.depths
        inputs["position_ids"] = torch.from_numpy(depths).to(self._device)
        inputs["attention_mask"] = self._masks(prefix_tree.sees(packs, width), depths)
        return inputs

    def _masks(self, mask: numpy.ndarray, depths: numpy.ndarray) -> Any:
        """What the model takes as its mask: one, or one for each kind of its layers."""
        window = getattr(self._config, "sliding_window", None)
        kinds = set(getattr(self._config, "layer_types", None) or ())
        if "sliding_attention" in kinds:
            near = self._mask(prefix_tree.within(mask, depths, int(window or len(mask))))
            return {"full_attention": self._mask(mask), "sliding_attention": near}
        if window and not kinds and getattr(self._config, "use_sliding_window", True):
            return self._mask(prefix_tree.within(mask, depths, int(window)))
        return self._mask(mask)

    def _mask(self, mask: numpy.ndarray) -> torch.Tensor:
        seen = torch.from_numpy(mask).to(self._device)[:, None]  # (B, 1, T, T)
        if getattr(self._config, "_attn_implementation", "eager") == "sdpa":
            return seen
        lowest = torch.finfo(self._dtype).min
        return torch.zeros_like(seen, dtype=self._dtype).masked_fill_(~seen, lowest)

    def _logits(self, inputs: dict[str, Any], choose: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        with states_of(self._head, choose), block_attention.by_blocks(self._plan):
            # virtual tokens are put in by peft's own forward
            model = self._model if self.virtual_tokens else self._base
            logits: torch.Tensor = model(**inputs, use_cache=False).logits
        return logits

    # --- the trial --------------------------------------------------------------------------------

    def _tree_trial(self) -> bool:
        """Whether three short rows as a tree, by blocks where ``_call`` says so, get what they get alone."""
        ids = torch.randint(
            0, min(self._vocabulary, 1000), (32,), generator=torch.Generator().manual_seed(0)
        ).tolist()
        shared = tuple(ids[:14])
        rows = [
            Row(0, n, shared + tuple(ids[14 + 6 * n : 20 + 6 * n]), tuple(ids[20 - 6 * n : 26 - 6 * n]))
            for n in range(3)
        ]
        try:
            [tree] = prefix_tree.packs_of(rows, 64)
            together = dict(zip([row.choice for row in tree.rows], self.read([tree])[0], strict=True))
            alone = [self.read([pack])[0][0] for pack in prefix_tree.packs_of(rows, 64, share=False)]
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError):
            return False
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            return False
        tolerance = _TOLERANCE.get(self._dtype, _ROUGH_TOLERANCE) * 6
        in_order = sorted(rows, key=lambda row: row.tokens)
        return all(
            abs(together[row.choice] - value) <= tolerance for row, value in zip(in_order, alone, strict=True)
        )


def virtual_tokens(model: Any) -> int:
    """Virtual tokens that an adapter puts before each row (prompt, p- and prefix tuning); 0 for others."""
    configs = getattr(model, "peft_config", None)
    if not configs or not hasattr(model, "get_base_model"):
        return 0
    active = configs.get(model.active_adapter) if isinstance(model.active_adapter, str) else None
    return int(active.num_virtual_tokens) if active is not None and active.is_prompt_learning else 0


def always(states: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A choice for :func:`states_of` that does not look: the output layer is fed ``states``."""
    return lambda _: states


@contextmanager
def states_of(head: Any, choose: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """The output layer is fed what ``choose`` makes of the hidden states."""

    def before(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (choose(args[0]), *args[1:])

    handle = head.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode; a model in training goes back to it, module by module."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
