"""Learning rates that change from round to round, as plain tuples: one value a round.

    FedAvg(lr=cosine(0.1, rounds=20))
    FedAvg(lr=warmup(step_decay(0.1, rounds=30, every=10), over=3))
    FedAvg(lr=(0.1, 0.1, 0.05, 0.01))                                 any numbers of your own

job.json then holds the numbers themselves, and a reviewer reads what each round trains with.
"""

import math
from collections.abc import Iterable

from fl_kit.errors import IncompatibleError

Schedule = tuple[float, ...]


def constant(lr: float, *, rounds: int) -> Schedule:
    """The same lr in every round: what `warmup` is put before.

    >>> constant(0.1, rounds=3)
    (0.1, 0.1, 0.1)
    """
    return (check_lr("constant", lr),) * check_whole("constant", "rounds", rounds)


def step_decay(lr: float, *, rounds: int, every: int, factor: float = 0.1) -> Schedule:
    """lr, multiplied by `factor` after each `every` rounds.

        lr_r = lr · factor^⌊(r − 1) / every⌋

    factor  above 0, at most 1

    >>> step_decay(1.0, rounds=5, every=2, factor=0.5)
    (1.0, 1.0, 0.5, 0.5, 0.25)
    """
    check_lr("step_decay", lr)
    check_whole("step_decay", "every", every)
    check_factor("step_decay", factor)
    return tuple(lr * factor ** (r // every) for r in range(check_whole("step_decay", "rounds", rounds)))


def exponential(lr: float, *, rounds: int, factor: float) -> Schedule:
    """lr, multiplied by `factor` after each round.

        lr_r = lr · factor^(r − 1)

    factor  above 0, at most 1; the papers on federated learning often take 0.99 to 0.998

    >>> exponential(1.0, rounds=3, factor=0.5)
    (1.0, 0.5, 0.25)
    """
    check_lr("exponential", lr)
    check_factor("exponential", factor)
    return tuple(lr * factor**r for r in range(check_whole("exponential", "rounds", rounds)))


def cosine(lr: float, *, rounds: int, end: float = 0.0) -> Schedule:
    """From lr down towards `end` on half a cosine.

        lr_r = end + (lr − end)/2 · (1 + cos(π · (r − 1) / rounds))

    `end` would be reached in the round after the last, so that no round trains with a rate of 0.
    Loshchilov and Hutter 2017, "SGDR", arXiv 1608.03983, equation 5, without restarts.

    >>> [round(value, 3) for value in cosine(1.0, rounds=4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    check_lr("cosine", lr)
    if not 0 <= end <= lr:
        raise IncompatibleError(f"cosine(end={end!r}): must lie between 0 and lr={lr!r}")
    every = range(check_whole("cosine", "rounds", rounds))
    return tuple(end + (lr - end) / 2 * (1 + math.cos(math.pi * r / rounds)) for r in every)


def warmup(schedule: Iterable[float], *, over: int) -> Schedule:
    """The schedule, whose first `over` rounds climb linearly: round r has r/(over + 1) of its rate.

    Goyal et al. 2017, "Accurate, Large Minibatch SGD", arXiv 1706.02677, section 2.2.

    >>> warmup(constant(1.0, rounds=5), over=3)
    (0.25, 0.5, 0.75, 1.0, 1.0)
    """
    check_whole("warmup", "over", over)
    if isinstance(schedule, int | float):
        raise IncompatibleError(f"warmup({schedule!r}): give it a schedule, such as constant({schedule!r}, rounds=…)")
    rates = tuple(schedule)
    if over >= len(rates):
        raise IncompatibleError(f"warmup(over={over}) of a schedule of {len(rates)} rounds: it would never end")
    return tuple(rate * min(1.0, (r + 1) / (over + 1)) for r, rate in enumerate(rates))


def check_lr(name: str, lr: object) -> float:
    if not isinstance(lr, int | float) or not 0 <= lr < math.inf:
        raise IncompatibleError(f"{name}({lr!r}): the learning rate must be a number of at least 0")
    return float(lr)


def check_factor(name: str, factor: object) -> None:
    if not isinstance(factor, int | float) or not 0 < factor <= 1:
        raise IncompatibleError(f"{name}(factor={factor!r}): must be above 0 and at most 1")


def check_whole(name: str, setting: str, value: int) -> int:
    if type(value) is not int or value < 1:
        raise IncompatibleError(f"{name}({setting}={value!r}): must be a whole number of at least 1")
    return value
