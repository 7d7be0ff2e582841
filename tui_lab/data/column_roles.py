"""The formats of data and the roles of columns: which names a column of a role may have, which roles a format
has, and what each role becomes. Names are compared without regard to case, blanks and hyphens."""

from __future__ import annotations

import re

FORMATS = (
    "alpaca", "messages", "sharegpt", "prompt_completion", "question_answer", "text",
    "preference", "feedback",
)  # fmt: skip
LABELS = {
    "alpaca": "Alpaca",
    "messages": "messages (OpenAI, ChatML)",
    "sharegpt": "ShareGPT",
    "prompt_completion": "prompt–completion",
    "question_answer": "question–answer",
    "text": "raw text",
    "preference": "preference pairs",
    "feedback": "answers with a verdict",
}
ACCEPTED = (
    "instruction + output [+ input] (Alpaca), messages with role + content (OpenAI), conversations with "
    "from + value (ShareGPT), prompt + completion, question + answer, "
    "chosen + rejected [+ prompt], prompt + completion + label, or text"
)

MESSAGES = (
    "messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns", "data", "contents",
    "chat_messages", "dialogs", "dialogues", "conv", "convo", "thread",
)  # fmt: skip
QUESTIONS = ("question", "query", "problem", "question_stem", "question_text", "q", "ques", "questions")
WHOLE_TEXTS = ("text", "content")  # a question only where the answer is not part of it
OTHER_QUESTIONS = (
    "inputs", "input", "input_text", "source", "user", "human", "user_message", "sentence", "ctx", "goal",
    "request", "message", "message_1", "src", "inputs_pretokenized", "nl", "docstring",
    "context", "document", "article", "report", "post", "dialogue", "dialog", "source_text", *WHOLE_TEXTS,
)  # fmt: skip
ANSWERS = ("answer", "response", "solution", "answers", "ans")
OTHER_ANSWERS = (
    "output", "outputs", "targets", "target", "output_text", "completion", "assistant", "gpt", "bot",
    "chatbot",
    "ai", "assistant_message", "reply", "message_2", "target_text", "tgt", "targets_pretokenized",
    "correct_answer", "best_answer", "generated_solution", "canonical_solution", "expected_answer",
    "gold_answer",
    "answer_text", "answers_spans", "summary", "highlights", "abstract", "sql", "code", "a",
)  # fmt: skip
KEYS = (
    "answerkey", "answer_key", "answer_idx", "answer_index", "answer_id", "correct", "cop", "label", "gold",
    "gold_label", "correct_option", "correct_choice", "correct_index", "correct_idx", "correct_answer_index",
    "correct_answer_idx", "right_choice", "target",
)  # fmt: skip
#: Columns for each role, in order of preference.
ROLE_COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": MESSAGES,
    "instruction": ("instruction", "instructions", "definition"),
    "question": QUESTIONS + OTHER_QUESTIONS,
    "prompt": ("prompt",),
    "completion": ("completion", "response", "output", "answer", "completions", "canonical_solution"),
    "answer": ANSWERS + OTHER_ANSWERS,
    "key": KEYS,
    "choices": (
        "choices", "options", "answer_choices", "answer_options", "candidates", "endings", "alternatives",
        "possible_answers",
    ),
    "input": ("input", "inputs"),
    "context": (
        "context", "contexts", "passage", "passages", "article", "paragraph", "paragraphs", "background",
        "support", "evidence", "premise", "story", "document", "documents", "docs", "knowledge",
        "source_text",
        "context_text", "background_knowledge",
    ),
    "system": (
        "system", "system_prompt", "system_message", "system_instruction", "system_instructions",
        "sys_prompt", "sys", "system_content",
    ),
    "history": (
        "history", "chat_history", "conversation_history", "dialogue_history", "dialog_history",
        "message_history", "past_turns", "previous_turns", "prior_turns", "previous_messages",
        "prior_messages", "past_messages", "previous_conversation",
    ),
    "reasoning": (
        "reasoning_content", "reasoning", "thinking", "thought", "thoughts", "complex_cot", "cot",
        "chain_of_thought", "reasoning_trace", "thought_process", "thinking_process", "thinking_content",
    ),
    "wanted": ("label",),
    "mask": (
        "loss_mask", "loss_masks", "train_mask", "turn_mask", "mask", "masks", "weights", "loss_weights",
        "train_on_turns",
    ),
    "tools": ("tools", "functions"),
    "text": (
        "text", "story", "content", "document", "body", "raw_content", "raw_text", "page_content", "article",
        "passage", "paragraph", "abstract", "code", "markdown", "lyrics", "poem", "transcript",
    ),
    "task": ("task",),
    "chosen": (
        "chosen", "preferred", "accepted", "chosen_response", "preferred_output", "chosen_answer",
        "preferred_response", "response_j", "winner", "accept", "y_w", "better",
    ),
    "rejected": (
        "rejected", "dispreferred", "rejected_response", "non_preferred_output", "rejected_answer",
        "dispreferred_response", "non_preferred_response", "response_k", "loser", "reject", "y_l", "worse",
    ),
    "label": ("label", "liked", "thumbs_up", "verdict", "feedback"),
    "tests": ("tests", "test", "test_list", "unit_tests"),
    "setup": ("test_setup_code", "test_imports", "setup_code"),
    "entry_point": ("entry_point",),
}  # fmt: skip
#: Words in the name of a column that no format knows: a question, an answer, neither.
QUESTION_WORDS = frozenset((
    "question", "query", "prompt", "instruction", "problem", "request", "input", "user", "human", "customer",
))  # fmt: skip
ANSWER_WORDS = frozenset((
    "answer", "response", "output", "reply", "completion", "solution", "assistant", "bot", "ai", "agent",
    "model", "sql",
))  # fmt: skip
OTHER_WORDS = frozenset((
    "id", "ids", "url", "type", "date", "time", "lang", "language", "source", "name", "score", "hash",
    "count",
    "length", "len", "tokens", "category", "topic", "title", "index", "version", "rating",
))  # fmt: skip
USES = {
    "messages": "the turns",
    "instruction": "the user's turn",
    "question": "the user's turn",
    "prompt": "the prompt",
    "completion": "the completion, trained",
    "answer": "the assistant's turn, trained",
    "key": "the number or letter of the right choice, trained",
    "choices": "the choices, below the question",
    "input": "below the instruction",
    "context": "the text that the question is about",
    "system": "the system turn",
    "history": "earlier turns",
    "reasoning": "what the assistant thinks before the answer, trained",
    "wanted": "rows where it is false are left out",
    "mask": "which turns are trained",
    "tools": "the tools, in the template's own form",
    "text": "the text, trained",
    "task": "the name of the row's task",
    "chosen": "the better answer, made more likely",
    "rejected": "the worse answer, made less likely by a preference loss",
    "label": "whether the answer is good",
    "tests": "the tests of an answer that is code",
    "setup": "code before the tests",
    "entry_point": "the function that the tests call",
}
_TESTS = ("tests", "setup", "entry_point")
_AROUND = ("system", "history", "reasoning", "tools", "task", *_TESTS)  # a question with its answer
ROLES_OF_FORMAT: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "system", "mask", "tools", "task", *_TESTS),
    "alpaca": ("instruction", "input", "context", "answer", *_AROUND),
    "prompt_completion": ("prompt", "completion", "context", "wanted", *_AROUND),
    "question_answer": ("context", "question", "choices", "answer", "key", *_AROUND),
    "text": ("text", "task"),
    "preference": (
        "chosen", "rejected", "messages", "prompt", "instruction", "question", "input",
        "system", "history", "tools",
    ),
    "feedback": ("prompt", "completion", "label", "system", "history", "tools"),
}  # fmt: skip
ROLES_OF_FORMAT["sharegpt"] = ROLES_OF_FORMAT["messages"]
#: Names that a mapping may give to a column.
MAPPED_NAMES = (
    "question", "answer", "instruction", "input", "output", "prompt", "completion", "context", "system",
    "history", "reasoning", "choices", "messages", "tools", "text", "task", "chosen", "rejected", "label",
    "tests",
)  # fmt: skip
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")


def canonical(name: str) -> str:
    """The name of a column in lower case, with single underscores: ``systemPrompt`` is ``system_prompt``."""
    return re.sub(r"[\s_\-.]+", "_", _CAPITAL.sub("_", name.strip()).lower()).strip("_")
