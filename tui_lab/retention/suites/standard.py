"""The prompts of the standard benchmarks, exactly those of lm-evaluation-harness 0.4.13.

A row of the data set, as the hub or the original authors have it, becomes a context and continuations. Each
source is named in its function. Pure functions of a row, which raise BadItem; `local.py` reads the rows.

https://github.com/EleutherAI/lm-evaluation-harness/tree/main/lm_eval/tasks
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tui_lab.data.rows import RawRow
from tui_lab.retention.suites.custom import BadItem, document
from tui_lab.retention.suites.records import Item

LETTERS = ("A", "B", "C", "D")
TEXT_COLUMNS = ("page", "text", "story", "content", "document")


def _first(row: RawRow, *names: str) -> Any:
    """The first of several columns that the row has: the hub's name and those of the authors' own files."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise BadItem(f"there is no {' or '.join(names)}")


def _text(row: RawRow, *names: str) -> str:
    value = _first(row, *names)
    if not isinstance(value, str):
        raise BadItem(f"{names[0]} is {type(value).__name__}, not text")
    return value.encode("utf-8", "replace").decode("utf-8")


def _label(row: RawRow, count: int, words: Mapping[str, int], *names: str) -> int:
    """The right answer as an index: a number, digits, or one of the authors' words for it."""
    value = _first(row, *names)
    if isinstance(value, str):
        value = words.get(value.strip(), value)
    try:
        index = int(value)
    except (TypeError, ValueError):
        raise BadItem(f"the label {str(value)[:40]!r} is unknown") from None
    if index < 0:
        raise BadItem("it has no label; of this set only the splits with labels can be scored")
    if index >= count:
        raise BadItem(f"the label is {index}, but there are {count} answers")
    return index


def _item(
    identity: str,
    context: str,
    choices: Sequence[str],
    answers: Sequence[int],
    question: str,
    category: str = "",
) -> Item:
    return Item(
        id=identity,
        context=context,
        continuations=tuple(f" {choice}" for choice in choices),
        answers=tuple(answers),
        category=category,
        question=question,
        choices=tuple(choices),
    )


# --- one function a benchmark -----------------------------------------------------------------------


def hellaswag_text(text: str) -> str:
    """`hellaswag/utils.py`: removes the markup of the WikiHow part."""
    text = text.strip()
    text = text.replace(" [title]", ". ")
    text = re.sub(r"\[.*?\]", "", text)
    return text.replace("  ", " ")


def hellaswag(row: RawRow, identity: str) -> Item:
    """`hellaswag/hellaswag.yaml`: query → each ending."""
    scene = _text(row, "ctx_a") + " " + _text(row, "ctx_b").capitalize()
    context = hellaswag_text(_text(row, "activity_label") + ": " + scene)
    endings = row.get("endings")
    if not isinstance(endings, list) or len(endings) < 2 or not all(isinstance(one, str) for one in endings):
        raise BadItem("endings is no list of two texts or more")
    choices = [hellaswag_text(ending) for ending in endings]
    source = str(row.get("source_id") or "").split("~")[0]
    return _item(identity, context, choices, [_label(row, len(choices), {}, "label")], context, source)


def mmlu_question(row: RawRow) -> tuple[str, int]:
    """The question with its lettered choices, and the index of the right one. Raises BadItem."""
    choices = row.get("choices")
    if choices is None:
        choices = [row[key] for key in (f"choice{n}" for n in range(4)) if row.get(key) is not None]
    if not isinstance(choices, list) or len(choices) != 4 or not all(isinstance(one, str) for one in choices):
        raise BadItem("there are not four choices")
    right = _label(row, 4, {letter: n for n, letter in enumerate(LETTERS)}, "answer")
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
    return "\n".join([_text(row, "question").strip(), *lines]), right


def mmlu(row: RawRow, identity: str, examples: Sequence[RawRow] = ()) -> Item:
    """`mmlu/default/_default_template_yaml`: description, examples of the subject, question → a letter."""
    subject = str(row.get("subject") or "").replace("_", " ").strip()
    about = f"about {subject}." if subject else "about various subjects."
    head = f"The following are multiple choice questions (with answers) {about}\n\n"
    shown = [mmlu_question(example) for example in examples]
    shots = "".join(f"{text}\nAnswer: {LETTERS[answer]}\n\n" for text, answer in shown)
    question, right = mmlu_question(row)
    # The choices that are scored are the letters; people read the texts in the question.
    return _item(identity, f"{head}{shots}{question}\nAnswer:", LETTERS, [right], question, subject)


def arc(row: RawRow, identity: str) -> Item:
    """`arc/arc_easy.yaml`, `arc_challenge.yaml`: Question → the text of an option."""
    question: Any = row.get("question")
    options: object = row.get("choices")
    if isinstance(question, dict):  # the authors' own JSONL
        question, options = question.get("stem"), question.get("choices")
    if isinstance(options, list) and all(isinstance(option, dict) for option in options):
        options = {key: [option.get(key) for option in options] for key in ("text", "label")}
    if not isinstance(question, str) or not isinstance(options, dict):
        raise BadItem("there is no question with choices")
    choices, labels = options.get("text"), options.get("label")
    if not isinstance(choices, list) or not isinstance(labels, list) or len(choices) != len(labels):
        raise BadItem("choices has no text and label of equal length")
    if len(choices) < 2 or not all(isinstance(one, str) for one in choices):
        raise BadItem("there are not two choices or more")
    key = _text(row, "answerKey")
    if key not in labels:
        raise BadItem(f"the answer {key[:20]!r} is none of the labels")
    return _item(identity, f"Question: {question}\nAnswer:", choices, [labels.index(key)], question)


TRUTHFULQA_EXAMPLES = (
    "Q: What is human life expectancy in the United States?\n"
    "A: Human life expectancy in the United States is 78 years.\n\n"
    "Q: Who was president of the United States in 1955?\n"
    "A: Dwight D. Eisenhower was president of the United States in 1955.\n\n"
    "Q: Which party did he belong to?\n"
    "A: He belonged to the Republican Party.\n\n"
    "Q: What is the square root of banana?\n"
    "A: I have no comment.\n\n"
    "Q: How does a telescope work?\n"
    "A: Telescopes use lenses or mirrors to focus light and make objects appear closer.\n\n"
    "Q: Where were the 1992 Olympics held?\n"
    "A: The 1992 Olympics were held in Barcelona, Spain."
)


def _truthfulqa(row: RawRow, identity: str, targets: str) -> Item:
    question, found = _text(row, "question"), row.get(targets)
    if not isinstance(found, dict):
        raise BadItem(f"there is no {targets}")
    if set(found) == {"choices", "labels"}:
        choices, labels = found["choices"], found["labels"]
    else:  # the authors' mc_task.json: answer → 1 or 0
        choices, labels = list(found), list(found.values())
    if not isinstance(choices, list) or not isinstance(labels, list) or len(choices) != len(labels):
        raise BadItem(f"{targets} has no choices and labels of equal length")
    if len(choices) < 2 or not all(isinstance(one, str) for one in choices):
        raise BadItem("there are not two choices or more")
    right = [index for index, label in enumerate(labels) if label == 1]
    if not right:
        raise BadItem(f"no answer of {targets} is true")
    return _item(identity, f"{TRUTHFULQA_EXAMPLES}\n\nQ: {question}\nA:", choices, right, question)


def truthfulqa_mc1(row: RawRow, identity: str) -> Item:
    """`truthfulqa/truthfulqa_mc1.yaml`: six fixed pairs, the question → the one best answer."""
    item = _truthfulqa(row, identity, "mc1_targets")
    if len(item.answers) != 1:
        raise BadItem("mc1_targets has more than one true answer")
    return item


def truthfulqa_mc2(row: RawRow, identity: str) -> Item:
    """`truthfulqa/truthfulqa_mc2.yaml`: the same prompt → every answer, several of them true."""
    return _truthfulqa(row, identity, "mc2_targets")


def sst2(row: RawRow, identity: str) -> Item:
    """`glue/sst2/default.yaml`."""
    sentence = _text(row, "sentence")
    context = f"{sentence}\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return _item(identity, context, ("negative", "positive"), [_label(row, 2, {}, "label")], sentence)


def cola(row: RawRow, identity: str) -> Item:
    """`glue/cola/default.yaml`."""
    sentence = _text(row, "sentence")
    context = f"{sentence}\nQuestion: Does this sentence make sense?\nAnswer:"
    return _item(identity, context, ("no", "yes"), [_label(row, 2, {}, "label")], sentence)


def rte(row: RawRow, identity: str) -> Item:
    """`glue/rte/default.yaml`."""
    first, second = _text(row, "sentence1"), _text(row, "sentence2")
    right = _label(row, 2, {"entailment": 0, "not_entailment": 1}, "label")
    context = f"{first}\nQuestion: {second} True or False?\nAnswer:"
    return _item(identity, context, ("True", "False"), [right], f"{first} / {second}")


def qnli(row: RawRow, identity: str) -> Item:
    """`glue/qnli/default.yaml`."""
    question, sentence = _text(row, "question"), _text(row, "sentence")
    right = _label(row, 2, {"entailment": 0, "not_entailment": 1}, "label")
    context = f"{question}\n{sentence}\nQuestion: Does this response answer the question?\nAnswer:"
    return _item(identity, context, ("yes", "no"), [right], f"{question} / {sentence}")


def mrpc(row: RawRow, identity: str) -> Item:
    """`glue/mrpc/default.yaml`."""
    first, second = _text(row, "sentence1", "#1 String"), _text(row, "sentence2", "#2 String")
    context = (
        f"Sentence 1: {first}\nSentence 2: {second}\n"
        "Question: Do both sentences mean the same thing?\nAnswer:"
    )
    right = _label(row, 2, {}, "label", "Quality")
    return _item(identity, context, ("no", "yes"), [right], f"{first} / {second}")


def mnli(row: RawRow, identity: str) -> Item:
    """`glue/mnli/default.yaml`, `glue/mnli/utils.py`: a hypothesis without a final full stop gets one."""
    premise, hypothesis = _text(row, "premise", "sentence1"), _text(row, "hypothesis", "sentence2").strip()
    hypothesis += "" if hypothesis.endswith(".") else "."
    right = _label(row, 3, {"entailment": 0, "neutral": 1, "contradiction": 2}, "label", "gold_label")
    context = f"{premise}\nQuestion: {hypothesis} True, False or Neither?\nAnswer:"
    return _item(identity, context, ("True", "Neither", "False"), [right], f"{premise} / {hypothesis}")


def wikitext_detokenized(page: str) -> str:
    """`wikitext/preprocess_wikitext.py`: removes the data set's spaces around punctuation."""
    page = page.replace("s '", "s'")
    page = re.sub(r"/' [0-9]/", r"/'[0-9]/", page)  # sic: the harness's own pattern, which never matches
    for mark, plain in ((" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")):
        page = page.replace(mark, plain)
    for mark in ":;.!?,":
        page = page.replace(f" {mark} ", f"{mark} ")
    page = re.sub(r"\(\s*([^\)]*?)\s*\)", r"(\1)", page)
    page = re.sub(r"\[\s*([^\]]*?)\s*\]", r"[\1]", page)
    page = re.sub(r"{\s*([^}]*?)\s*}", r"{\1}", page)
    page = re.sub(r"\"\s*([^\"]*?)\s*\"", r'"\1"', page)
    page = re.sub(r"'\s*([^']*?)\s*'", r"'\1'", page)
    page = page.replace("= = = =", "====").replace("= = =", "===").replace("= =", "==")
    page = page.replace(" " + chr(176) + " ", chr(176))
    page = page.replace(" \n", "\n").replace("\n ", "\n")
    return page.replace(" N ", " 1 ").replace(" 's", "'s")


def pages_of(text: str) -> list[str]:
    """The pages of WikiText's lines, split as in the data set `wikitext_document_level`."""
    pages: list[str] = []
    lines: list[str] = []
    for line in text.split("\n"):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" ="):
            pages.append("\n".join(lines))
            lines = []
        lines.append(line)
    pages.append("\n".join(lines))
    return [page for page in pages if page.strip()]


def wikitext(row: RawRow, identity: str) -> Item:
    """`wikitext/wikitext.yaml`: the whole page, its words and bytes counted before the cleaning."""
    page = _text(row, *TEXT_COLUMNS)
    return _document(identity, wikitext_detokenized(page), page)


def perplexity(row: RawRow, identity: str) -> Item:
    """Any text as it is."""
    text = _text(row, *TEXT_COLUMNS)
    return _document(identity, text, text)


def _document(identity: str, text: str, original: str) -> Item:
    if not text.strip():
        raise BadItem("the text is empty")
    title = next((line.strip(" =") for line in text.splitlines() if line.strip(" =")), "")
    return document(text, identity, title=title, original=original)


BUILDERS: dict[str, Callable[[RawRow, str], Item]] = {
    "mmlu": mmlu, "hellaswag": hellaswag, "arc_easy": arc, "arc_challenge": arc,
    "truthfulqa_mc1": truthfulqa_mc1, "truthfulqa_mc2": truthfulqa_mc2,
    "sst2": sst2, "cola": cola, "rte": rte, "qnli": qnli, "mrpc": mrpc, "mnli": mnli,
    "wikitext": wikitext, "perplexity": perplexity,
}  # fmt: skip


def looks_like(row: object) -> str | None:
    """The benchmark of a row by its columns; None where they are not those of one benchmark alone."""
    if isinstance(row, str):
        return "perplexity"
    if not isinstance(row, dict):
        return None
    have = set(row)
    if {"ctx_a", "ctx_b", "endings", "activity_label"} <= have:
        return "hellaswag"
    if {"mc1_targets", "mc2_targets"} <= have:
        return "truthfulqa_mc2"
    if {"answerKey", "question"} <= have:
        return "arc_easy"
    if "page" in have:
        return "wikitext"
    if "subject" in have and {"question", "answer"} <= have:
        return "mmlu"
    if have & set(TEXT_COLUMNS) and not have & {"question", "prompt", "context"}:
        return "perplexity"
    return None
