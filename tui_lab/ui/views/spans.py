"""A part of a text: a string and the style role it is drawn in."""

from __future__ import annotations

#: Text and the semantic name that colours it ("" for plain).
TextSpan = tuple[str, str]
