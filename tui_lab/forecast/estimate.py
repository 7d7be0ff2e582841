"""The estimate of a recipe on one device before it runs, as a record and as sentences: memory against the
free memory, time, money and energy. The command line and the Setup pane both show it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from tui_lab.core.errors import LabError
from tui_lab.core.format import count, size
from tui_lab.core.sanitize import sanitize
from tui_lab.data.preview_records import PreviewFacts
from tui_lab.forecast import calibration
from tui_lab.forecast import cost as costs
from tui_lab.forecast import remedies as fit
from tui_lab.forecast.cost import Cost, DataFacts, EstimateRange
from tui_lab.forecast.fill_card import Filled, fill
from tui_lab.forecast.jobs import CalibrationRequest, JobDevice, MemoryProbeAnswer, MemoryProbeRequest
from tui_lab.forecast.memory import MemoryForecast, forecast
from tui_lab.forecast.remedies import FITS, OVER, LargestFit, Remedy
from tui_lab.hardware.memory_budget import MemoryBudget
from tui_lab.models import catalog
from tui_lab.models.catalog import Entry
from tui_lab.recipes.recipe import Recipe
from tui_lab.recipes.resolve import ResolvedValues, resolve


@dataclass(frozen=True)
class Probe:
    """The answer of the memory probe. ``total_bytes`` adds the device's context and fragmentation, from the
    formula."""

    peak_bytes: int
    total_bytes: int
    seconds: float
    phase: str


@dataclass(frozen=True)
class RunEstimate:
    """The estimate. ``memory`` is None where it is not known, and ``problem`` says why; likewise ``cost``.
    ``probe`` is set when the memory probe ran; ``filled``: the recipe as it is divided on the GPU, of which
    all figures are."""

    budget: MemoryBudget
    memory: MemoryForecast | None = None
    problem: str = ""
    cost: Cost | None = None
    cost_problem: str = ""
    probe: Probe | None = None
    filled: Filled | None = None

    def as_run(self, recipe: Recipe) -> Recipe:
        """``recipe`` as it is divided on the GPU."""
        return self.filled.recipe if self.filled else recipe

    @property
    def needed_bytes(self) -> int | None:
        """The bytes by the probe, else by the formula."""
        if self.probe is not None:
            return self.probe.total_bytes
        return self.memory.total_bytes if self.memory else None

    @property
    def verdict(self) -> str:
        """One of :mod:`tui_lab.forecast.remedies`'s."""
        free = self.budget.free_bytes
        if free is None or self.needed_bytes is None:
            return fit.UNKNOWN
        if self.probe is not None:  # its uncertainty is small against the formula's
            return FITS if self.probe.total_bytes <= free else OVER
        return fit.verdict(self.memory, free) if self.memory else fit.UNKNOWN


def estimate(
    recipe: Recipe, entry: Entry, values: ResolvedValues, budget: MemoryBudget, data: DataFacts | None = None
) -> RunEstimate:
    """The estimate for a recipe with its resolved ``values``, in a fraction of a millisecond. Never
    raises."""
    if entry.shape is None:
        problem = no_shape(entry)
        return RunEstimate(budget, problem=problem, cost_problem="not known before the model's sizes are")
    data = data or DataFacts()
    filled = fill(recipe, values, entry.shape, budget.device, budget.free_bytes, data)
    recipe, values = filled.recipe, filled.values
    memory, problem = None, ""
    try:
        memory = forecast(entry.shape, recipe, values, budget.kind)
    except LabError as error:
        problem = str(error)
    cost, cost_problem = None, ""
    try:
        cost = costs.estimate(
            entry.shape,
            recipe,
            values,
            budget.device,
            data=data,
            measured=calibration.find(budget.device, entry.shape, recipe, values),
        )
    except LabError as error:
        cost_problem = str(error)
    return RunEstimate(budget, memory, problem, cost, cost_problem, filled=filled)


def warm_up(budget: MemoryBudget) -> None:
    """Reads the tables for the first estimate, some tenths of a second: for a thread."""
    recipe, entry = Recipe(), catalog.find(catalog.POCKET)
    estimate(recipe, entry, resolve(recipe, budget.device, entry).values, budget)


def no_shape(entry: Entry) -> str:
    """Why memory and time of a model without known sizes are unknown."""
    if entry.model_type:
        return f"the layers of {sanitize(entry.model_type)} are not known here: count the exact memory"
    return "unknown until its files are downloaded; then the exact count can read them"


def with_probe(run_estimate: RunEstimate, answer: MemoryProbeAnswer) -> RunEstimate:
    """The estimate with the answer of :mod:`tui_lab.training.memory_probe`."""
    peak = answer.peak_bytes
    memory = run_estimate.memory
    if memory is not None:
        outside_torch = memory.total_bytes - memory.tensors_bytes
    else:
        from tui_lab.forecast.memory import CONTEXT_BYTES, PROCESS_BYTES

        outside_torch = (CONTEXT_BYTES if run_estimate.budget.kind == "cuda" else PROCESS_BYTES)[1]
    return replace(run_estimate, probe=Probe(peak, peak + outside_torch, answer.seconds, answer.phase))


def calibration_request(recipe: Recipe, data: DataFacts | None) -> CalibrationRequest:
    """The request of :mod:`tui_lab.training.calibrate`."""
    data = data or DataFacts()
    return CalibrationRequest(
        values=recipe.model_dump(), lengths=list(data.lengths), trained_share=data.trained_share or 1.0
    )


def probe_request(recipe: Recipe, budget: MemoryBudget) -> MemoryProbeRequest:
    """The request of :mod:`tui_lab.training.memory_probe`."""
    return MemoryProbeRequest(recipe=recipe.model_dump(), device=JobDevice(**asdict(budget.device)))


def data_of(facts: PreviewFacts) -> DataFacts:
    """The data as the preview measured it."""
    return DataFacts(
        rows=facts.train_rows or facts.rows or None,
        mean_tokens=facts.mean_tokens or None,
        trained_share=facts.trained_share or 1.0,
        lengths=tuple(facts.lengths),
    )


def hours_a_million(cost: Cost | None) -> EstimateRange | None:
    """Hours for a million tokens, where the speed is known."""
    if cost is None or cost.hours is None or not cost.tokens:
        return None
    return cost.hours.times(1e6 / cost.tokens)


# --------------------------------------------------------------------------------------------------
# as text


def total_text(memory: MemoryForecast) -> str:
    """``2.35 GiB (2.1 GiB to 2.9 GiB)``."""
    low, high = size(memory.low_bytes), size(memory.high_bytes)
    if low.split()[1] == high.split()[1]:
        low = low.split()[0]
    return f"{size(memory.total_bytes)} ({low} to {high})"


def short_free_text(budget: MemoryBudget) -> str:
    """``14.6 GiB free (GPU 1)``."""
    where = "RAM" if budget.kind == "cpu" else budget.label.split(":")[0] if ": " in budget.label else "GPU"
    return f"{size(budget.free_bytes)} free ({where})" if budget.free_bytes is not None else f"({where})"


def free_text(budget: MemoryBudget) -> str:
    """``14.6 GiB free now on GPU 1: NVIDIA L4``."""
    if budget.free_bytes is None:
        return f"how much is free on {budget.label} is not known"
    return f"{size(budget.free_bytes)} {budget.basis} {budget.label}"


def verdict_text(run_estimate: RunEstimate) -> str:
    """Whether it fits, in a few words."""
    free, needed = run_estimate.budget.free_bytes, run_estimate.needed_bytes
    if needed is None:
        return "memory not known"
    if free is None:
        return "free memory not known"
    match run_estimate.verdict:
        case "fits":
            return f"fits with {size(free - needed)} to spare"
        case "tight":
            assert run_estimate.memory is not None
            short = size(run_estimate.memory.high_bytes - free)
            return f"may fit: {size(free - needed)} to spare, or up to {short} short"
        case _:
            return f"does not fit: {size(needed - free)} short"


def line(run_estimate: RunEstimate) -> str:
    """The memory in one line."""
    if run_estimate.memory is None and run_estimate.probe is None:
        return f"memory: {run_estimate.problem}"
    figures = [f"exactly {size(run_estimate.probe.total_bytes)}"] if run_estimate.probe else []
    if run_estimate.memory is not None:
        figures.append(total_text(run_estimate.memory))
    return f"memory: {', '.join(figures)}, {free_text(run_estimate.budget)}: {verdict_text(run_estimate)}"


def nothing_helps(run_estimate: RunEstimate, remedies: Sequence[Remedy]) -> bool:
    """Whether no change makes the recipe fit. Changes are tried by the formula, so this is False where only
    the probe finds the recipe too large."""
    searched = (
        run_estimate.memory is not None
        and fit.verdict(run_estimate.memory, run_estimate.budget.free_bytes) == OVER
    )
    return searched and run_estimate.verdict == OVER and not remedies


def cost_line(run_estimate: RunEstimate) -> str:
    """Time, energy and money in one line, or why they are not known."""
    cost = run_estimate.cost
    if cost is None:
        return f"time: {run_estimate.cost_problem}"
    if cost.hours is None:
        return "time: unknown until the speed is measured here"
    hours, bound = cost.hours, "at most" in cost.tokens_basis  # the rows are not counted yet
    parts = [f"at most {time_text(EstimateRange(*[hours.high] * 3))}" if bound else time_text(hours)]
    if cost.kwh is not None:
        parts.append(f"{_figure(cost.kwh)} kWh")
    if cost.co2_kg is not None:
        parts.append(f"{_figure(cost.co2_kg)} kg CO₂")
    if cost.money is not None:
        parts.append(f"{_figure(cost.money)} {cost.currency}")
    how = "assumed speed" if cost.assumed else "measured speed"
    if cost.measured_by:
        how = f"as run {sanitize(cost.measured_by)} measured"
    return f"time: {', '.join(parts)}, {tokens_text(cost)} ({how})"


def tokens_text(cost: Cost) -> str:
    """The number of tokens that the costs are for."""
    if cost.tokens_basis.startswith("for each"):
        return f"for each {count(cost.tokens)} tokens"
    if "at most" in cost.tokens_basis:
        return f"{count(cost.tokens)} tokens if every row has the greatest length"
    return f"{count(cost.tokens)} tokens"


def time_text(hours: EstimateRange) -> str:
    """``12 to 40 min``."""
    for limit, unit, factor in ((2 / 60, "s", 3600), (2.0, "min", 60)):
        if hours.high < limit:
            return f"{_figure(hours.times(factor))} {unit}"
    return f"{_figure(hours)} h"


def _figure(interval: EstimateRange) -> str:
    """``0.3 to 1.2``."""
    if interval.high < 0.01:
        return "under 0.01"
    low, high = _plain(interval.low), _plain(interval.high)
    return low if low == high else f"{low} to {high}"


def _plain(value: float) -> str:
    """One or two digits, never in powers of ten."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def remedy_text(remedy: Remedy) -> str:
    """The memory with the remedy."""
    total = size(remedy.forecast.total_bytes)
    if remedy.sure:
        return f"{total}, {size(remedy.spare_bytes)} to spare"
    return f"{total}, which may fit"


def largest_text(largest: LargestFit, recipe: Recipe) -> str:
    """The largest batch and length whose upper bounds fit, in a line."""
    if not largest.batch and not largest.length:
        return "no batch size and no length is certain to fit"
    at = f"batch {largest.batch:,} at this length" if largest.batch else "no batch at this length"
    rows = recipe.per_device_train_batch_size
    length = f"{largest.length:,} tokens" if largest.length else "no length"
    limit = ", the model's maximum" if largest.length == largest.length_limit else ""
    return f"largest safe: {at}; {length} at batch {rows}{limit}"
