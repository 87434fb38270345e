"""An edit of a saved tensor is told from other errors."""

import pytest
import torch

from suite.checks.equality.changes import is_of_saved_tensor


def test_the_error_of_an_edit_of_a_saved_tensor_is_known_by_what_torch_says() -> None:
    x = torch.ones(2, requires_grad=True)
    saved = x.exp()
    with torch.no_grad():
        saved.mul_(2)
    with pytest.raises(RuntimeError) as edited:
        saved.sum().backward()
    with pytest.raises(RuntimeError) as another:
        x.backward()
    assert is_of_saved_tensor(edited.value)
    assert not is_of_saved_tensor(another.value)
