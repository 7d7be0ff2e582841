"""Texts of the help: what each pane and some modal screens are for. Keys are written as ids of actions in
braces, so that the user's own keys are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tui_lab.ui.actions.registry import first_key

ABOUT = {
    "setup": (
        "Choose a model, a preset and data; every field of the recipe can be edited. The defaults make a "
        "QLoRA run on the bundled model that takes about a minute: press {setup.start}. {app.explain} "
        "explains the field under the cursor; {app.whether} discusses whether to fine-tune at all."
    ),
    "train": (
        "Watch a run: its loss on training and held-out rows, memory, speed, samples, retention with its 95% "
        "interval, and the KL divergence from the base on general text and on the task's own. {train.arm} "
        "arms the run: it stops once retention is surely lost. {train.flags} shows what goes wrong, "
        "{app.explain} explains a figure. The run is a process of its own: it continues when you leave the "
        "lab or the connection breaks."
    ),
    "playground": (
        "Decode one prompt in every lane at once. Type a prompt and press {prompt.send}; {prompt.leave} goes "
        "to the lanes, where {playground.edit} edits one, {playground.next} goes to the next, "
        "{playground.inspect} inspects its tokens, and {playground.tuned} loads a tuned run next to its base."
    ),
    "retention": (
        "How much of its base model's knowledge a run retained: items asked before and after, the share "
        "retained with its interval, the items that flipped (Enter opens one), and what to try next. * is "
        "retention above chance: guessing counts as nothing retained. {app.explain} explains every figure."
    ),
    "runs": (
        "All runs. {runs.mark} marks runs: Curves draws their curves in one plot ({runs.metric} and "
        "{runs.axis} change what is drawn), Recipes shows the fields in which they differ. {runs.filter} "
        "filters by words, state:, model:, data: or tag:. The table also has the runs of the queue, which "
        "continues without the lab."
    ),
    "inspector": (
        "Move along a lane token by token and see the alternatives. Tokens are coloured by surprise (−log2 "
        "of their probability); the glyphs under them show the same: ▁ from 1 bit, ▃ from 3, ▅ from 6, █ "
        "from 10 bits. ▶ marks the token that was taken, ✂ tokens that a setting removed. A full bar stands "
        "for the share in the corner of its panel."
    ),
    "blind": (
        "Vote on two answers to each prompt, unnamed and in random order. The result shows which lane each "
        "was, how often it was preferred, and what this number of votes can show. Votes are saved at once; "
        "the same lanes on the same prompts continue where they stopped."
    ),
    "export": (
        "Export what a run learned. Enter exports the kind under the cursor; every export is compared with "
        "the run before it is reported as done."
    ),
}
MOVING = (
    "Arrow keys, Page Up, Page Down, Home and End move in every list; Tab goes to the next part, Enter takes "
    "the line under the cursor, and Esc closes a modal screen. Function keys work while text is typed; "
    "letters and digits are text there. While a question is open the panes wait for its answer. Curves "
    "differ by their marks as well as by colour; the legend above each plot names them."
)
WHETHER_TITLE = "Fine-tune at all, or prompt, or retrieve?"
#: About one screen; each paragraph with its head.
WHETHER = (
    (
        "Prompt first",
        "it takes minutes and changes nothing. It suits tasks that the model can do if the prompt says "
        "how: state the task plainly and give two to five examples. It costs tokens with each request, and "
        "small models follow long instructions badly.",
    ),
    (
        "Retrieve",
        "if answers depend on facts that are new, many, changing, or must be cited: put the passages "
        "into the prompt. Retrieval did better than fine-tuning on new facts [1], and models that are "
        "fine-tuned on facts they did not know hallucinate more [2]. It costs an index and longer prompts.",
    ),
    (
        "Fine-tune",
        "for behaviour rather than facts: a format, a tone, one kind of task, a shorter prompt, a small "
        "model in place of a large one. A few hundred to a thousand good rows can be enough [3], and an "
        "adapter trained on few examples can do better than the same examples in the prompt [4]. It costs "
        "data, hours, a check of each new base model, and some of the model's knowledge: less with LoRA "
        "than with full fine-tuning [5].",
    ),
    (
        "Small models",
        "under 3 B gain most from fine-tuning on narrow, regular tasks (extraction, classification, "
        "rewriting, one format). It adds little reasoning or knowledge; a larger model with a prompt may be "
        "cheaper.",
    ),
    (
        "Find out here",
        "1. Playground ({app.playground}): write your best prompt with examples ({playground.system} sets "
        "the system prompt); if the answers are good, stop here. 2. Paste the passages that a search would "
        "find into the prompt; if that is enough, use retrieval. 3. Otherwise hold rows out, run a small "
        "fine-tuning with the starter preset ({app.setup}), and vote base against tuned blind "
        "({playground.blind}). 4. Retention ({app.retention}): measure everyday, and a suite of your own "
        "questions, before and after. Use only what gains more than it loses.",
    ),
)
WHETHER_SOURCES = (
    "[1] Ovadia et al. 2023, arXiv 2312.05934. [2] Gekhman et al. 2024, arXiv 2405.05904. [3] LIMA, "
    "Zhou et al. 2023, arXiv 2305.11206 (a model of 65 B). [4] Liu et al. 2022, arXiv 2205.05638. [5]"
    " Biderman et al. 2024, arXiv 2405.09673."
)
_KEY = re.compile(r"\{([a-z_.-]+)\}")


def filled(text: str, keymap: Mapping[str, str] | None = None) -> str:
    """``text`` with the ids of actions in braces replaced by their keys."""
    return _KEY.sub(lambda found: first_key(found[1], keymap), text)
