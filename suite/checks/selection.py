"""A plugin of pytest for sessions that choose tests by `-k`: each word of the expression must choose some test.

A word that matches nothing, as after a test was renamed, would leave out what it was written for without an error.
"""

import re
from collections.abc import Callable, Generator
from typing import Any

import pytest
from _pytest.mark import KeywordMatcher
from _pytest.mark.expression import Expression


class Unchosen(pytest.Item):
    """A test that fails in place of all others: an error of collection would crash the workers of xdist."""

    def __init__(self, word: str, **of_item: Any) -> None:
        super().__init__(**of_item)
        self.word = word

    def runtest(self) -> None:
        """Name the word."""
        pytest.fail(f"-k: expected words that each choose a test, got {self.word!r}, which chooses none", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, object, object]:
    """Fail if the expression chooses the same tests without one of its words."""
    unchosen = unchosen_words(config.option.keyword, items)
    result = yield
    if unchosen:
        items[:] = [Unchosen.from_parent(session, name="-k", word=word) for word in unchosen]
    return result


def unchosen_words(expression: str, items: list[pytest.Item]) -> list[str]:
    """Words of an expression without which it chooses the same of these tests."""
    compiled = Expression.compile(expression)
    matchers = [KeywordMatcher.from_item(item) for item in items]
    chosen = [compiled.evaluate(matcher) for matcher in matchers]
    words = set(re.findall(r"[^\s()]+", expression)) - {"and", "or", "not"}
    unchosen = []
    for word in sorted(words):
        without = [compiled.evaluate(_without(word, matcher)) for matcher in matchers]
        if without == chosen:
            unchosen.append(word)
    return unchosen


def _without(word: str, matcher: KeywordMatcher) -> Callable[..., bool]:
    """A matcher for which no test has the word."""
    return lambda name, **values: name != word and matcher(name, **values)
