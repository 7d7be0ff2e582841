"""What the help says beside the keys: what each pane and each screen over a pane is for. Keys stand in the
texts as ids of actions in braces, so that they are the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tui_lab.ui.actions import first_key

ABOUT = {
    "choose": (
        "Choose a model, a preset and data; every field of the recipe can be edited. The defaults make a "
        "QLoRA run on the bundled model that ends in about a minute: just press {choose.start}. "
        ""
    ),
    "tune": (
        "Watch a run: its loss on training and held-out rows, memory, speed, samples, and what the model "
        "still knows: retention with its 95% interval, and the distance (KL) from the base on general text "
        "and on the task's own. {tune.arm} arms the run: it stops once retention is surely lost. "
        "{tune.flags} tells what goes wrong. The run is a process of its "
        "own: it goes on when you leave the lab or the line breaks."
    ),
    "compare": (
        "One prompt, every lane at once. Type a prompt and press {prompt.send}; {prompt.leave} goes to the "
        "lanes, where {compare.edit} edits one in place, {compare.next} goes to the next, {compare.inspect} "
        "looks into its tokens, and {compare.tuned} loads a tuned run beside its base."
    ),
    "keep": (
        "What a run kept of what its base knew: questions asked before and after, how much was retained and "
        "how sure that is, which items flipped (Enter opens one), and what to try next. * is retention above "
        "chance: guessing counts as nothing kept."
    ),
    "runs": (
        "Every run. {runs.mark} marks runs: their curves lie over each other under Curves ({runs.metric} and "
        "{runs.axis} change what is drawn), what their recipes differ in is under Recipes. {runs.filter} "
        "filters by words, by state:, model:, data: or tag:. Runs that wait in the queue are here, too: it "
        "goes on without the lab."
    ),
    "inspector": (
        "Move along a lane token by token and see what else could have come. Tokens are coloured by "
        "surprise, −log₂ of their probability; the glyphs under them say the same: ▁ from 1 bit, ▃ from 3, "
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
_KEY = re.compile(r"\{([a-z_.-]+)\}")


def filled(text: str, keymap: Mapping[str, str] | None = None) -> str:
    """``text`` with the keys of the actions that it names in braces."""
    return _KEY.sub(lambda found: first_key(found[1], keymap), text)
