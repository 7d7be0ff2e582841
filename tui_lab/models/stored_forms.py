"""The forms in which a model folder stores its weights: plain, or quantised before they were saved.

bitsandbytes' 4-bit and 8-bit weights stay as they are stored; FP8 weights are read as plain ones. GPTQ and
AWQ are read where the packages that transformers needs for them are installed. Any other form is refused:
without its own configuration transformers would leave its layers random. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal

from tui_lab.core.sanitize import sanitize

StoredForm = Literal["plain", "bnb4", "bnb8", "fp8", "gptq", "awq"]

#: For people: how the weights of a form are used.
DESCRIPTIONS: dict[StoredForm, str] = {
    "plain": "plain weights",
    "bnb4": "the weights are stored in 4 bits by bitsandbytes and stay so",
    "bnb8": "the weights are stored in 8 bits by bitsandbytes and stay so",
    "fp8": "the weights are stored in FP8 and are read as plain weights",
    "gptq": "the weights are stored by GPTQ and stay so",
    "awq": "the weights are stored by AWQ and stay so",
}
#: Forms that stay as they are stored and cannot become plain weights, with the packages that read them.
READERS: dict[StoredForm, tuple[str, ...]] = {
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel", "accelerate"),
}


class UnreadableForm(ValueError):
    """A form that the lab does not read; ``str(error)`` continues a sentence about the model."""


def stored_form(config: Mapping[str, object]) -> StoredForm:
    """The form of the weights by the values of ``config.json``. Raises UnreadableForm."""
    found = config.get("quantization_config")
    if found is None or found == {}:
        return "plain"
    if not isinstance(found, Mapping):
        raise UnreadableForm("has a quantization_config that is no object; get its config.json again")
    method = str(found.get("quant_method") or "").lower()
    four, eight = (bool(found.get(key) or found.get(f"_{key}")) for key in ("load_in_4bit", "load_in_8bit"))
    if method in ("", "bitsandbytes") and four != eight:
        return "bnb4" if four else "bnb8"
    if method == "fp8":
        return "fp8"
    for form, packages in READERS.items():
        if method != form:
            continue
        if missing := [package for package in packages if find_spec(package) is None]:
            raise UnreadableForm(
                f"is stored in the quantised form {form}, which is read by {' and '.join(missing)}: install "
                f"{'it' if len(missing) == 1 else 'them'}, or take the original model"
            )
        return form
    raise UnreadableForm(
        f"is stored in the quantised form {sanitize(method[:40]) or '(no name)'}, which the lab does not "
        "read: take the original model, or one in bitsandbytes' 4 or 8 bits or in FP8"
    )
