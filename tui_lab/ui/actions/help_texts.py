"""What the help says beside the keys: what each pane and each screen over a pane is for. Keys stand in the
texts as ids of actions in braces, so that they are the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tui_lab.ui.actions.registry import first_key

ABOUT = {
    "setup": (
        "Choose a model, a preset and data; every field of the recipe can be edited. The defaults make a "
        "QLoRA run on the bundled model that ends in about a minute: just press {setup.start}. "
        "{app.explain} explains the field under the cursor; {app.whether} asks whether to fine-tune at all."
    ),
    "train": (
        "Watch a run: its loss on training and held-out rows, memory, speed, samples, and what the model "
        "still knows: retention with its 95% interval, and the distance (KL) from the base on general text "
        "and on the task's own. {train.arm} arms the run: it stops once retention is surely lost. "
        "{train.flags} tells what goes wrong, {app.explain} what a figure means. The run is a process of its "
        "own: it goes on when you leave the lab or the line breaks."
    ),
    "playground": (
        "One prompt, every lane at once. Type a prompt and press {prompt.send}; {prompt.leave} goes to the "
        "lanes, where {playground.edit} edits one in place, {playground.next} goes to the next, {playground.inspect} "
        "looks into its tokens, and {playground.tuned} loads a tuned run beside its base."
    ),
    "retention": (
        "What a run kept of what its base knew: questions asked before and after, how much was retained and "
        "how sure that is, which items flipped (Enter opens one), and what to try next. * is retention above "
        "chance: guessing counts as nothing kept. {app.explain} explains every figure."
    ),
    "runs": (
        "Every run. {runs.mark} marks runs: their curves lie over each other under Curves ({runs.metric} and "
        "{runs.axis} change what is drawn), what their recipes differ in is under Recipes. {runs.filter} "
        "filters by words, by state:, model:, data: or tag:. Runs that wait in the queue are here, too: it "
        "goes on without the lab."
    ),
    "inspector": (
        "Move along a lane token by token and see what else could have come. Tokens are coloured by "
        "surprise, −log2 of their probability; the glyphs under them say the same: ▁ from 1 bit, ▃ from 3, "
        "▅ from 6, █ from 10 bits. ▶ marks the token that was taken, ✂ those that a setting cut. A whole bar "
        "stands for the share in the corner of its panel."
    ),
    "blind": (
        "Two answers to each prompt, unnamed and in random order: say which is better. At the end you are "
        "told what they were, how often each was preferred, and what so many votes can tell. Votes are kept "
        "as they are given; the same lanes on the same prompts go on where they stopped."
    ),
    "export": (
        "Take what a run learned elsewhere. Enter exports the kind under the cursor; every export is checked "
        "against the run before it is called done."
    ),
}
MOVING = (
    "Arrow keys, Page Up and Page Down, Home and End move in every list; Tab goes to the next part, Enter "
    "takes what is under the cursor, and Esc leaves what lies over a pane. Function keys work while a text "
    "is typed, too; letters and digits are text there. While a question is open the panes wait for its "
    "answer. Curves differ by their marks, not by colour alone; the legend over each plot names them."
)
WHETHER_TITLE = "Fine-tune at all, or prompt, or retrieve?"
#: About one screen; each paragraph with its head.
WHETHER = (
    (
        "Prompt first",
        "it costs minutes and changes nothing. Good where the model can do the task and only has to "
        "be told how: say it plainly, give two to five examples. It costs tokens with every question,"
        " and small models follow long instructions badly.",
    ),
    (
        "Retrieve",
        "where answers hang on facts that are new, many, change, or must be cited: put the passages "
        "into the prompt. In a comparison of both, retrieval beat tuning on new facts [1]; and models"
        " that are tuned on facts they did not know tend to make more up [2]. It costs an index and "
        "longer prompts.",
    ),
    (
        "Fine-tune",
        "where behaviour is wanted, not facts: a format, a tone, a fixed kind of task, a shorter "
        "prompt, a small model in place of a large one. A few hundred to a thousand good rows can do "
        "[3], and with few examples a tuned adapter can beat examples in the prompt [4]. It costs "
        "data, hours, a check for each new base model, and some of what the model knew: less with "
        "LoRA than with all weights [5].",
    ),
    (
        "Small models",
        "under 3 B gain most from tuning on narrow, regular tasks (extract, classify, rewrite, one "
        "format). Tuning does not make them reason or know much more; a larger model with a prompt "
        "may be cheaper.",
    ),
    (
        "Find out here",
        "1. Playground ({app.playground}): write your best prompt with examples ({playground.system} sets the "
        "system prompt); if the answers do, stop here. 2. Paste the passages a search would find into"
        " the prompt; if that does, retrieve. 3. Else hold rows out, tune a small run with the "
        "starter preset ({app.setup}), vote base against tuned blind ({playground.blind}). 4. Retention "
        "({app.retention}): measure everyday, and a suite of your own questions, before and after. Ship "
        "only what gains more than it loses.",
    ),
)
WHETHER_SOURCES = (
    "[1] Ovadia et al. 2023, arXiv 2312.05934. [2] Gekhman et al. 2024, arXiv 2405.05904. [3] LIMA, "
    "Zhou et al. 2023, arXiv 2305.11206 (a model of 65 B). [4] Liu et al. 2022, arXiv 2205.05638. [5]"
    " Biderman et al. 2024, arXiv 2405.09673."
)
_KEY = re.compile(r"\{([a-z_.-]+)\}")


def filled(text: str, keymap: Mapping[str, str] | None = None) -> str:
    """``text`` with the keys of the actions that it names in braces."""
    return _KEY.sub(lambda found: first_key(found[1], keymap), text)
