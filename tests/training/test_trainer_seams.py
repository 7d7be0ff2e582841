"""The private parts of the libraries that training depends on are those that it was written against."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest

from tui_lab.training import trainer_seams
from tui_lab.training.trainer_seams import SEAMS, Seam, SeamTrainer


def source_of(target: str) -> tuple[str, str, int]:
    """Source, file and line of ``module:qualified name``; of a module constant the line that assigns it."""
    module_name, _, path = target.partition(":")
    module = importlib.import_module(module_name)
    found: object = module
    for part in path.split("."):
        found = getattr(found, part)
    if callable(found) and hasattr(found, "__code__"):
        lines, line = inspect.getsourcelines(found)
        return textwrap.dedent("".join(lines)), str(module.__file__), line
    text = Path(str(module.__file__)).read_text(encoding="utf-8").splitlines()
    at = next(i for i, each in enumerate(text) if re.match(rf"{re.escape(path)}\b.*=", each))
    return text[at], str(module.__file__), at + 1


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def changed(seam: Seam) -> str:
    """Why a seam has to be looked at again, as a sentence; "" where it is as it was."""
    package = seam.target.partition(".")[0]
    release = f"{package} {version(package)}"
    try:
        text, file, line = source_of(seam.target)
    except (AttributeError, StopIteration, ImportError, OSError) as error:
        return f"{release} has no {seam.target} any more ({error}); it is needed for: {seam.use}"
    where = f"{package}/{Path(file).relative_to(_root(package))}:{line}"
    if digest(text) != seam.digest:
        return (
            f"{release} changed {seam.target} (now {where}, digest {digest(text)}); "
            f"compare it with {seam.where} "
            f"of the release before, mend tui_lab/training/trainer_seams.py ({seam.use}), "
            "then write the new line and digest there"
        )
    if where != seam.where:
        return (
            f"{release} moved {seam.target} from {seam.where} to {where}, unchanged: write the new line there"
        )
    return ""


def _root(package: str) -> Path:
    return Path(str(importlib.import_module(package).__file__)).parent


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.target)
def test_seam_has_not_changed(seam: Seam) -> None:
    assert not (sentence := changed(seam)), sentence


def test_every_private_override_is_listed() -> None:
    listed = {re.split("[.:]", seam.target)[-1] for seam in SEAMS}
    overridden = {name for name in vars(SeamTrainer) if re.match(r"_[a-z]", name)}
    assert overridden - {"_abc_impl"} <= listed
    used = set(re.findall(r"(?:self|args|scheduler|trl_utils|module)\.(_[a-z]\w*|_[A-Z]\w+)",
                          inspect.getsource(trainer_seams)))  # fmt: skip
    assert used <= listed | {"_metrics", "_total_train_tokens", "_signature_columns", "_n_gpu", "_last_lr",
                             "_train_batch_size", "_parameters", "_buffers"}  # fmt: skip


@pytest.mark.parametrize(
    ("seam", "sentence"),
    [
        (
            Seam("trl.trainer.sft_trainer:SFTTrainer._gone", "", "", "a test"),
            "has no trl.*needed for: a test",
        ),
        (Seam("trl.trainer.sft_trainer:SFTTrainer.training_step", "x:1", "0", "a test"), "changed trl"),
    ],
)
def test_a_moved_seam_is_named_in_a_sentence(seam: Seam, sentence: str) -> None:
    assert re.search(sentence, changed(seam))
