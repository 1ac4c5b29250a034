"""Small drawings: elements of SVG as text, with everything that comes from outside escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

__all__ = ["cut", "drawing", "element", "fit"]


def element(tag: str, content: object = "", /, **attributes: object) -> Markup:
    """One element.

    Args:
        tag: Its name.
        content: Text, which is escaped, or elements.
        attributes: A trailing ``_`` is dropped, any other is a dash: ``class_``, ``text_anchor``. None leaves one out.
    """
    given = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    words = "".join(f' {name}="{escape(_number(value))}"' for name, value in given.items())
    inner = escape(content)
    return Markup(f"<{tag}{words}>{inner}</{tag}>") if inner else Markup(f"<{tag}{words}/>")  # noqa: S704 - escaped


def drawing(name: str, width: float, height: float, title: str, text: str, parts: Iterable[Markup]) -> Markup:
    """A whole drawing, with what it shows in words for those who do not see it.

    Args:
        name: Unique in its page.
        width: Pixels.
        height: Pixels.
        title: What is shown.
        text: The same in a sentence or two.
        parts: What it consists of.
    """
    content = Markup("").join((element("title", title, id=f"{name}-t"), element("desc", text, id=f"{name}-d"), *parts))
    labels = f"{name}-t {name}-d"
    box = f"0 0 {_number(width)} {_number(height)}"
    return element("svg", content, role="img", width=width, height=height, viewBox=box, aria_labelledby=labels)


def cut(text: str, length: int) -> str:
    """The text, on one line and with at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def fit(text: str, pixels: float, size: float) -> str:
    """As much of a text as has room, in the fixed-width font of so many pixels."""
    return cut(text, max(4, int(pixels / (size * 0.602))))


def _number(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
