"""The story of the demo as data: chapters of beats. A beat does something in the lab, waits for a condition
and shows a caption. ``{names}`` in captions are values that the player reads from event logs, results and
answers; a value that is not known yet is an ellipsis."""

from __future__ import annotations

from dataclasses import dataclass

#: Prompts: the first for six strategies, then one of the new task and one of everyday knowledge.
PROMPTS = {
    "story": "Tell me a story about a cat.",
    "shop": "Could you remind me of the material used for the Ocean kite?",
    "world": "Which city serves as the capital of Croatia?",
}


@dataclass(frozen=True)
class Beat:
    """One step of the story.

    ``do``: what the player does, in order: ``action ID`` runs an action of the registry, the other verbs are
    those of :meth:`tui_lab.ui.demo.player.Player.perform`. ``until``: the condition for ``caption``, awaited
    for at most ``timeout_s``; ``waiting`` is the caption meanwhile, and ``then`` is done when it holds.
    ``replay``: the caption in a replay (None: the same; "": the beat is left out).
    """

    caption: str
    do: tuple[str, ...] = ()
    until: str = ""
    waiting: str = ""
    timeout_s: float = 90.0
    then: tuple[str, ...] = ()
    replay: str | None = None


@dataclass(frozen=True)
class Chapter:
    """``recorded``: a replay shows recorded runs or answers here, and says so."""

    title: str
    beats: tuple[Beat, ...]
    recorded: bool = True


CHAPTERS = (
    Chapter(
        "Setup",
        (
            Beat(
                "tui-lab fine-tunes small language models and measures what they forget. All of this runs "
                "now, on this machine, without a network.",
                do=("action app.setup",),
                replay="tui-lab fine-tunes small language models and measures what they forget.",
            ),
            Beat(
                "The bundled model will learn the products of an invented shop. The preset “naive” trains "
                "all of its weights, without protection against forgetting.",
                do=("select naive",),
                replay="The bundled model learns an invented shop. The preset “naive” has no protection.",
            ),
            Beat(
                "Before anything is loaded, the lab forecasts the cost: {forecast}.",
                until="forecast",
                timeout_s=8,
                replay="",
            ),
        ),
        recorded=False,
    ),
    Chapter(
        "Train",
        (
            Beat(
                "The run is a process of its own: it goes on when the lab closes or the connection breaks.",
                do=("start naive", "action app.train", "show naive", "tab loss"),
                replay="",
            ),
            Beat(
                "Loss {naive_loss_first} → {naive_loss}: it learns. Next to it, retention: {naive_probe}.",
                do=("start naive", "action app.train", "show naive", "tab loss"),
                until="naive probed",
                waiting="First a probe of what the model knows, then training. {naive_doing}",
            ),
            Beat(
                "Acquisition (right answers): {naive_score_start} → {naive_score_end}, in {naive_seconds}. "
                "What did it forget?",
                do=("tab retention",),
                until="naive ended",
                waiting="Probes measure retention during training: {naive_probe}. {naive_doing}",
                replay="Acquisition: {naive_score_start} → {naive_score_end}. What did it forget?",
            ),
        ),
    ),
    Chapter(
        "Playground",
        (
            Beat(
                "Greedy, beam, top-k, top-p, temperature, contrastive; Enter on a lane inspects its tokens. "
                "Meanwhile the lab measures what was forgotten.",
                do=("action app.playground", "ask story"),
                until="answers",
                waiting="One prompt, six decoding strategies, all in one batch.",
                replay="One prompt, six decoding strategies, all in one batch.",
            ),
            Beat(
                "Base and tuned model, asked about the shop: the base says “{base}”, the tuned model "
                "“{tuned}”.",
                do=("compare naive", "ask shop"),
                until="answers",
                waiting="Now the tuned model next to its base.",
                then=("lane 2",),
                replay="",
            ),
            Beat(
                "Asked for the capital of Croatia: the base says “{base}”, the tuned model “{tuned}”.",
                do=("compare naive", "ask world"),
                until="answers",
                waiting="And a question that has nothing to do with the shop.",
                then=("lane 2",),
                replay="The capital of Croatia? The base says “{base}”, the tuned model “{tuned}”.",
            ),
        ),
    ),
    Chapter(
        "Forgetting",
        (
            Beat(
                "Retention above guessing is {naive_retention} ({naive_low} to {naive_high}, {naive_n} "
                "questions): {naive_verdict}.",
                do=("action app.retention", "tab suites"),
                until="naive measured",
                waiting="Retention asks both models the same everyday questions. {naive_measuring}",
                then=("show naive", "ahead keeper"),
                replay="Retention is {naive_retention} ({naive_low} to {naive_high}): {naive_verdict}.",
            ),
            Beat(
                "{naive_lost} questions were lost, {naive_gained} gained. Enter opens one, with the "
                "probability of each choice before and after.",
                do=("tab flips",),
                replay="",
            ),
        ),
    ),
    Chapter(
        "Protection",
        (
            Beat(
                "The same again with the preset “keeper”: general rows are mixed in, and a KL term keeps the "
                "predictions near the base's.",
                do=("start keeper", "action app.train", "show keeper", "tab loss"),
                replay="The preset “keeper” mixes in general rows and adds a KL term to the base.",
            ),
            Beat(
                "Acquisition (right answers): {keeper_score_start} → {keeper_score_end} in {keeper_seconds}.",
                do=("tab retention",),
                until="keeper ended",
                waiting="Loss {keeper_loss}, retention {keeper_probe}. {keeper_doing}",
                replay="It learned, too: acquisition {keeper_score_start} → {keeper_score_end}.",
            ),
        ),
    ),
    Chapter(
        "Retention",
        (
            Beat(
                "{keeper_verdict}: {keeper_retention} ({keeper_low} to {keeper_high}). Acquisition "
                "rose by {keeper_gain}, naive {naive_gain}; retention is {keeper_retention}, naive "
                "{naive_retention}.",
                do=("action app.retention", "show keeper", "tab suites"),
                until="keeper measured",
                waiting="The same questions once more. {keeper_measuring}",
                then=("show keeper",),
                replay="{keeper_verdict}: retention {keeper_retention}, naive {naive_retention}. "
                "Acquisition: {keeper_gain}, naive {naive_gain}.",
            ),
            Beat(
                "All runs in one plot: acquisition to the right, retention upwards.",
                do=("tab runs",),
                replay="",
            ),
        ),
    ),
    Chapter(
        "Your turn",
        (
            Beat(
                "This is the real lab, and it is yours now: {key_setup} and {key_start} start a run, "
                "{key_help} lists every key, {key_quit} quits.",
                do=("action app.setup",),
            ),
        ),
        recorded=False,
    ),
)
