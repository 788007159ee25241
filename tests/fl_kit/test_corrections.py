"""The correction as data, against the equations that it stands for."""

import torch

from fl_kit.corrections import AffineCorrection


def drawn(seed: int) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 2, generator=draws), torch.randn(2, generator=draws)]


def test_it_pulls_to_the_anchor_and_shifts() -> None:
    grads, params, anchor, shift = (drawn(seed) for seed in range(4))
    expected = [g + 0.3 * (p - a) + s for g, p, a, s in zip(grads, params, anchor, shift, strict=True)]
    before = [p.clone() for p in params]
    AffineCorrection(pull=0.3, anchor=anchor, shift=shift)(grads, params)
    torch.testing.assert_close(grads, expected, rtol=0, atol=1e-7)
    assert all(map(torch.equal, params, before))


def test_a_shift_taken_away_is_its_negative_to_the_bit() -> None:
    """FedDyn subtracts what it remembers; as a shift that is the same float32."""
    grads, shift = drawn(0), drawn(1)
    expected = [g - s for g, s in zip(grads, shift, strict=True)]
    AffineCorrection(shift=torch._foreach_neg(shift))(grads, drawn(2))
    assert all(map(torch.equal, grads, expected))


def test_without_anchor_and_shift_nothing_changes() -> None:
    grads = drawn(0)
    AffineCorrection(pull=2.0)(grads, drawn(1))
    assert all(map(torch.equal, grads, drawn(0)))


def test_silos_in_a_leading_dimension_are_corrected_as_each_alone() -> None:
    alone = [(drawn(seed), drawn(seed + 10), drawn(seed + 20)) for seed in range(3)]
    grads, params, shift = (
        [torch.stack(parts) for parts in zip(*each, strict=True)] for each in zip(*alone, strict=True)
    )
    anchor = drawn(30)
    AffineCorrection(pull=0.1, anchor=[a.expand_as(p) for a, p in zip(anchor, params, strict=True)], shift=shift)(
        grads, params
    )
    for silo, (own, at, by) in enumerate(alone):
        AffineCorrection(pull=0.1, anchor=anchor, shift=by)(own, at)
        assert all(torch.equal(g[silo], o) for g, o in zip(grads, own, strict=True))
