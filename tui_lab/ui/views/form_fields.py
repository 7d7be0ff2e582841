"""Which fields of a recipe the form has, in which order, which the filter finds, and which have no effect.
Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tui_lab.recipes.recipe import FIELDS
from tui_lab.recipes.resolve import METHODS_WITH_TARGETS
from tui_lab.recipes.rules import LORA_LIKE_METHODS, VIRTUAL_TOKEN_METHODS
from tui_lab.ui.views.fuzzy import best

#: The groups in the order of the form: what is changed most comes first.
GROUPS = (
    "training", "method", "data", "quantization", "measuring", "model", "against forgetting",
    "retention probe", "loss",
)  # fmt: skip
#: Groups that a first run does not need: closed until they are opened or contain a value that differs.
CLOSED_AT_FIRST = ("loss", "against forgetting", "retention probe")
#: The methods that use a field, where not all do.
USED_BY = {
    "lora_r": ("lora", "loha"),
    "lora_alpha": LORA_LIKE_METHODS,
    "lora_dropout": LORA_LIKE_METHODS,
    "target_modules": METHODS_WITH_TARGETS,
    "use_rslora": ("lora",),
    "use_dora": ("lora",),
    "init_lora_weights": ("lora",),
    "target_r": ("adalora",),
    "init_r": ("adalora",),
    "frozen_rank": ("lora",),
    "effective_rank": ("osf",),
    "num_virtual_tokens": VIRTUAL_TOKEN_METHODS,
}
#: Fields that Setup shows outside the form.
ELSEWHERE = frozenset({"model", "preset", "data"})


def in_order() -> list[str]:
    """The fields of the form in the order of its rows; a group that is not named here comes last."""
    order = {group: number for number, group in enumerate(GROUPS)}
    names = [name for name in FIELDS if name not in ELSEWHERE]
    return sorted(names, key=lambda name: order.get(FIELDS[name].group, len(order)))


def matching(query: str) -> frozenset[str]:
    """The fields whose name, label or help matches; the help counts where no name does."""
    found = best(query, in_order(), lambda name: (f"{FIELDS[name].label} {name}", FIELDS[name].help))
    return frozenset(found)


def set_in(groups: Collection[str], values: Mapping[str, object]) -> list[str]:
    """Fields of these groups whose value is not the default."""
    return [
        name
        for name, info in FIELDS.items()
        if info.group in groups and values.get(name, info.default) != info.default
    ]


def unused(name: str, values: Mapping[str, object]) -> str:
    """Why a field has no effect; "" where it has one."""
    method = values.get("method")
    if name == "num_train_epochs" and values.get("max_steps"):
        return "not used: max steps decides"
    if name in USED_BY and method not in USED_BY[name]:
        return f"not used by {method}"
    if name == "frozen_rank" and not values.get("from_run"):
        return "not used without go on from"
    if name in ("double_quantization", "unquantized_budget") and values.get("quantization") != "nf4":
        return "not used without nf4"
    return ""
