"""Trainers that take turns, step by step, so that whatever else the machine does falls on all of them alike."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

Turn = Callable[[str], Any]

WARMING = 2
"""Steps of each that warm caches and allocators, and do not count."""


def interleaved(
    make: Callable[[Turn], Sequence[Any]],
    names: Sequence[str],
    steps: int,
    done: Callable[[list[float]], None] = lambda seconds: None,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds, of the CPU or another clock, of every step of every trainer, each in a thread of its own.

    Args:
        make: Makes the trainers in the order of their names, each with the callback that its name gives.
        names: Of the trainers.
        steps: How many each takes.
        done: Told the seconds of a step of all, in the order of their names, once the last has taken it.
        clock: What tells the time.
    """
    from transformers import TrainerCallback

    turns = {name: threading.Semaphore(int(name == names[0])) for name in names}
    after = dict(zip(names, [*names[1:], names[0]], strict=True))
    seconds: dict[str, list[float]] = {name: [] for name in names}

    class Taking(TrainerCallback):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.name = name

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turns[self.name].acquire()
            self.started = clock()

        def on_log(self, *_: Any, **__: Any) -> None:
            # Logging belongs to the step, and is the last thing that happens in it.
            if len(seconds[self.name]) < steps:
                seconds[self.name].append(clock() - self.started)
                if self.name == names[-1]:
                    done([seconds[name][-1] for name in names])
                turns[after[self.name]].release()

    threads = [threading.Thread(target=trainer.train) for trainer in make(Taking)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds


def tell_ratio(
    first: Sequence[float], second: Sequence[float], names: tuple[str, str], what: str = "CPU seconds a step"
) -> None:
    """Print the median ratio of steps that took turns, with its bootstrap interval."""
    import numpy as np

    above, below = np.array(first), np.array(second)
    ratios = above / below
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    print(f"{what}, medians: {names[0]} {np.median(above):.3f}, {names[1]} {np.median(below):.3f}")
    print(f"ratio: median {np.median(ratios):.4f} of {len(ratios)} pairs, 95 % interval {low:.4f} to {high:.4f}")
