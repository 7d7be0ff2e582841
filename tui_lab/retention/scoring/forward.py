"""Log-likelihoods of rows, several rows to one forward pass, with only the logits that are needed.

Works with any causal model of transformers, wrapped by peft or not. A hook feeds the output layer the hidden
states of the scored positions, so that the model itself applies its bias, scaling or soft cap. Whether a
model supports the attention mask of a prefix tree, whole and in blocks, is tested once on three short rows;
without support every row is a sequence of its own, which is slower, and a warning says so."""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy
import torch

from tui_lab.core.errors import LabError
from tui_lab.core.out_of_memory import is_out_of_memory
from tui_lab.core.sanitize import first_line, sanitize
from tui_lab.data.rows import Model
from tui_lab.retention.scoring import block_attention, prefix_tree
from tui_lab.retention.scoring.encode import ScoringRow
from tui_lab.retention.scoring.head import logits_in_blocks, positions_per_block
from tui_lab.retention.scoring.prefix_tree import Pack

#: `LogLikelihoodScorer.token_cost_ratio` as a multiple of the hidden size.
TOKEN_COST_RATIO = 3.0
#: Tokens of the widest pack: its mask, and with eager attention its scores, take the square of it.
MAX_PACK_WIDTH = 4096
#: Masks are padded to a multiple of this width, which the attention kernels of GPUs need.
_STEP = 8
#: The largest difference between log-probabilities from a tree and from single rows in the test. A model that
#: ignores the mask or the positions differs by much more than rounding.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_ROUGH_TOLERANCE = 0.2
#: What models raise that do not take position ids, a mask of four dimensions or a mask for each kind of
#: layer.
_UNSUPPORTED = (
    TypeError,
    ValueError,
    RuntimeError,
    IndexError,
    KeyError,
    AttributeError,
    NotImplementedError,
)

log = logging.getLogger(__name__)

#: Arguments of a forward pass: tensors, or one mask for each kind of layer.
ModelInputs: TypeAlias = dict[str, Any]


@runtime_checkable
class RowScorer(Protocol):
    """What scores rows; see :class:`LogLikelihoodScorer`. A model of another library that is one itself is
    asked directly."""

    warnings: list[str]
    supports_trees: bool
    max_width: int
    virtual_tokens: int
    token_cost_ratio: float

    def log_likelihoods(self, packs: Sequence[Pack]) -> list[list[float]]: ...


class LogLikelihoodScorer:
    """Scores rows with one causal language model.

    ``supports_trees`` tells whether rows that begin alike can share their beginning in one forward pass,
    ``max_width`` how many tokens a pack may have, ``virtual_tokens`` how many learned tokens stand before a
    row. ``warnings`` has a sentence where scoring is slower than it could be. Raises LabError for a model
    without an output layer over its vocabulary."""

    def __init__(self, model: Model) -> None:
        self.warnings: list[str] = []
        self._model = model
        self._base = model.get_base_model() if hasattr(model, "get_base_model") else model
        if self._base.get_output_embeddings() is None:
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
        #: The linear layers of one token cost about as much as attention to this many tokens: 10 H² products
        #: against 2 H and an exponential (measured on two small models; half or twice of it changes the time
        #: by less than a tenth).
        self.token_cost_ratio = TOKEN_COST_RATIO * int(config.hidden_size)
        sdpa = getattr(config, "_attn_implementation", "") == "sdpa"
        self.max_width = MAX_PACK_WIDTH if sdpa else MAX_PACK_WIDTH // 4
        self.virtual_tokens = virtual_token_count(model)
        #: The cost of one more attention call (`block_attention.CALL_COST`); None: packs are not split.
        self._call_cost: int | None = None
        self._plan: list[list[block_attention.Block] | None] = []
        self.supports_trees = not self.virtual_tokens and self._matches_single_rows("shared beginnings")
        if self.supports_trees and sdpa:
            self._call_cost = 1  # for the test: as many blocks as possible
            device = self._device.type
            cost = block_attention.CALL_COST.get(device, block_attention.GPU_CALL_COST)
            supports_blocks = self._matches_single_rows("attention in blocks")
            self._call_cost = cost if supports_blocks else None
            if supports_blocks and device == "cpu":
                self.token_cost_ratio = math.inf  # in blocks no token attends to another branch

    @property
    def uses_blocks(self) -> bool:
        """Whether the attention of wide packs is computed in blocks."""
        return self._call_cost is not None

    # --- scoring ----------------------------------------------------------------------------------

    def log_likelihoods(self, packs: Sequence[Pack]) -> list[list[float]]:
        """The log-likelihood (nats, ≤ 0) of the targets of every row of every pack, in one forward pass: the
        sum of their log-probabilities, natural, in float64."""
        nodes: dict[tuple[int, int], int] = {}
        wanted: list[tuple[int, int]] = []  # (index into nodes, target token)
        for at, pack in enumerate(packs):
            for row, read in zip(pack.rows, pack.reads, strict=True):
                for node, target in zip(read, row.targets, strict=True):
                    wanted.append((nodes.setdefault((at, node), len(nodes)), target))
        logprobs = iter(self._logprobs(packs, list(nodes), wanted))
        # summed in double precision: hundreds of float32 terms would differ from lm-evaluation-harness
        return [[math.fsum(next(logprobs) for _ in row.targets) for row in pack.rows] for pack in packs]

    def _logprobs(
        self, packs: Sequence[Pack], nodes: list[tuple[int, int]], wanted: list[tuple[int, int]]
    ) -> list[float]:
        """Log-probability of each wanted (node, token)."""
        order = sorted(range(len(wanted)), key=lambda i: wanted[i][0])
        of_node = [wanted[i][0] for i in order]  # rising
        at = torch.tensor(of_node)
        tokens = torch.tensor([wanted[i][1] for i in order])
        inputs = self._inputs(packs, max(pack.width for pack in packs))
        block = positions_per_block(self._device, self._vocabulary)
        # peft's own forward inserts the virtual tokens
        reader = self._model if self.virtual_tokens else self._base
        found: list[torch.Tensor] = []
        with block_attention.use_blocks(self._plan):
            blocks = logits_in_blocks(reader, self._base, inputs, torch.tensor(nodes), block)
            for begin, logits in zip(range(0, len(nodes), block), blocks, strict=True):
                first, last = bisect_left(of_node, begin), bisect_left(of_node, begin + block)
                rows = (at[first:last] - begin).to(logits.device)
                ids = tokens[first:last].to(logits.device)
                values = logits.float()  # (n, V); softmax in float32, as the harness
                found.append(values[rows, ids] - values.logsumexp(-1)[rows])
        values_in_order = torch.cat(found).tolist()  # the only transfer from the device
        back = [0.0] * len(wanted)
        for place, value in zip(order, values_in_order, strict=True):
            back[place] = value
        return back

    def _inputs(self, packs: Sequence[Pack], width: int) -> ModelInputs:
        branched = any(pack.branched for pack in packs)
        if branched:
            width = math.ceil(width / _STEP) * _STEP
        ids = numpy.zeros((len(packs), width), dtype=numpy.int64)
        for at, pack in enumerate(packs):
            ids[at, : pack.width] = pack.tokens
        inputs: ModelInputs = {"input_ids": torch.from_numpy(ids).to(self._device)}
        self._plan = []
        if not branched:
            return inputs  # padded on the right, which causal attention of the scored positions never sees
        if self._call_cost is not None:
            self._plan = [block_attention.plan_blocks(pack, self._call_cost) for pack in packs]
        depths = numpy.zeros((len(packs), width), dtype=numpy.int64)
        for at, pack in enumerate(packs):
            depths[at, : pack.width] = pack.depths
        inputs["position_ids"] = torch.from_numpy(depths).to(self._device)
        inputs["attention_mask"] = self._masks(prefix_tree.ancestor_mask(packs, width), depths)
        return inputs

    def _masks(self, mask: numpy.ndarray, depths: numpy.ndarray) -> torch.Tensor | dict[str, torch.Tensor]:
        """The mask in the form the model takes: one, or one for each kind of layer."""
        window = getattr(self._config, "sliding_window", None)
        kinds = set(getattr(self._config, "layer_types", None) or ())
        if "sliding_attention" in kinds:
            near = self._mask(prefix_tree.window_mask(mask, depths, int(window or len(mask))))
            return {"full_attention": self._mask(mask), "sliding_attention": near}
        if window and not kinds and getattr(self._config, "use_sliding_window", True):
            return self._mask(prefix_tree.window_mask(mask, depths, int(window)))
        return self._mask(mask)

    def _mask(self, mask: numpy.ndarray) -> torch.Tensor:
        seen = torch.from_numpy(mask).to(self._device)[:, None]  # (B, 1, T, T)
        if getattr(self._config, "_attn_implementation", "eager") == "sdpa":
            return seen
        lowest = torch.finfo(self._dtype).min
        return torch.zeros_like(seen, dtype=self._dtype).masked_fill_(~seen, lowest)

    # --- the test of support for trees ------------------------------------------------------------

    def _matches_single_rows(self, what: str) -> bool:
        """Whether three short rows in one tree get the log-likelihoods that they get alone.

        A model that does not is scored without ``what``; ``warnings`` and the log then say why.
        """
        rows = _test_rows(min(self._vocabulary, 1000))
        try:
            [tree] = prefix_tree.make_packs(rows, 64)
            shared = dict(
                zip([row.choice for row in tree.rows], self.log_likelihoods([tree])[0], strict=True)
            )
            single_packs = prefix_tree.make_packs(rows, 64, share=False)
            single = {pack.rows[0].choice: self.log_likelihoods([pack])[0][0] for pack in single_packs}
        except _UNSUPPORTED as error:
            if is_out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {first_line(error)}"
        else:
            tolerance = _TOLERANCE.get(self._dtype, _ROUGH_TOLERANCE) * 6
            difference = max(abs(shared[choice] - value) for choice, value in single.items())
            if difference <= tolerance:
                return True
            reason = f"the log-likelihoods differ by {difference:.2g} nats"
        kind = sanitize(str(self._config.model_type))
        text = f"{kind} models do not support {what}, so scoring is slower ({reason})"
        log.warning(text)
        self.warnings.append(text)
        return False


def _test_rows(vocabulary: int) -> list[ScoringRow]:
    """Three rows of 20 random tokens that share the first 14."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (32,), generator=generator).tolist()
    return [
        ScoringRow(0, n, tuple(ids[:14] + ids[14 + 6 * n : 20 + 6 * n]), tuple(ids[20 - 6 * n : 26 - 6 * n]))
        for n in range(3)
    ]


def virtual_token_count(model: Model) -> int:
    """The number of virtual tokens that an adapter inserts before each row (prompt, p- and prefix tuning)."""
    configs = getattr(model, "peft_config", None)
    if not configs or not hasattr(model, "get_base_model"):
        return 0
    active = configs.get(model.active_adapter) if isinstance(model.active_adapter, str) else None
    return int(active.num_virtual_tokens) if active is not None and active.is_prompt_learning else 0


@contextmanager
def evaluation_mode(model: Model) -> Iterator[None]:
    """Inside, every module is in evaluation mode; afterwards the modules that were in training are again."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
