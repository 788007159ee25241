"""The backward pass: torch's own, to the bit, whichever way it is reached."""

import torch
from torch import nn

from fl_kit import backward as module
from fl_kit.backward import backward
from fl_kit.randomness import seeded


def gradients(way) -> list[torch.Tensor]:
    with seeded(0, "model"):
        model, inputs = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1)), torch.randn(4, 5)
    for _ in range(2):  # gradients add up
        loss = model(inputs).square().mean()
        way(loss, torch.ones_like(loss))
    return [p.grad for p in model.parameters()]


def test_it_is_the_tensors_own_backward_to_the_bit(monkeypatch):
    expected = gradients(lambda loss, unit: loss.backward(unit))
    assert module.ENGINE is not None, "torch keeps its engine elsewhere: look for it, or training is slower than it was"
    assert all(torch.equal(a, b) for a, b in zip(gradients(backward), expected, strict=True))
    monkeypatch.setattr(module, "ENGINE", None)
    assert all(torch.equal(a, b) for a, b in zip(gradients(backward), expected, strict=True))


class Loud(torch.Tensor):
    """A tensor with a backward pass of its own."""

    heard = 0

    def backward(self, *given, **named):
        Loud.heard += 1
        return super().backward(*given, **named)


def test_a_tensor_of_another_class_is_asked_itself():
    value = torch.ones(3, requires_grad=True).as_subclass(Loud).sum()
    before = Loud.heard
    backward(value, torch.ones(()))
    assert Loud.heard == before + 1
