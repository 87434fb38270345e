"""Texts as people read them."""


def in_one_line(text: object) -> str:
    """The text of an object, such as an error, with single spaces between its words."""
    return " ".join(str(text).split())
