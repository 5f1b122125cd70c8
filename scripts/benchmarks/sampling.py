"""How many generated tokens each way of sampling takes, on a simulated learner."""

import math
import random
import statistics
from typing import Annotated, Any

import typer

# Rows of RuleCollection's tasks, and where the 8B model of the paper's example starts.
SIZES = {
    "prontoqa": (8000, 0.90),
    "proofwriter": (7997, 0.80),
    "clutrr": (268, 0.55),
    "folio": (1208, 0.60),
    "logic_nli": (8000, 0.50),
    "logical_deduction": (1200, 0.70),
    "ar_lsat": (1636, 0.11),
    "logiqa": (264, 0.60),
}
ORDER = ["prontoqa", "proofwriter", "logical_deduction", "folio", "logiqa", "clutrr", "logic_nli", "ar_lsat"]
WAYS: dict[str, dict[str, Any]] = {
    "uniform": {"type": "uniform"},
    "proportional": {"type": "proportional"},
    "curriculum": {"type": "curriculum", "order": ORDER, "open_by": 0.5},
    "domain_aware": {"type": "domain_aware", "signal": "answer"},
    "domain_aware, at most 0.3": {"type": "domain_aware", "signal": "answer", "max_weight": 0.3},
}
PROMPTS, GROUP, RATE, MOST = 64, 16, 0.6, 600


def sampling(
    target: Annotated[float, typer.Option(help="Mean accuracy over domains that is to be reached.")] = 0.9,
    transfer: Annotated[float, typer.Option(help="How much of a domain's progress every other one makes.")] = 0.0,
    stuck: Annotated[bool, typer.Option(help="ar_lsat cannot be learned, and does not count in the mean.")] = False,
    seeds: Annotated[int, typer.Option(help="Runs of each way.")] = 12,
) -> None:
    """Generated tokens until the mean accuracy is reached, by the package's own sampler.

    The learner: a logit for each domain, which starts where the paper's example has its model; an answer is right with
    that probability; a group of 16 adds the standard deviation of its rewards, which is what a gradient step on
    standardised rewards is worth to first order; a rollout of 64 prompts moves each logit by 0.6 times the mean over
    the rollout of what its groups added. An answer takes 300 tokens, and 700 more times the share that is still wrong.
    """
    reached = {
        name: [_tokens(way, target, transfer, stuck, seed) for seed in range(seeds)] for name, way in WAYS.items()
    }
    print(f"mean accuracy {target:g}, transfer {transfer:g}{', ar_lsat stuck' if stuck else ''}, {seeds} seeds")
    for name, tokens in reached.items():
        ratios = [one / base for one, base in zip(tokens, reached["uniform"], strict=True)]
        told = f"{statistics.median(tokens) / 1e6:7.2f} M tokens" if max(tokens) < math.inf else "not always reached"
        low, high = _interval(ratios)
        print(f"{name:26} {told}, over uniform {statistics.median(ratios):.3f} (95 % interval {low:.3f} to {high:.3f})")


def _interval(values: list[float]) -> tuple[float, float]:
    """Percentile bootstrap of the median."""
    draws = random.Random(0)
    medians = sorted(statistics.median(draws.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[1949]


def _tokens(way: dict[str, Any], target: float, transfer: float, stuck: bool, seed: int) -> float:
    from pydantic import TypeAdapter

    from rlrules.recipe.sampling import AnySamplingConfig
    from rlrules.training.sampling import DomainSampler, Signal
    from rlrules.types import Progress

    config = TypeAdapter[Any](AnySamplingConfig).validate_python(way)
    rows = [{"domain": domain} for domain, (size, _) in SIZES.items() for _ in range(size)]
    sampler = DomainSampler(config, rows, PROMPTS, seed)
    draws = random.Random(seed)
    logits = {domain: math.log(start / (1 - start)) for domain, (_, start) in SIZES.items()}
    counted = [domain for domain in SIZES if not (stuck and domain == "ar_lsat")]
    tokens = 0.0
    for step in range(1, MOST + 1):
        right = {domain: 1 / (1 + math.exp(-logit)) for domain, logit in logits.items()}
        if statistics.fmean(right[domain] for domain in counted) >= target:
            return tokens
        gained, signals = dict.fromkeys(SIZES, 0.0), []
        for row in sampler.draw(Progress(step, MOST)):
            domain = rows[row]["domain"]
            rewards = [float(draws.random() < right[domain]) for _ in range(GROUP)]
            gained[domain] += statistics.pstdev(rewards)
            signals += [Signal(domain, reward, False) for reward in rewards]
            tokens += GROUP * (300 + 700 * (1 - right[domain]))
        sampler.learn(signals)
        total = sum(gained.values())
        for domain, gain in gained.items():
            if not (stuck and domain == "ar_lsat"):
                logits[domain] += RATE * (gain + transfer * (total - gain)) / PROMPTS
    return math.inf
