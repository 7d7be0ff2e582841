"""Rows of the standard benchmarks in the columns of the hub, written for the tests."""

from __future__ import annotations

from typing import Any

HUB_ROWS: dict[str, list[dict[str, Any]]] = {
    "hellaswag": [
        {"ind": 4, "activity_label": "Baking", "ctx_a": "[header] How to bake [title] Mix it.",
         "ctx_b": "the DOG",
         "endings": ["runs  off.", "[step] sits.", "barks", "eats"], "label": "2", "source_id": "wikihow~9"},
    ],
    "arc_easy": [
        {"id": "Q1", "question": "Which melts?", "choices": {"text": ["ice", "a rock", "wood"],
         "label": ["A", "B", "C"]}, "answerKey": "A"},
        {"id": "Q2", "question": "What burns?", "choices": {"text": ["water", "coal"], "label": ["1", "2"]},
         "answerKey": "2"},
    ],
    "truthfulqa_mc1": [
        {"question": "Is the moon made of cheese?",
         "mc1_targets": {"choices": ["No, of rock.", "Yes, of cheese."], "labels": [1, 0]},
         "mc2_targets": {"choices": ["No.", "It is rock.", "Yes."], "labels": [1, 1, 0]}},
    ],
    "sst2": [{"sentence": "a fine film ", "label": 1, "idx": 0}],
    "cola": [{"sentence": "Cat the sat", "label": 0, "idx": 1}],
    "rte": [{"sentence1": "Tom ran home.", "sentence2": "Tom moved.", "label": 0, "idx": 0}],
    "qnli": [{"question": "Who ran?", "sentence": "Tom ran.", "label": 1, "idx": 3}],
    "mrpc": [{"sentence1": "A b c.", "sentence2": "A b d.", "label": 1, "idx": 7}],
    "mnli": [
        {"premise": "It rains.", "hypothesis": "It is wet", "label": 1, "idx": 0},
        {"premise": "It rains.", "hypothesis": "It is dry. ", "label": 2, "idx": 1},
    ],
    "mnli_mismatch": [{"premise": "It snows.", "hypothesis": "It is hot.", "label": 2, "idx": 0}],
    "qqp": [{"question1": "Who ran?", "question2": "Who walked?", "label": 0, "idx": 5}],
    "wnli": [{"sentence1": "Ann saw Eve as she ran.", "sentence2": "Eve ran.", "label": 1, "idx": 2}],
    "boolq": [
        {"passage": "Ice is frozen water.", "question": "is ice made of water", "label": 1, "idx": 0},
        {"passage": "A bat is a mammal.", "question": "is a bat a bird", "label": 0, "idx": 1},
    ],
    "cb": [{"premise": "She said it rained.", "hypothesis": "it rained", "label": 2, "idx": 0}],
    "copa": [
        {"premise": "The man broke his toe. ", "choice1": "He got a hole in his sock.",
         "choice2": "He dropped a hammer.", "question": "cause", "label": 1, "idx": 0},
        {"premise": "I tipped the bottle.", "choice1": "The liquid froze.", "choice2": "The liquid poured.",
         "question": "effect", "label": 1, "idx": 1},
    ],
    "multirc": [
        {"paragraph": "Tom has two dogs.", "question": "How many dogs?", "answer": "two", "label": 1,
         "idx": {"paragraph": 0, "question": 0, "answer": 0}},
        {"paragraph": "Tom has two dogs.", "question": "How many dogs?", "answer": "five", "label": 0,
         "idx": {"paragraph": 0, "question": 0, "answer": 1}},
    ],
    "record": [
        {"passage": "Ann Lee met Bob in Rome.\n@highlight\nThe two talked\n@highlight\nRome was warm",
         "query": "@placeholder came by train to see Bob", "entities": ["Rome", "Ann Lee", "Bob", "Rome"],
         "answers": ["Ann Lee", "Lee"], "idx": {"passage": 0, "query": 0}},
    ],
    "sglue_rte": [{"premise": "Tom ran home.", "hypothesis": "Tom moved.", "label": 1, "idx": 0}],
    "wic": [
        {"word": "bank", "sentence1": "The bank of the river", "sentence2": "A bank lends", "start1": 4,
         "end1": 8, "start2": 2, "end2": 6, "label": 0, "idx": 0},
    ],
    "wsc": [
        {"text": "Mark told Pete ( a friend ) that he did n't win .", "span1_index": 0, "span1_text": "Mark",
         "span2_index": 8, "span2_text": "he", "label": 1, "idx": 0},
    ],
    "winogrande": [
        {"sentence": "The cup did not fit the box because _ was too big.", "option1": "the cup",
         "option2": "the box", "answer": "1"},
        {"sentence": "Ann thanked Eve, and _ smiled . ", "option1": "Ann", "option2": "Eve", "answer": "2"},
    ],
    "piqa": [{"goal": "Open a jar", "sol1": "twist the lid", "sol2": "bite the glass", "label": 0}],
    "openbookqa": [
        {"id": "7-1", "question_stem": "The sun is", "answerKey": " C",
         "choices": {"text": ["a planet", "a moon", "a star", "a rock"], "label": ["A", "B", "C", "D"]}},
    ],
    "commonsense_qa": [
        {"id": "c1", "question": " Where is milk kept cold? ", "answerKey": "E",
         "choices": {"text": ["an oven", "a shoe", "a lamp", "a book", "a fridge"], "label": list("ABCDE")}},
    ],
}  # fmt: skip
HUB_ROWS["arc_challenge"] = HUB_ROWS["arc_easy"]
HUB_ROWS["truthfulqa_mc2"] = HUB_ROWS["truthfulqa_mc1"]
