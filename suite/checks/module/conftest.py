"""The outcomes of `test_capability` are the cells of the table of capabilities."""

from collections.abc import Generator

import pytest

from suite.conftest import ROW


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep a row of a capability: pass; no, where the implementation refuses as expected; FAIL; or not run."""
    report = yield
    if item.originalname == "test_capability" and (call.when == "call" or not report.passed):
        words = {"passed": "pass", "failed": "FAIL", "skipped": "no" if hasattr(report, "wasxfail") else "not run"}
        reason = str(call.excinfo.value if call.excinfo else report.longrepr or "").splitlines()[:1]
        about = {key: item.callspec.params[key] for key in ("capability", "implementation")}
        row = about | {"outcome": words[report.outcome], "reason": "".join(reason)}
        item.user_properties.append((ROW, ("capabilities", row)))
    return report
