"""The standard suites: contexts and continuations equal to lm-evaluation-harness's, and every usual shape
of local files read to the same items."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.paths import SHARED
from tests.retention.suites.hub_rows import HUB_ROWS
from tui_lab.core.errors import LabError
from tui_lab.data import hub
from tui_lab.data.scoring import words_f1
from tui_lab.retention.suites import registry
from tui_lab.retention.suites.records import Item
from tui_lab.retention.suites.standard import pages_of, wikitext_detokenized

DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not (DATA / "hellaswag").is_dir(), reason="the shared data are not here")

# SHA-256 over json.dumps([context, continuation]) of every request that lm-evaluation-harness 0.4.13 itself
# made of these files (its tasks hellaswag, mmlu_anatomy and mmlu_us_foreign_policy; its detokenized pages).
HARNESS_HELLASWAG = "5b89393b316c74902fe74639123e75e4e564bc7781d78393c3a0688f1aaeb27b"
HARNESS_MMLU = {
    ("anatomy", 0): "2c2e18a909afbe524cc7cb42e30796a6e2657f3ee822b393efaa8e0c2b5d466a",
    ("anatomy", 5): "c118b336071863f1bb993ab752b2068a5db190582156cd80a5ee9fe41182d781",
    ("us_foreign_policy", 0): "ab04592f936b25bd121f31e6cdb1dff80b34495d1c7b52649e534594b2e2a47d",
    ("us_foreign_policy", 5): "8531a34c97856197b83c2dbfc409377698256d070ceb8efdd24cd7668f3fd615",
}
HARNESS_WIKITEXT = "5d587fec53fb387ae8610bfa59373e064eeddf508c38fb46bf90f1374fab2d2b"


def digest(items: Iterable[Item]) -> str:
    found = hashlib.sha256()
    for item in items:
        for continuation in item.continuations:
            found.update(json.dumps([item.context, continuation]).encode())
    return found.hexdigest()


def lines(path: Path, *rows: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


# --- equal to the harness on real data --------------------------------------------------------------


@needs_data
def test_hellaswag_prompts_equal_the_harness() -> None:
    suite = registry.load(f"hellaswag:{DATA / 'hellaswag'}")
    assert len(suite.items) == 1000 and digest(suite.items) == HARNESS_HELLASWAG
    assert suite.metric == "acc_norm" and suite.chance == 0.25
    with (DATA / "hellaswag" / "hellaswag_1k.jsonl").open(encoding="utf-8") as stream:
        labels = [json.loads(line)["label"] for line in stream]
    assert [item.answers for item in suite.items] == [(int(label),) for label in labels]
    assert all(f" {choice}" in item.continuations for item in suite.items for choice in item.choices)


@needs_data
@pytest.mark.parametrize(("subject", "shots"), list(HARNESS_MMLU))
def test_mmlu_prompts_equal_the_harness(subject: str, shots: int) -> None:
    path = DATA / "mmlu" / "test" / f"{subject}_test.csv"
    suite = registry.load(f"mmlu@{shots}:{path}" if shots else f"mmlu:{path}")
    assert digest(suite.items) == HARNESS_MMLU[subject, shots]
    assert suite.name == (f"mmlu@{shots}" if shots else "mmlu")
    with path.open(encoding="utf-8", newline="") as stream:
        answers = [int(row["answer"]) for row in csv.DictReader(stream)]
    assert [item.answers[0] for item in suite.items] == answers


@needs_data
def test_the_whole_of_mmlu_has_a_category_for_each_subject() -> None:
    suite = registry.load(f"mmlu@5:{DATA / 'mmlu'}", 114)
    assert len(suite.items) == 114 and len(suite.categories) == 57
    alone = registry.load(f"mmlu@5:{DATA / 'mmlu' / 'test' / 'anatomy_test.csv'}")
    by_id = {item.id: item for item in alone.items}
    for item in suite.items:
        if item.category == "anatomy":
            assert by_id[item.id] == item  # the same id and prompt, whichever way the file is named


@needs_data
def test_wikitext_is_cleaned_as_in_the_harness() -> None:
    suite = registry.load(f"wikitext:{DATA / 'wikitext2'}")
    found = hashlib.sha256()
    for item in suite.items:
        found.update(json.dumps(item.continuations[0]).encode())
    assert found.hexdigest() == HARNESS_WIKITEXT
    assert suite.kind == "perplexity" and len(suite.items) == 62 and suite.chance is None
    assert suite.items[0].question == "Robert Boulter" and suite.items[0].context == ""
    assert registry.load(str(DATA / "wikitext2" / "test.txt")).sha256 == suite.sha256
    text = (DATA / "wikitext2" / "test.txt").read_text(encoding="utf-8")
    assert sum(item.meta["bytes"] for item in suite.items) == pytest.approx(len(text.encode()), rel=1e-3)


@needs_data
def test_perplexity_reads_any_documents() -> None:
    suite = registry.load(f"perplexity:{DATA / 'tinystories'}", 50)
    assert suite.kind == "perplexity" and len(suite.items) == 50
    for item in suite.items:
        assert item.meta["words"] == len(item.continuations[0].split())  # no blanks at the ends of these
        assert item.meta["bytes"] == len(item.continuations[0].encode())


@needs_data
def test_paths_without_a_name_are_recognised() -> None:
    assert registry.load(str(DATA / "mmlu"), 5).name == "mmlu"
    assert registry.load(str(DATA / "mmlu" / "test" / "anatomy_test.csv"), 5).name == "mmlu"
    assert registry.load(str(DATA / "hellaswag"), 5).name == "hellaswag"
    assert registry.load(str(DATA / "hellaswag" / "hellaswag_1k.jsonl"), 5).name == "hellaswag"
    assert registry.load(str(DATA / "tinystories" / "tinystories_1000.json"), 5).name == "perplexity"


def test_the_installed_harness_makes_the_same_requests(tmp_path: Path) -> None:
    """Where lm-evaluation-harness is installed: every task whose rows a test can write down."""
    pytest.importorskip("lm_eval")
    pytest.importorskip("sklearn")
    from tests.benchmarks.harness import requests_of

    for name, rows in HUB_ROWS.items():
        path = lines(tmp_path / f"{name}.jsonl", *rows)
        items = registry.load(f"{name}:{path}").items
        ours = [
            (before, more)
            for item in items
            for before, more in zip(
                item.contexts or [item.context] * len(item.continuations), item.continuations, strict=True
            )
        ]
        assert requests_of(name, Path(path)) == ours, name


# --- hand-worked prompts ----------------------------------------------------------------------------

EXPECTED: dict[str, list[tuple[str, tuple[str, ...], tuple[int, ...]]]] = {
    "hellaswag": [
        # "[header]" goes, and the two spaces that it leaves become one; " [title]" becomes ". ".
        ("Baking: How to bake. Mix it. The dog", (" runs off.", "  sits.", " barks", " eats"), (2,)),
    ],
    "arc_easy": [
        ("Question: Which melts?\nAnswer:", (" ice", " a rock", " wood"), (0,)),
        ("Question: What burns?\nAnswer:", (" water", " coal"), (1,)),
    ],
    "sst2": [
        (
            "a fine film \nQuestion: Is this sentence positive or negative?\nAnswer:",
            (" negative", " positive"),
            (1,),
        )
    ],
    "cola": [("Cat the sat\nQuestion: Does this sentence make sense?\nAnswer:", (" no", " yes"), (0,))],
    "rte": [("Tom ran home.\nQuestion: Tom moved. True or False?\nAnswer:", (" True", " False"), (0,))],
    "qnli": [
        (
            "Who ran?\nTom ran.\nQuestion: Does this response answer the question?\nAnswer:",
            (" yes", " no"),
            (1,),
        )
    ],
    "mrpc": [
        (
            "Sentence 1: A b c.\nSentence 2: A b d.\n"
            "Question: Do both sentences mean the same thing?\nAnswer:",
            (" no", " yes"),
            (1,),
        )
    ],
    "mnli": [
        (
            "It rains.\nQuestion: It is wet. True, False or Neither?\nAnswer:",
            (" True", " Neither", " False"),
            (1,),
        ),
        (
            "It rains.\nQuestion: It is dry. True, False or Neither?\nAnswer:",
            (" True", " Neither", " False"),
            (2,),
        ),
    ],
}


EXPECTED |= {
    "copa": [
        ("The man broke his toe because", ("  he got a hole in his sock.", "  he dropped a hammer."), (1,)),
        ("I tipped the bottle therefore", ("  the liquid froze.", "  the liquid poured."), (1,)),
    ],
    "multirc": [
        (
            "Tom has two dogs.\nQuestion: How many dogs?\nAnswer:",
            (f" {answer}\nIs the answer correct? yes", f" {answer}\nIs the answer correct? no"),
            (right,),
        )
        for answer, right in (("two", 0), ("five", 1))  # label 1 of the data set: the answer is right
    ],
    "record": [
        (
            "Ann Lee met Bob in Rome.\n\n  - The two talked.\n  - Rome was warm.\n",
            tuple(f"   - {name} came by train to see Bob" for name in ("Ann Lee", "Bob", "Rome")),
            (0,),
        )
    ],
    "wic": [
        (
            "Sentence 1: The bank of the river\nSentence 2: A bank lends\n"
            "Question: Is the word 'bank' used in the same way in the two sentences above?\nAnswer:",
            (" no", " yes"),
            (0,),
        )
    ],
    "wsc": [
        (
            "Passage: Mark told Pete (a friend) that *he* didn't win.\n"
            'Question: In the passage above, does the pronoun "*he*" refer to "*Mark*"?\nAnswer:',
            (" no", " yes"),
            (1,),
        )
    ],
    "cb": [
        (
            "She said it rained.\nQuestion: it rained. True, False, or Neither?\nAnswer:",
            (" True", " False", " Neither"),
            (2,),
        )
    ],
    "openbookqa": [("The sun is", (" a planet", " a moon", " a star", " a rock"), (2,))],
    "commonsense_qa": [
        (
            "Question: Where is milk kept cold?\n"
            "A. an oven\nB. a shoe\nC. a lamp\nD. a book\nE. a fridge\nAnswer:",
            (" A", " B", " C", " D", " E"),
            (4,),
        )
    ],
}


def test_winogrande_by_hand(tmp_path: Path) -> None:
    """Either option stands in the context, and the rest of the sentence is scored."""
    suite = registry.load(f"winogrande:{lines(tmp_path / 'rows.jsonl', *HUB_ROWS['winogrande'])}")
    first, second = suite.items
    assert first.contexts == (
        "The cup did not fit the box because the cup",
        "The cup did not fit the box because the box",
    )
    assert first.continuations == (" was too big.",) * 2 and first.answers == (0,)
    assert second.contexts[1] == "Ann thanked Eve, and Eve" and second.continuations[1] == " smiled ."
    assert second.answers == (1,) and suite.chance == 0.5
    with pytest.raises(LabError, match="no blank"):
        registry.load(f"winogrande:{lines(tmp_path / 'bad.jsonl', {'sentence': 'x', 'option1': 'a'})}")


def test_record_counts_the_words_of_an_answer(tmp_path: Path) -> None:
    """By hand: "Bob" shares no word with "Ann Lee" or "Lee"; a guess scores the mean over the three names."""
    suite = registry.load(f"record:{lines(tmp_path / 'rows.jsonl', *HUB_ROWS['record'])}")
    assert suite.metric == "answer_f1" and suite.items[0].meta["f1"] == [1.0, 0.0, 0.0]
    assert suite.chance == pytest.approx(1 / 3)
    assert words_f1("Ann Lee", "the Lee's") == 0.0  # SQuAD drops the apostrophe: "lees"
    assert words_f1("The Ann Lee", "Lee") == pytest.approx(2 / 3)


def test_superglues_own_nested_files_give_the_same_items_as_the_hub(tmp_path: Path) -> None:
    multirc = {"idx": 0, "passage": {"text": "Tom has two dogs.", "questions": [
        {"question": "How many dogs?", "idx": 0, "answers": [
            {"text": "two", "idx": 0, "label": 1}, {"text": "five", "idx": 1, "label": 0}]}]}}  # fmt: skip
    text = HUB_ROWS["record"][0]["passage"]
    record = {"idx": 0, "source": "cnn", "passage": {"text": text, "entities": [
        {"start": text.index(name), "end": text.index(name) + len(name) - 1}
        for name in ("Rome", "Ann Lee", "Bob")]},
        "qas": [{"idx": 0, "query": HUB_ROWS["record"][0]["query"],
                 "answers": [{"start": 0, "end": 6, "text": "Ann Lee"}, {"text": "Lee"}]}]}  # fmt: skip
    wsc = {key: value for key, value in HUB_ROWS["wsc"][0].items() if "span" not in key}
    wsc["target"] = {key: value for key, value in HUB_ROWS["wsc"][0].items() if "span" in key}
    wsc["label"] = True
    cb = {**HUB_ROWS["cb"][0], "label": "neutral"}
    for name, row in {"multirc": multirc, "record": record, "wsc": wsc, "cb": cb}.items():
        theirs = registry.load(f"{name}:{lines(tmp_path / name / 'val.jsonl', row)}").items
        hub = registry.load(f"{name}:{lines(tmp_path / f'{name}.jsonl', *HUB_ROWS[name])}").items
        assert theirs == hub, name


@pytest.mark.parametrize("name", list(EXPECTED))
def test_prompts_by_hand(name: str, tmp_path: Path) -> None:
    suite = registry.load(f"{name}:{lines(tmp_path / 'rows.jsonl', *HUB_ROWS[name])}")
    expected = EXPECTED[name]
    if name == "hellaswag":
        # The harness strips the ending before it drops "[step]", so a space is left: " " + " sits."
        assert suite.items[0].choices[1] == " sits."
    assert [(item.context, item.continuations, item.answers) for item in suite.items] == expected


def test_truthfulqa_by_hand(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", *HUB_ROWS["truthfulqa_mc1"])
    one, all_true = registry.load(f"truthfulqa_mc1:{path}"), registry.load(f"truthfulqa_mc2:{path}")
    context = one.items[0].context
    assert context == all_true.items[0].context
    assert context.startswith("Q: What is human life expectancy in the United States?\nA: Human life")
    assert context.count("Q: ") == 7 and context.count("\n\n") == 6
    assert context.endswith("held in Barcelona, Spain.\n\nQ: Is the moon made of cheese?\nA:")
    assert one.items[0].answers == (0,) and one.metric == "acc"
    assert all_true.items[0].answers == (0, 1) and all_true.metric == "mc2"
    assert all_true.items[0].continuations == (" No.", " It is rock.", " Yes.")


def test_mmlu_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "mmlu"
    for split, rows in {
        "test": [[" Is it?\n", "a", "b", "c", "d", "C"]],
        "dev": [["Was it?", "e", "f", "g", "h", "B"], ["Will it?", "i", "j", "k", "l", "A"]],
    }.items():
        (folder / split).mkdir(parents=True)
        with (folder / split / f"high_school_art_{split}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)  # the authors' shape: no header, a letter
    (item,) = registry.load(f"mmlu@2:{folder}").items
    assert item.context == (
        "The following are multiple choice questions (with answers) about high school art.\n\n"
        "Was it?\nA. e\nB. f\nC. g\nD. h\nAnswer: B\n\n"
        "Will it?\nA. i\nB. j\nC. k\nD. l\nAnswer: A\n\n"
        "Is it?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    )
    assert item.continuations == (" A", " B", " C", " D") and item.answers == (2,)
    assert item.category == "high school art"
    with pytest.raises(LabError, match="has 2 examples for high_school_art"):
        registry.load(f"mmlu@3:{folder}")


def test_wikitext_marks() -> None:
    page = ' = A = \n The " x @-@ y " , 1 @,@ 000 ( z ) ; it \'s 5 N z . \n'
    assert wikitext_detokenized(page) == ' = A =\nThe "x-y", 1,000 (z); it\'s 5 1 z.\n'
    text = " = One = \n a \n = = Part = = \n b \n = Two = \n c \n"
    assert [page.split("\n")[0].strip() for page in pages_of(text)] == ["= One =", "= Two ="]
    assert "".join(pages_of(text)).replace("\n", "") == text.replace("\n", "")


# --- shapes of local files --------------------------------------------------------------------------


def test_the_authors_files_give_the_same_items_as_the_hub(tmp_path: Path) -> None:
    same: dict[str, tuple[str, str]] = {
        "arc_easy": (
            "ARC-Easy-Test.jsonl",
            "".join(
                json.dumps(
                    {
                        "id": row["id"],
                        "question": {
                            "stem": row["question"],
                            "choices": [
                                {"text": text, "label": label}
                                for text, label in zip(*row["choices"].values(), strict=True)
                            ],
                        },
                        "answerKey": row["answerKey"],
                    }
                )
                + "\n"
                for row in HUB_ROWS["arc_easy"]
            ),
        ),
        "truthfulqa_mc2": (
            "mc_task.json",
            json.dumps(
                [
                    {
                        "question": row["question"],
                        **{
                            key: dict(zip(row[key]["choices"], row[key]["labels"], strict=True))
                            for key in ("mc1_targets", "mc2_targets")
                        },
                    }
                    for row in HUB_ROWS["truthfulqa_mc2"]
                ]
            ),
        ),
        "sst2": ("dev.tsv", "sentence\tlabel\na fine film \t1\n"),
        "cola": ("in_domain_dev.tsv", "gj04\t0\t*\tCat the sat\n"),
        "rte": ("dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tTom ran home.\tTom moved.\tentailment\n"),
        "qnli": ("dev.tsv", "index\tquestion\tsentence\tlabel\n3\tWho ran?\tTom ran.\tnot_entailment\n"),
        "mrpc": ("msr_dev.tsv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t4\t5\tA b c.\tA b d.\n"),
        "mnli": (
            "dev_matched.tsv",
            "index\tsentence1\tsentence2\tgold_label\n0\tIt rains.\tIt is wet\tneutral\n"
            "1\tIt rains.\tIt is dry. \tcontradiction\n",
        ),
    }
    for name, (file, text) in same.items():
        path = tmp_path / name / file
        path.parent.mkdir()
        path.write_text(text)
        theirs = registry.load(f"{name}:{path}").items
        hub = registry.load(f"{name}:{lines(tmp_path / f'{name}.jsonl', *HUB_ROWS[name])}").items
        assert [(i.context, i.continuations, i.answers) for i in theirs] == [
            (i.context, i.continuations, i.answers) for i in hub
        ], name
        assert registry.load(f"{name}:{path.parent}").items == theirs  # the folder of that one file


def test_quotation_marks_in_glue_tables_are_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text('sentence\tlabel\n"a fine start\t1\nno end\t0\n')
    assert [item.question for item in registry.load(f"sst2:{path}").items] == ['"a fine start', "no end"]


def test_a_folder_in_the_layout_of_the_hub_is_read(tmp_path: Path) -> None:
    """Parquet by configuration and split: only the split with labels of the right configuration is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(path: str, rows: list[dict[str, Any]]) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / path)

    unlabelled = [{**row, "label": -1} for row in HUB_ROWS["mnli"]]
    write("mnli/validation_matched-00000-of-00001.parquet", HUB_ROWS["mnli"])
    write("mnli/validation_mismatched-00000-of-00001.parquet", HUB_ROWS["mnli"][:1])
    write("mnli/test_matched-00000-of-00001.parquet", unlabelled)
    write("rte/validation-00000-of-00001.parquet", HUB_ROWS["rte"])
    write("rte/train-00000-of-00001.parquet", HUB_ROWS["rte"] * 3)
    assert len(registry.load(f"mnli:{tmp_path}").items) == 2
    assert len(registry.load(f"rte:{tmp_path}").items) == 1
    with pytest.raises(LabError, match=r"no item of sst2: there is no sentence"):
        registry.load(f"sst2:{tmp_path}")
    with pytest.raises(LabError, match="it has no label"):
        registry.load(f"mnli:{tmp_path / 'mnli' / 'test_matched-00000-of-00001.parquet'}")


def test_a_saved_data_set_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.DatasetDict(
        {
            "validation": datasets.Dataset.from_list(HUB_ROWS["hellaswag"]),
            "train": datasets.Dataset.from_list(HUB_ROWS["hellaswag"] * 2),
        }
    )
    made.save_to_disk(str(tmp_path / "saved"))
    suite = registry.load(f"hellaswag:{tmp_path / 'saved'}")
    assert [item.context for item in suite.items] == [EXPECTED["hellaswag"][0][0]]


def test_loading_scripts_are_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = tmp_path / "hellaswag"
    lines(folder / "hellaswag_val.jsonl", *HUB_ROWS["hellaswag"])
    for name in ("hellaswag.py", "__init__.py", "conftest.py"):
        (folder / name).write_text(f"open({str(marker)!r}, 'w')")
    assert len(registry.load(str(folder)).items) == 1
    assert not marker.exists()


SCENE = {"activity_label": "x", "ctx_a": "a", "ctx_b": "b"}


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("hellaswag", SCENE | {"endings": ["a", "b"]}, "no label"),
        ("hellaswag", SCENE | {"endings": "ab", "label": 0}, "list"),
        ("hellaswag", SCENE | {"endings": ["a", "b"], "label": 2}, "2"),
        ("hellaswag", {"question": "x"}, "no ctx_a"),
        ("mmlu", {"question": "x", "choices": ["a"], "answer": 0}, "2 texts"),
        ("mmlu", {"question": "x", "choices": list("abcd"), "answer": "E"}, "'E' is unknown"),
        ("arc_easy", {"question": "x", "choices": {"text": ["a", "b"], "label": ["A", "B"]},
                      "answerKey": "C"}, "'C'"),
        ("truthfulqa_mc2", {"question": "x", "mc2_targets": {"choices": ["a"], "labels": [0, 0]}}, "equal"),
        ("truthfulqa_mc2", {"question": "x", "mc2_targets": {"choices": ["a", "b"], "labels": [0, 0]}},
         "true"),
        ("rte", {"sentence1": "x", "sentence2": "y", "label": "perhaps"}, "'perhaps' is unknown"),
        ("sst2", {"sentence": 5, "label": 1}, "not text"),
        ("perplexity", {"title": "x"}, "no page"),
    ],
)  # fmt: skip
def test_a_row_of_another_shape_is_named(name: str, row: dict[str, Any], said: str, tmp_path: Path) -> None:
    good = HUB_ROWS.get(name, [{"text": "A text."}])[:1] if name != "mmlu" else []
    with pytest.raises(LabError) as caught:
        registry.load(f"{name}:{lines(tmp_path / 'x.jsonl', *good, row)}")
    message = str(caught.value)
    assert f"line {len(good) + 1} is no item of {name}" in message and said in message


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(LabError, match=r"hub \(allenai/ai2_arc\), which is not reachable.*arc_easy:PATH"):
        registry.load("arc_easy")


def test_the_hub_data_set_and_split_are_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[Any, ...]] = []
    rows = {
        "test": [{"question": "Is it?", "subject": "art", "choices": list("abcd"), "answer": 2}],
        "dev": [
            {"question": f"Was it {n}?", "subject": "art", "choices": list("efgh"), "answer": n}
            for n in (0, 1)
        ],
    }  # fmt: skip

    def load_dataset(name: str, config: str | None = None, *, split: str) -> list[dict[str, Any]]:
        asked.append((name, config, split))
        return rows[split]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_: datasets)
    monkeypatch.setattr(hub, "reachable", lambda: True)
    (item,) = registry.load("mmlu@2").items
    assert asked == [("cais/mmlu", "all", "test"), ("cais/mmlu", "all", "dev")]
    assert "Was it 0?\nA. e\nB. f\nC. g\nD. h\nAnswer: A\n\nWas it 1?" in item.context and item.id == "art-1"


def test_every_standard_suite_has_its_source() -> None:
    infos = [info for info in registry.names() if not info.bundled]
    wanted = {"mmlu", "hellaswag", "arc_easy", "arc_challenge", "truthfulqa_mc1", "truthfulqa_mc2", "sst2",
              "cola",
              "rte", "qnli", "mrpc", "mnli", "wikitext"}  # fmt: skip
    assert wanted <= {info.name for info in infos}
    for info in infos:
        assert info.licence and info.title and info.description and info.version
        assert info.source.startswith("https://huggingface.co/datasets/") or info.name in (
            "perplexity",
            "abuseeval",
        )


def test_only_some_suites_take_examples() -> None:
    with pytest.raises(LabError, match="only mmlu and gsm8k take them"):
        registry.load("hellaswag@2:x")
    with pytest.raises(LabError, match="too many"):
        registry.load("mmlu@9")
