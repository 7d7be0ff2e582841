"""Tests of answers that are code: a row may bring them, and an answer passes when its program does, in a
sandbox (:mod:`tui_lab.core.sandbox`). Rows are read in the shapes of HumanEval (Chen et al. 2021: ``prompt``,
``test``, ``entry_point``), MBPP (Austin et al. 2021: ``test_list``, ``test_setup_code``) and with a column
``tests``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tui_lab.core import sandbox
from tui_lab.data.cells import structure_of
from tui_lab.data.column_plan import Row
from tui_lab.data.rows import BadRow, CodeTests

#: The name of the score.
PASS = "pass_at_1"
_FENCE = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\d?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
#: Where HumanEval ends the completion of a function.
_AFTER_FUNCTION = re.compile(r"\n(?:class|def|#|@|if|print)")


def tests_of(row: Row, prompt: str) -> CodeTests | None:
    """The tests of a row; None where the set has none. ``prompt``: the beginning of the function that an
    ``entry_point`` names. Raises BadRow for a row without tests in a set that has them."""
    if not row.plan.roles.get("tests"):
        return None
    after = code_of(row, "tests")
    if not after.strip():
        raise BadRow("it has no tests")
    entry_point = row.value("entry_point")
    if not isinstance(entry_point, str) or not entry_point.isidentifier():
        return CodeTests(after, code_of(row, "setup"))
    if re.search(r"^def check\(", after, re.MULTILINE):
        after += f"\ncheck({entry_point})"
    return CodeTests(after, prompt, entry_point)


def code_of(row: Row, role: str) -> str:
    """The code of a role: a text, or one in lines."""
    value = structure_of(row.value(role))
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return value if isinstance(value, str) else ""


def program(answer: str, tests: CodeTests) -> str:
    """The program that tests an answer: the first block of code in it, or all of it."""
    fenced = _FENCE.search(answer)
    code = fenced[1] if fenced else answer
    if tests.entry_point and not re.search(rf"\bdef {tests.entry_point}\b", code):
        code = code.strip("\r\n")
        if not code[:1].isspace():
            code = f"    {code}"  # the indentation went with the blanks around the answer
        code = _AFTER_FUNCTION.split(code, maxsplit=1)[0]
    return "\n".join((tests.before.rstrip("\r\n"), code, tests.after, ""))


def passed(answers: Sequence[str], tests: Sequence[CodeTests]) -> list[bool]:
    """Whether each answer passes its tests. Raises LabError where no program can be run."""
    sandbox.guard()
    programs = [program(answer, test) for answer, test in zip(answers, tests, strict=True)]
    return [outcome.passed for outcome in sandbox.run_all(programs)]


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The probability that one of ``k`` answers passes, estimated without bias from ``right`` of ``samples``
    that do (Chen et al. 2021, equation 1)."""
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def pass_at_each_k(samples: int, right: int) -> dict[str, float]:
    """pass@k by its name, for those of 5, 10 and 100 up to ``samples``, and for ``samples`` itself."""
    return {
        f"pass_at_{k}": pass_at_k(samples, right, k)
        for k in sorted({5, 10, 100, samples})
        if 1 < k <= samples
    }


def note() -> str:
    """What is to be known of the sandbox of this machine; "" where the kernel guards it. Raises LabError."""
    if sandbox.guard() == "kernel":
        return ""
    return (
        "the kernel cannot guard the answers that are run; only Python's audit hook keeps them from files, "
        "network and processes, so run answers of models that you trust"
    )
