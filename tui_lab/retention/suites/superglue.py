"""The prompts of SuperGLUE and WinoGrande that need more than a template, exactly those of
lm-evaluation-harness 0.4.13 (`super_glue/`, `winogrande/`). The rows are the hub's or the authors' own, whose
nested ones (MultiRC, ReCoRD) are made flat first. Pure functions of a row, which raise BadItem."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from tui_lab.data.rows import RawRow
from tui_lab.data.scoring import squad_words, words_f1
from tui_lab.retention.suites.custom import BadItem
from tui_lab.retention.suites.records import Item
from tui_lab.retention.suites.row_fields import choice_item, label_of, number_of, text_of, texts_of


def copa(row: RawRow, identity: str) -> Item:
    """`copa/utils.py`: the premise without its full stop, "because" or "therefore" → either sentence. The
    harness puts two spaces between them, and so does this."""
    kind = text_of(row, "question")
    if kind not in ("cause", "effect"):
        raise BadItem(f"question is {kind[:20]!r}, neither cause nor effect")
    premise = text_of(row, "premise")
    choices = [text_of(row, name) for name in ("choice1", "choice2")]
    context = f"{premise.strip()[:-1]} {'because' if kind == 'cause' else 'therefore'}"
    scored = [f" {choice[:1].lower()}{choice[1:]}" for choice in choices]
    return choice_item(identity, context, scored, [label_of(row, 2, {}, "label")], premise, kind)


def wic(row: RawRow, identity: str) -> Item:
    """`wic/default.yaml`: is a word used in the same way in two sentences?"""
    first, second = text_of(row, "sentence1"), text_of(row, "sentence2")
    word = first[number_of(row, "start1") : number_of(row, "end1")]
    context = (
        f"Sentence 1: {first}\nSentence 2: {second}\n"
        f"Question: Is the word '{word}' used in the same way in the two sentences above?\nAnswer:"
    )
    right = label_of(row, 2, {}, "label")
    return choice_item(identity, context, ("no", "yes"), [right], f"{first} / {second} ({word})")


def _detokenized(text: str) -> str:
    """`general_detokenize` of `lm_eval/utils.py`."""
    for old, new in ((" n't", "n't"), (" )", ")"), ("( ", "("), ('" ', '"'), (' "', '"')):
        text = text.replace(old, new)
    return re.sub(r" (['.,])", r"\1", text)


def wsc(row: RawRow, identity: str) -> Item:
    """`wsc/preprocess_wsc.py`: does the marked pronoun refer to a noun? The indices count words."""
    target = row.get("target")
    row = {**row, **target} if isinstance(target, dict) else row  # the authors' own JSONL
    passage, noun, pronoun = (text_of(row, name) for name in ("text", "span1_text", "span2_text"))
    before = " ".join(passage.split()[: number_of(row, "span2_index")])
    after = passage[len(before) + len(pronoun) + 1 :]
    marked = _detokenized(f"{before} *{pronoun}*{after}")
    context = (
        f"Passage: {marked}\n"
        f'Question: In the passage above, does the pronoun "*{pronoun}*" refer to "*{noun}*"?\nAnswer:'
    )
    right = label_of(row, 2, {}, "label")
    return choice_item(identity, context, ("no", "yes"), [right], f"{marked} ({noun})")


def winogrande(row: RawRow, identity: str) -> Item:
    """`winogrande/preprocess_winogrande.py`: the sentence up to the blank with either option → its rest
    (partial evaluation, Trinh and Le 2018)."""
    sentence = text_of(row, "sentence")
    before, blank, after = sentence.partition("_")
    if not blank:
        raise BadItem("the sentence has no blank (_)")
    options = [text_of(row, "option1"), text_of(row, "option2")]
    right = label_of(row, 3, {}, "answer") - 1
    if right < 0:
        raise BadItem("the answer is 0; it is 1 or 2")
    item = choice_item(identity, "", options, [right], sentence)
    rest = f" {after.strip()}"
    return replace(
        item, contexts=tuple(before + option for option in options), continuations=(rest,) * len(options)
    )


# --- ReCoRD -------------------------------------------------------------------------------------------


def record(row: RawRow, identity: str) -> Item:
    """`record/util.py`: the passage with its highlights → the query with each entity in its gap. Scored by
    the F1 of the chosen entity's words with the nearest right one."""
    begin, *highlights = text_of(row, "passage").strip().split("\n@highlight\n")
    context = begin + "\n\n" + "".join(f"  - {highlight}.\n" for highlight in highlights)
    query = text_of(row, "query")
    entities = sorted(set(texts_of(row.get("entities"), "entities")))
    right = sorted(set(texts_of(row.get("answers"), "answers", least=1)))
    scores = [max(words_f1(entity, answer) for answer in right) for entity in entities]
    answers = [
        n
        for n, entity in enumerate(entities)
        if any(squad_words(entity) == squad_words(one) for one in right)
    ]
    if len(entities) < 2 or not answers:
        raise BadItem("there are not two different entities, one of them right")
    choices = [f"  - {query}".replace("@placeholder", entity) for entity in entities]
    item = choice_item(identity, context, choices, answers, query)
    return replace(item, choices=tuple(entities), meta={"f1": scores})


# --- the authors' nested rows -------------------------------------------------------------------------


def _dicts(value: object) -> list[RawRow]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _flat_multirc(row: object) -> Sequence[object]:
    passage = row.get("passage") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(passage, dict):
        return [row]
    return [
        {
            "paragraph": passage.get("text"),
            "question": question.get("question"),
            "answer": answer.get("text"),
            "label": answer.get("label"),
            "idx": {
                "paragraph": row.get("idx"),
                "question": question.get("idx"),
                "answer": answer.get("idx"),
            },
        }
        for question in _dicts(passage.get("questions"))
        for answer in _dicts(question.get("answers"))
    ]


def _flat_record(row: object) -> Sequence[object]:
    passage = row.get("passage") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(passage, dict):
        return [row]
    text = text_of(passage, "text")
    spans = [(number_of(one, "start"), number_of(one, "end")) for one in _dicts(passage.get("entities"))]
    return [
        {
            "passage": text,
            "query": query.get("query"),
            "entities": [text[start : end + 1] for start, end in spans],
            "answers": [answer.get("text") for answer in _dicts(query.get("answers"))],
            "idx": {"passage": row.get("idx"), "query": query.get("idx")},
        }
        for query in _dicts(row.get("qas"))
    ]


#: Rows of the authors' files that hold several items, made flat as on the hub. Raises BadItem.
EXPANDED: dict[str, Callable[[object], Sequence[object]]] = {
    "multirc": _flat_multirc,
    "record": _flat_record,
}
