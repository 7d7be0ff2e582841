"""A guess at the language of a suite, from its script and from frequent small words.

It is used only for a warning, so a few words of the most common languages are enough.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# Words that are frequent in one language and rare or absent in the others.
_SMALL_WORDS = {
    "English": "the is of and what which how to are who that this was were with for does where when do you "
    "it would has have an can",
    "German": "der die das und ist ein eine welche welcher nicht wie wer wo zu den dem mit auf für von "
    "wird sind",
    "French": "le la les est et une des quel quelle dans qui que pour avec sur du au ce où sont",
    "Spanish": "el los las es y una qué cuál quién cómo dónde del para con por se su son como más",
    "Italian": "il lo gli è e una quale qual chi che di della del per con dove come sono nel si",
    "Portuguese": "o os as é e uma qual quem que do da dos para com como onde são não em no",
    "Polish": "i w nie na się jest to że z do jak co od dla ale są po tak przez lub",
    "Finnish": "ja on ei se että hän oli mutta kun niin myös tai ovat sen kuin joka mitä ole voi olla",
    "Swahili": "na ya wa kwa ni katika za la kuwa hii yake au lakini ambayo hiyo huu cha sana watu pia",
    "Vietnamese": "và là của có không được cho một những các trong với đã này người để tôi như khi đến",
    "Dutch": "de het een en is van welke wat wie waar hoe niet met voor op zijn wordt dat",
}
_SCRIPTS = (
    ("CYRILLIC", "a Cyrillic script"), ("GREEK", "Greek"), ("ARABIC", "Arabic script"), ("HEBREW", "Hebrew"),
    ("DEVANAGARI", "Devanagari script"), ("CJK", "Chinese or Japanese"), ("HIRAGANA", "Japanese"),
    ("KATAKANA", "Japanese"), ("HANGUL", "Korean"), ("THAI", "Thai"), ("BENGALI", "Bengali"),
    ("TAMIL", "Tamil"),
)  # fmt: skip
_SAMPLE_CHARACTERS = 20_000
_FEWEST_SMALL_WORDS = 12  # fewer prove nothing


def other_language(texts: Sequence[str]) -> str | None:
    """The probable language of the texts; None for English and where it cannot be determined."""
    sample = " ".join(texts)[:_SAMPLE_CHARACTERS].casefold()
    letters = [char for char in sample if char.isalpha()]
    if not letters:
        return None
    scripts: Counter[str] = Counter()
    for char in letters:
        if not char.isascii():
            name = unicodedata.name(char, "")
            scripts.update([shown for start, shown in _SCRIPTS if name.startswith(start)][:1])
    if scripts and sum(scripts.values()) > len(letters) / 3:
        return scripts.most_common(1)[0][0]
    counts = _small_words(sample)
    best = max(counts, key=lambda language: counts[language])
    clearly = counts[best] >= _FEWEST_SMALL_WORDS and counts[best] > 1.5 * counts["English"]
    return best if best != "English" and clearly else None


def most_likely(text: str) -> str | None:
    """The language with the most small words in a text of any length; None where it has none of any."""
    counts = _small_words(text[:_SAMPLE_CHARACTERS].casefold())
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] else None


def _small_words(text: str) -> dict[str, int]:
    words = Counter(re.findall(r"[^\W\d_]+", text))
    return {name: sum(words[word] for word in table.split()) for name, table in _SMALL_WORDS.items()}
