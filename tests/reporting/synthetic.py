"""Run directories as training writes them, made up."""

import json
import random
from pathlib import Path
from typing import Any

RECIPE = """\
name: autorule
method: grpo
model: {name: org/policy-3b}
judges:
  verifier: {type: openai, urls: ["http://localhost:8000/v1"], model: org/judge-8b}
rewards:
  rules: {type: rules, judge: verifier, rules: data/rules/demo.json}
  length: {type: length, free: 100, per_tokens: 200}
objective: {type: weighted_sum, weights: {rules: 1, length: 0.5}}
training: {max_steps: 60}
"""


def metrics_line(step: int, steps: int, rules: list[str], draw: random.Random) -> dict[str, Any]:
    done = step / steps
    line: dict[str, Any] = {
        "step": step,
        "loss": draw.gauss(0, 0.02),
        "grad_norm": 1 + draw.random(),
        "learning_rate": 5e-7 * (1 - done),
        "completions/mean_length": 180 + 60 * done + draw.gauss(0, 8),
        "completions/clipped_ratio": max(0.0, 0.2 - 0.2 * done + draw.gauss(0, 0.01)),
        "rewards/objective/mean": 12345.678,
        "reward": 0.2 + 0.5 * done + draw.gauss(0, 0.05),
        "reward_std": 0.3 - 0.1 * done,
        "frac_reward_zero_std": 0.05,
        "rewards/rules/value": 0.4 + 0.4 * done + draw.gauss(0, 0.04),
        "rewards/rules/unscored": 0.01,
        "rewards/rules/malformed": 0.0,
        "rewards/length/value": -0.2 - 0.1 * done + draw.gauss(0, 0.02),
        "rewards/length/unscored": 0.0,
        "rewards/length/malformed": 0.0,
        "judge/verifier/calls": 160.0,
        "judge/verifier/cache_hit_rate": 0.25 * done,
        "judge/verifier/failed": 1.0 if step % 20 == 7 else 0.0,
        "judge/verifier/retried": 0.0,
        "judge/verifier/latency_s": 0.4 + 0.05 * draw.random(),
        "judge/verifier/prompt_tokens": 90_000.0,
        "judge/verifier/completion_tokens": 160.0,
        "unscored": 0.01,
        "kl": 0.02 * done + 0.002 * draw.random(),
        "entropy": 1.4 - 0.5 * done + draw.gauss(0, 0.03),
        "step_time": 90.0,
        "time/scoring_s": 12 + draw.random(),
    }
    for place, rule in enumerate(rules):
        mean = 0.15 + 0.07 * place + (0.5 * done if place % 3 else -0.1 * done) + draw.gauss(0, 0.04)
        line[f"rewards/rules/rule/{rule}"] = min(1.0, max(0.0, mean))
    return line


def completion_line(step: int, group: int, place: int, rules: list[str], draw: random.Random) -> dict[str, Any]:
    verdicts = {rule: draw.choice([1.0, 1.0, 0.0, 0.63, None]) for rule in rules}
    told: dict[str, Any] = {rule: {"label": "Yes" if said else "No", "p": 0.973} for rule, said in verdicts.items()}
    told |= {rule: {"label": "Irrelevant", "p": 0.8} for rule, said in verdicts.items() if said is None}
    value, missing = draw.random(), (step, group, place) == (1, 0, 2)
    if missing:
        verdicts[rules[0]] = None
        told[rules[0]] = {"outcome": "failed", "reason": "judge verifier: timeout after 60 s", "raw": ""}
    return {
        "step": step,
        "mode": "train",
        "group": f"train-{step}-0-{group}",
        "prompt": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": f"Question {group} of step {step}: why does bread rise?"},
        ],
        "completion": "Yeast eats sugar and breathes out gas. " * draw.choice([1, 4, 30]),
        "tokens": 9 + place,
        "truncated": place == 1,
        "scores": {"rules": None if missing else value, "length": -0.1},
        "reasons": {"rules": "1 of 10 verdicts missing; r1: judge verifier: timeout"} if missing else {},
        "details": {"rules": {"rules": verdicts, "verdicts": told}},
        "reward": None if missing else value - 0.05,
        "advantage": 0.0 if missing else value - 0.5,
    }


def write_run(folder: Path, steps: int = 60, rules: int = 10, size: int = 4, evaluated: bool = True) -> Path:
    draw = random.Random(7)
    names = [f"r{place}" for place in range(1, rules + 1)]
    metrics: list[dict[str, Any]] = []
    completions: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        metrics.append(metrics_line(step, steps, names, draw))
        if evaluated and step % 15 == 0:
            held_out = {"eval_reward": 0.25 + step / 200, "eval_rewards/rules/value": 0.5 + step / 300}
            metrics.append({"step": step, **held_out, "eval_runtime": 3.0})
        for group in range(3):
            completions += [completion_line(step, group, place, names, draw) for place in range(size)]
    metrics.append({"step": steps, "train_runtime": 5400.0, "train_loss": 0.01})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    write_lines(folder / "metrics.jsonl", metrics)
    write_lines(folder / "completions.jsonl", completions)
    return folder


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
