"""A session fails whose `-k` has a word that chooses no test."""

import pytest

pytest_plugins = ["pytester"]

TESTS = "def test_one(): pass\ndef test_two(): pass\ndef test_three(): pass\n"


@pytest.mark.parametrize(
    ("expression", "passed", "unchosen"),
    [
        ("one or two", 2, []),
        ("test and not two", 2, []),
        ("not two", 2, []),
        ("one or no_grad", 0, ["no_grad"]),
        ("(one or tw) and (test_t or gone or one)", 0, ["gone"]),
        ("one and two or three", 0, ["one", "two"]),
        ("(two or three) and not one", 0, ["one"]),
    ],
)
def test_each_word_chooses_some_test(
    expression: str, passed: int, unchosen: list[str], pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(TESTS)
    plugins = ("-p", "suite.checks.selection", "-p", "no:xdist", "-p", "no:benchmark")
    result = pytester.runpytest_inprocess(*plugins, "-k", expression)
    result.assert_outcomes(passed=0 if unchosen else passed, failed=len(unchosen))
    for word in unchosen:
        result.stdout.fnmatch_lines(f"*expected words that each choose a test, got '{word}', which chooses none")
