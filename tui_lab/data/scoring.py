"""Scores of answers, each from 0 (empty, degenerate or wrong) to 1 (right).

`exact` compares with the expected answer, ignoring case, outer punctuation and a leading article. `manner`
needs a pirate's voice with the content of the expected answer: at least three different marks and no endless
repetition. `schema` needs JSON with exactly the keys and types that the question asks for; half of the score
is for the form, half for the values. `result` compares the result of a worked answer. Token F1 is that of
SQuAD (Rajpurkar et al. 2016), ROUGE-L that of Lin (2004); BLEU (Papineni et al. 2002) and chrF (Popović 2015)
of one answer are sacrebleu's."""

from __future__ import annotations

import functools
import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tui_lab.core.errors import LabError
from tui_lab.data import code_tests
from tui_lab.data.chats import after_reasoning
from tui_lab.data.rows import ChatRow

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

# Each entry counts as one mark, however often and in whichever spelling it occurs.
PIRATE_MARKS: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\ba+r{2,}h?\b",
        r"\bahoy\b",
        r"\baye\b",
        r"\bavast\b",
        r"\bmatey?s?\b",
        r"\bhearty\b|\bhearties\b",
        r"\blandlubbers?\b",
        r"\bye\b|\byer\b",
        r"(?<!\w)['’]tis\b",
        r"\b(that|it|they|answer|i|ye|this|there|seas?|what) be\b",
        r"\bshiver me timbers\b",
        r"\byo[ -]ho\b",
        r"\bscurvy\b",
        r"\bme beard\b",
        r"\bsea dog\b",
        r"\bsays i\b",
    )
)
MARKS_NEEDED = 3
_MAX_CHARS = 400  # longer answers count as degenerate
_MAX_WORDS = 2_000  # of a text, for ROUGE-L, whose time is the product of both lengths
_MAX_COMPARED = 40_000  # characters of a text, for BLEU and chrF
# Words of the manner, and small words that carry no answer.
_MANNER_WORDS = frozenset(
    """
    arr arrr ahoy aye avast matey mateys hearty hearties landlubber ye yer tis be shiver me timbers yo ho
    scurvy beard sea dog says i the a an that it answer or no pirate by there old any sailor knows listen
    lookin for of to what wantin and is in on this my you may seven seas so sure
    """.split()  # noqa: SIM905
)
_WORD = re.compile(r"\w+(?:['’]\w+)?")
_TYPES: dict[str, Callable[[object], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
}

Scorer = Callable[[str, ChatRow], float]


def normalised(text: str) -> str:
    """The text on one line, case-folded, without outer punctuation and leading article."""
    stripped = re.sub(r"\s+", " ", text).strip(" .!?,;:\"'`").casefold()
    return re.sub(r"^(a|an|the) ", "", stripped)


def expected_answer(row: ChatRow) -> str:
    """The expected answer of a row: its last assistant turn. Raises LabError without one."""
    turns = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
    if not turns:
        raise LabError("A row without an assistant turn has no expected answer to score against.")
    return str(turns[-1])


def question_of(row: ChatRow) -> str:
    """The last user turn of a row."""
    turns = [turn["content"] for turn in row["messages"] if turn["role"] == "user"]
    return str(turns[-1]) if turns else ""


def exact(answer: str, row: ChatRow) -> float:
    """1 where the normalised answer equals the expected one, else 0."""
    return float(bool(answer.strip()) and normalised(answer) == normalised(expected_answer(row)))


def count_marks(answer: str) -> int:
    """The number of different marks of a pirate's manner in a text."""
    return sum(bool(mark.search(answer)) for mark in PIRATE_MARKS)


def _content_words(text: str) -> list[str]:
    words = _WORD.findall(text.casefold().replace("’", "'"))
    return [word for word in dict.fromkeys(words) if word not in _MANNER_WORDS]


def is_degenerate(text: str) -> bool:
    """Whether a text is empty, too long, or repeats a few words."""
    words = _WORD.findall(text.casefold())
    if not words or len(text) > _MAX_CHARS:
        return True
    (_, most), *_ = Counter(words).most_common(1)
    return most > max(3, len(words) // 3)


def manner(answer: str, row: ChatRow) -> float:
    """1 for a pirate's manner with more than half of the expected content words, else 0."""
    if is_degenerate(answer) or count_marks(answer) < MARKS_NEEDED:
        return 0.0
    wanted = _content_words(expected_answer(row))
    # An expected answer that is only manner has no content words: all its words are then compared.
    wanted = wanted or _WORD.findall(expected_answer(row).casefold())
    given = set(_WORD.findall(answer.casefold().replace("’", "'")))
    return float(sum(word in given for word in wanted) * 2 > len(wanted))


def schema_of(question: str) -> dict[str, str]:
    """The schema in a question: its first JSON object whose values are all names of types, else {}."""
    decoder = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"\{", question)):
        try:
            found, _ = decoder.raw_decode(question, start)
        except (ValueError, RecursionError):
            continue
        if (
            isinstance(found, dict)
            and found
            and all(isinstance(v, str) and v in _TYPES for v in found.values())
        ):
            return found
    return {}


def _parse(answer: str) -> object:
    """The JSON of an answer; a code fence around it is forgiven, other text is not."""
    text = re.sub(r"^```(?:json)?\s*(.*?)\s*```$", r"\1", answer.strip(), flags=re.DOTALL)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def schema(answer: str, row: ChatRow) -> float:
    """0.5 for JSON of the question's schema, plus 0.5 times the share of right values."""
    wanted = schema_of(question_of(row))
    found = _parse(answer)
    if not wanted or not isinstance(found, dict) or set(found) != set(wanted):
        return 0.0
    if not all(_TYPES[kind](found[key]) for key, kind in wanted.items()):
        return 0.0
    right = _parse(expected_answer(row))
    values = sum(found[key] == right[key] for key in wanted) / len(wanted) if isinstance(right, dict) else 0.0
    return 0.5 + 0.5 * values


_NUMBER = re.compile(r"-?\$?-?\d[\d,]*(?:\.\d+)?")
_RESULT = re.compile(r"####\s*(\S.*)")


def worked_result(text: str) -> str:
    """What stands after ``####`` at the end of a worked answer, as GSM8K writes it (Cobbe et al. 2021); ""
    without one."""
    found = _RESULT.search(text)
    return _plain_number(found[1].strip()) if found else ""


def _plain_number(text: str) -> str:
    """A number without currency, separators and a trailing point; other text normalised."""
    bare = text.replace("$", "").replace(",", "").rstrip(".")
    try:
        return f"{float(bare):.10g}"
    except ValueError:
        return normalised(text)


def result(answer: str, row: ChatRow) -> float:
    """1 where the result of a worked answer is the expected one: what stands after its first ``####``,
    without one its last number."""
    wanted = worked_result(expected_answer(row))
    found = worked_result(answer)
    if not found and (numbers := _NUMBER.findall(answer)):
        found = _plain_number(numbers[-1])
    return float(bool(wanted) and found == wanted)


# --- similarity of texts --------------------------------------------------------------------------------


def squad_words(text: str) -> list[str]:
    """Words as SQuAD compares them: lower case, without punctuation (of any script) and articles."""
    bare = "".join(
        char
        for char in text.lower()
        if char not in string.punctuation and unicodedata.category(char)[0] != "P"
    )
    return [word for word in bare.split() if word not in ("a", "an", "the")]


def token_f1(answer: str, row: ChatRow) -> float:
    """SQuAD's F1: words that answer and expected answer share, each as often as both have it."""
    return words_f1(answer, expected_answer(row))


def words_f1(answer: str, expected: str) -> float:
    """F1 of the words of two answers, 0 to 1 (SQuAD, Rajpurkar et al. 2016)."""
    given, wanted = squad_words(answer), squad_words(expected)
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))


def rouge_l(answer: str, row: ChatRow) -> float:
    """ROUGE-L (Lin 2004) as F1: the longest common subsequence of words over both lengths."""
    given, wanted = (
        re.findall(r"\w+", text.casefold())[:_MAX_WORDS] for text in (answer, expected_answer(row))
    )
    if not given or not wanted:
        return float(given == wanted)
    lengths = [0] * (len(wanted) + 1)  # of the longest subsequence with the first words of `wanted`
    for word in given:
        diagonal = 0
        for at, other in enumerate(wanted, 1):
            above = lengths[at]
            lengths[at] = diagonal + 1 if word == other else max(above, lengths[at - 1])
            diagonal = above
    return 2 * lengths[-1] / (len(given) + len(wanted))


def bleu(answer: str, row: ChatRow) -> float:
    """sacrebleu's BLEU of a sentence: n-grams up to 4 that the texts have, exponential smoothing."""
    return _by_sacrebleu(_sacrebleu()[0], answer, row)


def chrf(answer: str, row: ChatRow) -> float:
    """sacrebleu's chrF2 of a sentence: characters in n-grams up to 6, recall weighs twice."""
    return _by_sacrebleu(_sacrebleu()[1], answer, row)


@functools.cache
def _sacrebleu() -> tuple[BLEU, CHRF]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU(effective_order=True), CHRF()


def _by_sacrebleu(metric: BLEU | CHRF, answer: str, row: ChatRow) -> float:
    given, wanted = (text.strip()[:_MAX_COMPARED] for text in (answer, expected_answer(row)))
    if not given or not wanted:
        return float(given == wanted)
    return min(1.0, metric.sentence_score(given, [wanted]).score / 100)  # 100.00000000000004 for equal texts


#: Similarities to the expected answer, for any data.
SIMILARITY: dict[str, Scorer] = {
    "exact": exact,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "bleu": bleu,
    "chrf": chrf,
}


def similarity_scores(answers: Sequence[str], rows: Sequence[ChatRow]) -> dict[str, list[float]]:
    """Exact match, token F1, ROUGE-L, BLEU and chrF of each answer, 0 to 1."""
    return {
        name: [score(after_reasoning(answer), row) for answer, row in zip(answers, rows, strict=True)]
        for name, score in SIMILARITY.items()
    }


SCORERS: dict[str, Scorer] = {
    "exact": exact,
    "manner": manner,
    "schema": schema,
    "result": result,
}


def scores(scorer: str, answers: Sequence[str], rows: Sequence[ChatRow]) -> list[float]:
    """The score of each answer, 0 to 1, by a scorer of SCORERS or by the tests of code. Raises LabError for
    an unknown name, for lists of different length, and where no code can be run."""
    if scorer not in (*SCORERS, code_tests.PASS):
        raise LabError(f"There is no score {scorer!r}; the scores are {', '.join(SCORERS)}.")
    if len(answers) != len(rows):
        raise LabError(
            f"{len(answers)} answers cannot be scored against {len(rows)} rows: there must be one each."
        )
    bare = [after_reasoning(answer) for answer in answers]
    if scorer == code_tests.PASS:
        return [float(passes) for passes in code_tests.passed(bare, [row["tests"] for row in rows])]
    return [SCORERS[scorer](answer, row) for answer, row in zip(bare, rows, strict=True)]


def score(scorer: str, answers: Sequence[str], rows: Sequence[ChatRow]) -> float:
    """Mean score over the rows, 0 to 1; 0 for no rows. Raises LabError as :func:`scores`."""
    found = scores(scorer, answers, rows)
    return sum(found) / len(found) if found else 0.0
