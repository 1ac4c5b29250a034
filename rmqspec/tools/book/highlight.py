"""Source code in a few classes of colour, so that a book of hundreds of tests stays small."""

from __future__ import annotations

from functools import lru_cache

from markupsafe import Markup, escape
from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, Token, _TokenType

__all__ = ["highlighted"]

# The first that contains a token's type names its class; what is in none has no colour of its own.
CLASSES: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "c"),
    (String, "s"),
    (Number, "n"),
    (Operator.Word, "k"),
    (Keyword, "k"),
    (Name.Decorator, "d"),
    (Name.Function, "f"),
    (Name.Class, "f"),
    (Token, ""),
)
LEXER = PythonLexer(stripnl=False)


@lru_cache(maxsize=4096)
def highlighted(source: str) -> Markup:
    """The source as HTML."""
    parts, kind, text = [], "", ""
    for token, value in LEXER.get_tokens(source):
        found = next(name for parent, name in CLASSES if token in parent)
        if found != kind:
            parts.append(_span(kind, text))
            kind, text = found, ""
        text += value
    return Markup("").join((*parts, _span(kind, text.rstrip())))


def _span(kind: str, text: str) -> Markup:
    if not kind or not text.strip():
        return escape(text)
    return Markup('<span class="{}">{}</span>').format(kind, text)
