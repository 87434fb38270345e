"""An edit before backward is told from other errors by what torch says of it."""

import pytest
import torch

from impls.tracing import is_of_an_edit


@pytest.mark.parametrize("saves_views", [False, True])
def test_an_edit_of_what_is_saved_is_known(saves_views: bool) -> None:
    edited = torch.ones(2, 3, requires_grad=True).clone()
    result = torch.mul(*edited.unbind()) if saves_views else edited.exp_()
    with torch.no_grad():
        edited.mul_(2)
    with pytest.raises(RuntimeError) as error:
        result.sum().backward()
    assert is_of_an_edit(error.value)
    with pytest.raises(RuntimeError) as error:
        torch.ones(2, requires_grad=True).backward()
    assert not is_of_an_edit(error.value)
