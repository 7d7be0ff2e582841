"""The story of the demo as data: chapters of beats. A beat does something in the lab, waits until something
is really so (a run has ended, answers have come), and says it in a caption. ``{names}`` in captions are
figures that the player reads from the runs' event logs, results and answers; none is written here."""

from __future__ import annotations

from dataclasses import dataclass

#: Prompts of the story: the first for six strategies, then one of the new task and one of everyday knowledge.
STORY = "Tell me a story about a cat."
SHOP = "Could you remind me of the material used for the Ocean kite?"
WORLD = "Which city serves as the capital of Croatia?"


@dataclass(frozen=True)
class Beat:
    """One thing to see. ``do``: what the player does, in order: ``action ID`` takes an action of the lab's
    registry, other words are the player's own. ``until``: what must be so before ``caption`` is said, for
    ``most_s`` at most; ``waiting`` is said meanwhile, and ``then`` is done once it is so. ``short``: the
    caption where recordings are played (None: the same; "": the beat is left out)."""

    caption: str
    do: tuple[str, ...] = ()
    until: str = ""
    waiting: str = ""
    most_s: float = 60.0
    then: tuple[str, ...] = ()
    short: str | None = None


@dataclass(frozen=True)
class Chapter:
    """``shows``: the parts (runs of the story, or "answers") whose recordings would be labelled as such."""

    title: str
    beats: tuple[Beat, ...]
    shows: tuple[str, ...] = ()


CHAPTERS = (
    Chapter(
        "Choose",
        (
            Beat(
                "tui-lab tunes small language models and measures what they forget. All of this is computed "
                "now, on this machine, without a network.",
                do=("action app.choose",),
                short="tui-lab tunes small language models and measures what they forget.",
            ),
            Beat(
                "The bundled model will learn the goods of an invented shop. The preset “naive” trains all "
                "of its weights and protects nothing.",
                do=("choose naive",),
                short="The bundled model learns an invented shop. The preset “naive” protects nothing.",
            ),
            Beat(
                "Before anything is loaded the lab says what it will take: {forecast}.",
                until="forecast",
                most_s=8,
                short="",
            ),
        ),
    ),
    Chapter(
        "Tune",
        (
            Beat(
                "The run is a process of its own: it goes on when the lab closes or the line breaks.",
                do=("start naive", "action app.tune", "show naive", "tab loss"),
                short="",
            ),
            Beat(
                "Loss {naive.loss_first} → {naive.loss}: it learns. Beside that, retention: {naive.probe}.",
                do=("start naive", "action app.tune", "show naive", "tab loss"),
                until="naive probed",
                waiting="First it is asked what it knows, then it trains. {naive.doing}",
            ),
            Beat(
                "Learned: exact answers {naive.score_start} → {naive.score_end}, in {naive.seconds}. "
                "And what did that cost?",
                do=("tab retention",),
                until="naive ended",
                waiting="Now and then it is asked what it still knows: {naive.probe}. {naive.doing}",
                short="Learned: exact answers {naive.score_start} → {naive.score_end}. At what cost?",
            ),
        ),
        shows=("naive",),
    ),
    Chapter(
        "Compare",
        (
            Beat(
                "Greedy, beam, top-k, top-p, temperature, contrastive; Enter on a lane opens its tokens. "
                "{naive.meanwhile}",
                do=("action app.compare", "ask story"),
                until="answers",
                waiting="One prompt, six ways to decode it, all in one batch.",
                short="One prompt, six ways to decode it, all in one batch.",
            ),
            Beat(
                "Base and tuned side by side, asked about the shop: the base says “{base}”, "
                "the tuned model “{tuned}”.",
                do=("beside naive", "ask shop"),
                until="answers",
                waiting="Now the tuned model beside its base.",
                then=("lane 2",),
                short="",
            ),
            Beat(
                "And asked for the capital of Croatia: the base says “{base}”, the tuned model “{tuned}”.",
                do=("beside naive", "ask world"),
                until="answers",
                waiting="And a question that has nothing to do with the shop.",
                then=("lane 2",),
                short="The capital of Croatia? The base says “{base}”, the tuned model “{tuned}”.",
            ),
        ),
        shows=("answers",),
    ),
    Chapter(
        "Forget",
        (
            Beat(
                "Of what the base knew above guessing {naive.retention} is left ({naive.low} to "
                "{naive.high}, {naive.n} questions): {naive.verdict}.",
                do=("action app.keep", "tab suites"),
                until="naive measured",
                waiting="Keep asks both the same everyday questions. {naive.measuring}",
                then=("show naive", "ahead keeper"),
                short="Of what the base knew {naive.retention} is left ({naive.low} to {naive.high}): "
                "{naive.verdict}.",
            ),
            Beat(
                "{naive.lost} questions were lost, {naive.gained} gained. Enter opens one, with how probable "
                "each choice was before and after.",
                do=("tab flips",),
                short="",
            ),
        ),
        shows=("naive",),
    ),
    Chapter(
        "Protect",
        (
            Beat(
                "The same again with the preset “keeper”: general rows are mixed in, and the model is held "
                "near the base's predictions.",
                do=("start keeper", "action app.tune", "show keeper", "tab loss"),
                short="The preset “keeper” mixes in general rows and holds the model near its base.",
            ),
            Beat(
                "Learned: exact answers {keeper.score_start} → {keeper.score_end}, in {keeper.seconds}.",
                do=("tab retention",),
                until="keeper ended",
                waiting="Loss {keeper.loss}, retention {keeper.probe}. {keeper.doing}",
                short="It learned, too: exact answers {keeper.score_start} → {keeper.score_end}.",
            ),
        ),
        shows=("keeper",),
    ),
    Chapter(
        "Keep",
        (
            Beat(
                "{keeper.verdict}: {keeper.retention} ({keeper.low} to {keeper.high}). It gained "
                "{keeper.gain} and naive {naive.gain}; it kept {keeper.retention} and naive "
                "{naive.retention}.",
                do=("action app.keep", "show keeper", "tab suites"),
                until="keeper measured",
                waiting="The same questions once more. {keeper.measuring}",
                then=("show keeper",),
                short="{keeper.verdict}: {keeper.retention} left, naive {naive.retention}. It gained "
                "{keeper.gain}, naive {naive.gain}.",
            ),
            Beat(
                "All runs in one picture: what each gained, and what it kept.",
                do=("tab runs",),
                short="",
            ),
        ),
        shows=("naive", "keeper"),
    ),
    Chapter(
        "Yours",
        (
            Beat(
                "This is the real lab, and it is yours now: {keys.choose} and {keys.start} start a run, "
                "{keys.help} lists every key, {keys.quit} leaves.",
                do=("action app.choose",),
            ),
        ),
    ),
)
