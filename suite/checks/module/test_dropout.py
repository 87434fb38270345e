"""Dropout: where it applies, its masks, which all implementations share, and evaluation mode."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils.rnn import pack_padded_sequence

from impls import HyperLSTM, hyperlstm, names
from impls.calls import masks
from impls.definition import Mask
from impls.registry import IMPLS
from suite.conftest import skip_reason
from suite.shared.cases import Case
from suite.shared.compare import STATE_NAMES, Results, draw, implementation, judge

P = 0.25
CASE = Case(T=4, B=3, I=4, H=16, S=6, Z=2, L=2, layer_norm=True, state="stacked", dropout=P, recurrent_dropout=P)
ONE_STEP = replace(CASE, T=1, L=1, dropout=0.0, state="none")
PLAIN = replace(CASE, dropout=0.0, recurrent_dropout=0.0)


@pytest.fixture(params=names())
def name(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Every implementation that runs here in float32."""
    if reason := skip_reason(request.param, device):
        pytest.skip(reason)
    return str(request.param)


def model_and_input(name: str, device: torch.device, case: Case = CASE) -> tuple[HyperLSTM, Tensor, tuple[Tensor, ...]]:
    params, x, state, _ = draw(case, 0, torch.float32, device)
    model = implementation(name)(case, torch.float32, device)
    model.load_state_dict(params)
    return model, x, state or ()


def seeded(model: Callable[..., Any], *args: object) -> Results:
    torch.manual_seed(0)
    out, last = model(*args)
    return {"out": out, **dict(zip(STATE_NAMES, last, strict=True))}


def assert_same(results: Results, expected: Results) -> None:
    """By the tolerance rule with `expected` as the oracle, and the floor as the only error allowed."""
    worst = judge(results, expected, expected, torch.float32)[0]
    assert worst.ratio <= 1, worst


def test_g_is_dropped_by_the_mask(name: str, device: torch.device) -> None:
    """From a zero state c is i m g: nothing else reaches it."""
    model, x, _ = model_and_input(name, device, ONE_STEP)
    c = seeded(model, x)["c"]
    torch.manual_seed(0)
    mask = masks.draw(P, (1, ONE_STEP.B, ONE_STEP.H), device)
    assert mask is not None
    assert bool(mask.kept.any())
    assert not bool(mask.kept.all())
    assert torch.equal(c != 0, mask.kept)
    plain = seeded(model.eval(), x)
    assert_same({"c": c}, {"c": plain["c"] * mask.kept / (1 - P)})
    # The hyper LSTM reads h of the step before, so it does not change.
    assert_same({"c_hat": seeded(model.train(), x)["c_hat"]}, {"c_hat": plain["c_hat"]})


def test_a_probability_of_1_drops_everything(name: str, device: torch.device) -> None:
    model, x, _ = model_and_input(name, device, replace(ONE_STEP, T=3, recurrent_dropout=1.0))
    assert not bool(seeded(model, x)["c"].any())


def test_dropout_is_between_layers(name: str, device: torch.device) -> None:
    model, x, state = model_and_input(name, device, replace(PLAIN, dropout=P))
    results = seeded(model, x, state)
    torch.manual_seed(0)
    mask = masks.draw(P, (CASE.T, CASE.B, CASE.H), device)
    lasts, y = [], x
    for l in range(CASE.L):
        one = HyperLSTM(y.shape[2], CASE.H, CASE.S, CASE.Z, 1, layer_norm=True, impl=name, device=device)
        one.load_state_dict({k.replace(f".{l}.", ".0."): q for k, q in model.state_dict().items() if f"s.{l}." in k})
        y, last = one(y if l == 0 or mask is None else y * mask.kept / (1 - P), [part[l] for part in state])
        lasts.append(last)
    assert_same(
        results, {"out": y, **{k: torch.cat(q) for k, q in zip(STATE_NAMES, zip(*lasts, strict=True), strict=True)}}
    )


def test_nothing_is_dropped_in_evaluation_mode(name: str, device: torch.device) -> None:
    model, x, state = model_and_input(name, device)
    plain, _, _ = model_and_input(name, device, PLAIN)
    results, expected = seeded(model.eval(), x, state), seeded(plain, x, state)
    assert all(torch.equal(results[key], value) for key, value in expected.items())
    assert not torch.equal(seeded(model.train(), x, state)["out"], expected["out"])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_p(p: float, device: torch.device) -> None:
    torch.manual_seed(0)
    mask = masks.draw(p, (100, 50, 201), device)
    assert mask is not None
    assert (mask.kept.dtype, mask.kept.element_size(), mask.kept.shape) == (torch.bool, 1, (100, 50, 201))
    n = mask.kept.numel()
    # Each axis by itself, within five standard deviations of the share in n draws; and neighbours are independent.
    for axis in range(3):
        share = mask.kept.double().movedim(axis, 0).flatten(1).mean(1)
        assert float((share - (1 - p)).abs().max()) < 5 * math.sqrt(p * (1 - p) * len(share) / n)
        both = (mask.kept & mask.kept.roll(1, axis)).double().mean()
        assert abs(float(both) - (1 - p) ** 2) < 5 * math.sqrt(p * (1 - p) / n) * 2
    assert masks.draw(0.0, (2, 3), device) is None


def test_a_seed_repeats_the_masks(device: torch.device) -> None:
    model, x, state = model_and_input("batched", device)
    first, again = seeded(model, x, state), seeded(model, x, state)
    assert all(torch.equal(first[key], value) for key, value in again.items())
    assert not torch.equal(model(x, state)[0], first["out"])


def test_packed_rows_keep_their_masks(name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packed batch is each sequence alone, under the tokens' own part of the masks."""
    model, x, state = model_and_input(name, device)
    lengths = [2, CASE.T, 1]
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    drawn: list[Mask | None] = []

    def drawing(p: float, shape: torch.Size, on: torch.device) -> Mask | None:
        drawn.append(masks.draw(p, shape, on))
        return drawn[-1]

    monkeypatch.setattr(hyperlstm, "draw", drawing)
    results = seeded(model, packed, state)
    unpacked, _ = nn.utils.rnn.pad_packed_sequence(results["out"])  # type: ignore[arg-type]
    starts = torch.cat([torch.zeros(1, dtype=torch.long), packed.batch_sizes.cumsum(0)])
    for b, length in enumerate(lengths):
        assert packed.unsorted_indices is not None
        tokens = starts[:length] + packed.unsorted_indices[b].cpu()
        given = iter([m if m is None else Mask(m.kept[tokens].unsqueeze(1), m.scale) for m in drawn])
        monkeypatch.setattr(hyperlstm, "draw", lambda *_, given=given: next(given))
        out, last = model(x[:length, b : b + 1], [part[:, b : b + 1] for part in state])
        expected = {"out": out, **dict(zip(STATE_NAMES, last, strict=True))}
        mine = {key: part[:, b : b + 1] for key, part in results.items() if key != "out"}
        assert_same({"out": unpacked[:length, b : b + 1], **mine}, expected)


@pytest.mark.parametrize("name", [impl.name for impl in IMPLS if impl.plain], indirect=True)
def test_vmap_draws_by_its_own_randomness(name: str, device: torch.device) -> None:
    model, x, _ = model_and_input(name, device, ONE_STEP)
    params = {key: p.detach().expand(2, *p.shape) for key, p in model.named_parameters()}

    def c_of(randomness: str) -> Tensor:
        torch.manual_seed(0)
        results: Tensor = vmap(lambda q: functional_call(model, q, (x,))[1][1], randomness=randomness)(params)
        return results

    with pytest.raises(RuntimeError, match="randomness"):
        c_of("error")
    one, other = c_of("same")
    assert torch.equal(one == 0, other == 0)
    assert_same({"c": one}, {"c": seeded(model, x)["c"]})
    one, other = c_of("different")
    assert not torch.equal(one == 0, other == 0)


def test_dropout_in_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match="dropout=0.5 has no effect with n_layers=1"):
        HyperLSTM(4, 6, 5, 2, 1, dropout=0.5)
    assert "dropout=0.5, recurrent_dropout=0.1" in repr(HyperLSTM(4, 6, 5, 2, 2, dropout=0.5, recurrent_dropout=0.1))
