"""A name in a state dict says which parameter it is of, or an error says that it does not."""

import pytest

from suite.comparison.tensors import Argument, Kind, parameter


@pytest.mark.parametrize("part", ["bias", "parametrizations.weight_h.original0"])
def test_a_parameter_has_its_layer_and_its_name_there(part: str) -> None:
    assert parameter(f"layers.12.{part}") == Argument(Kind.PARAMETER, name=part, layer=12)
    assert str(parameter(f"layers.12.{part}")) == f"layers.12.{part}"


@pytest.mark.parametrize(
    "name", ["cells.0.bias", "model.layers.0.bias", "layers.bias", "layers.0", "layers.0.", "bias"]
)
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"expected a parameter of a layer, such as layers\.0\.bias, got '{name}'"):
        parameter(name)
