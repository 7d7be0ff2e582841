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

MESSAGES = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns", "data")
QUESTIONS = ("question", "query", "problem", "question_stem", "question_text")
OTHER_QUESTIONS = (
    "inputs", "input", "input_text", "source", "user", "human", "user_message", "sentence", "ctx", "goal",
    "context", "document", "article", "dialogue", "dialog",
)  # fmt: skip
ANSWERS = ("answer", "response", "solution", "answers")
OTHER_ANSWERS = (
    "output", "outputs", "targets", "target", "output_text", "completion", "assistant", "gpt", "bot",
    "assistant_message", "reply", "correct_answer", "expected_answer", "gold_answer", "generated_solution",
    "answer_text", "summary", "highlights", "sql",
)  # fmt: skip
KEYS = (
    "answerkey", "answer_key", "answer_idx", "answer_index", "answer_id", "correct", "cop", "label", "gold",
    "gold_label", "correct_option", "correct_choice", "correct_index", "correct_idx", "correct_answer_index",
    "correct_answer_idx", "right_choice", "target",
)  # fmt: skip
#: Columns for each role, in order of preference.
ROLE_COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": MESSAGES,
    "instruction": ("instruction", "instructions"),
    "question": QUESTIONS + OTHER_QUESTIONS,
    "prompt": ("prompt",),
    "completion": ("completion", "response", "output", "answer"),
    "answer": ANSWERS + OTHER_ANSWERS,
    "key": KEYS,
    "choices": (
        "choices",
        "options",
        "answer_choices",
        "answer_options",
        "candidates",
        "endings",
        "alternatives",
        "possible_answers",
    ),
    "input": ("input", "inputs"),
    "context": (
        "context",
        "contexts",
        "passage",
        "passages",
        "article",
        "paragraph",
        "paragraphs",
        "background",
        "support",
        "evidence",
        "premise",
        "document",
        "documents",
        "docs",
        "knowledge",
        "source_text",
        "context_text",
        "background_knowledge",
    ),
    "system": (
        "system",
        "system_prompt",
        "system_message",
        "system_instruction",
        "system_instructions",
        "sys_prompt",
        "sys",
        "system_content",
    ),
    "history": (
        "history",
        "chat_history",
        "conversation_history",
        "dialogue_history",
        "dialog_history",
        "message_history",
        "past_turns",
        "previous_turns",
        "prior_turns",
        "previous_messages",
        "prior_messages",
        "past_messages",
        "previous_conversation",
    ),
    "reasoning": ("reasoning_content", "reasoning", "thinking", "thought", "thoughts"),
    "wanted": ("label",),
    "tools": ("tools", "functions"),
    "text": ("text", "story", "content", "document"),
    "task": ("task",),
    "chosen": ("chosen", "preferred", "accepted", "chosen_response"),
    "rejected": ("rejected", "dispreferred", "rejected_response"),
    "label": ("label", "liked", "thumbs_up", "verdict", "feedback"),
}
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
    "tools": "the tools, in the template's own form",
    "text": "the text, trained",
    "task": "the name of the row's task",
    "chosen": "the better answer, made more likely",
    "rejected": "the worse answer, made less likely by a preference loss",
    "label": "whether the answer is good",
}
_AROUND = ("system", "history", "reasoning", "tools", "task")  # a question with its answer
ROLES_OF_FORMAT: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "system", "tools", "task"),
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
)  # fmt: skip
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")


def canonical(name: str) -> str:
    """The name of a column in lower case, with single underscores: ``systemPrompt`` is ``system_prompt``."""
    return re.sub(r"[\s_\-.]+", "_", _CAPITAL.sub("_", name.strip()).lower()).strip("_")
