"""AlpacaEval from a model to its numbers: answers, verdicts in both orders, metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlrules.data.stage_log import Tell, content_sha
from rlrules.errors import DataError
from rlrules.evaluation.alpaca_data import Annotations, EvalSet, read_eval_set
from rlrules.evaluation.alpaca_glm import Inputs, read_inputs
from rlrules.evaluation.alpaca_lint import attacks
from rlrules.evaluation.alpaca_metrics import Settings, alpaca_metrics
from rlrules.evaluation.alpaca_order import is_switched, preference_of
from rlrules.evaluation.alpaca_paired import LENGTH_CONTROL, inputs_record
from rlrules.evaluation.config import AlpacaConfig
from rlrules.evaluation.files import asked_for, listed, located, need, write_lines
from rlrules.evaluation.generation import Chat, answer_all, truncated
from rlrules.evaluation.judging import Pair, PairTemplate, judge_pairs, low_mass, probe
from rlrules.evaluation.results import (
    ResultRows,
    check_failures,
    judge_identity,
    open_manifest,
    own_judge,
    usage_record,
    write_results,
)
from rlrules.judges import Judge

ANNOTATIONS = "annotations.jsonl"
HUB = "hf://datasets/tatsu-lab/alpaca_eval/alpaca_eval_gpt4_baseline.json"


@dataclass(frozen=True, slots=True)
class Parts:
    """What an AlpacaEval run is made of, read and checked.

    Attributes:
        questions: What is answered.
        outputs: Existing outputs by key; None where a model answers.
        template: The judge's.
        inputs: The length control's.
        name: The model's.
        n_outside: Existing outputs of instructions that the evaluation set lacks.
    """

    questions: EvalSet
    outputs: dict[str, str] | None
    template: PairTemplate
    inputs: Inputs
    name: str
    n_outside: int = 0

    @property
    def keys(self) -> list[str]:
        """One per instruction: its place in the official order."""
        return [str(index) for index in range(len(self.questions.instructions))]


def read_parts(config: AlpacaConfig) -> Parts:
    """Read every file of a run; nothing is asked yet.

    Raises:
        DataError: A file is missing or malformed, or existing answers do not fit the instructions.
    """
    rows = asked_for(config.eval_set, HUB, "eval", "--eval-set")
    whole = read_eval_set(rows)
    # The GLM's difficulties count the whole set; a limited run takes its beginning.
    taken = slice(config.limit)
    questions = EvalSet(whole.instructions[taken], whole.subsets[taken], whole.baseline[taken])
    files = [Path(name) if name else None for name in (config.difficulty, config.gamed)]
    outputs, name, n_outside = None, config.name, 0
    if config.answers is not None:
        outputs, found, n_outside = _existing(Path(config.answers), questions, whole)
        name = name or found
    elif config.model is not None:
        name = name or config.model.model
    template = PairTemplate(Path(config.template) if config.template else None)
    return Parts(questions, outputs, template, read_inputs(*files), str(name), n_outside)


async def run_alpaca(
    config: AlpacaConfig, judge: Judge, model: Judge | None, folder: Path, tell: Tell
) -> dict[str, Any]:
    """Do what is missing of a run in `folder`, and compute its metrics.

    Raises:
        DataError: A file cannot be used, or the folder holds another result.
        JudgeError: The judge gives no label tokens, or too many rows have no verdict.
    """
    parts = read_parts(config)
    sha = open_manifest(folder, _identity(config, parts))
    answers, rows = ResultRows(folder / "answers.jsonl", sha), ResultRows(folder / "rows.jsonl", sha)
    await probe(judge, parts.template)
    counts: dict[str, Any] = {}
    if parts.outputs is not None:
        outputs = parts.outputs
        counts["answers"] = {"n_used": len(outputs), "n_outside_set": parts.n_outside}
    else:
        assert model is not None
        chats = [Chat(key, (parts.questions.instructions[int(key)],), draw=config.seed) for key in parts.keys]
        outputs = {key: texts[0] for key, texts in (await answer_all(chats, model, answers, tell)).items()}
        counts["answers"] = check_failures(answers, parts.keys, config.max_failed, "answers")
        counts["answers"]["n_truncated"] = truncated(answers)
    pairs = _pairs(config, parts, outputs)
    await judge_pairs(pairs, judge, parts.template, rows, tell)
    counts["verdicts"] = check_failures(rows, [pair.key for pair in pairs], config.max_failed, "verdicts")
    counts["verdicts"]["n_low_mass"] = low_mass(rows)
    made = _annotations(parts, outputs, rows, [pair.key for pair in pairs])
    settings = Settings(C=config.C, resamples=config.resamples, seed=config.seed)
    metrics = alpaca_metrics(made, parts.inputs, settings, parts.questions)
    metrics[LENGTH_CONTROL] = inputs_record(config.difficulty, config.gamed)
    metrics["counts"] = counts
    metrics["orders"] = _orders(rows, [pair.key for pair in pairs])
    metrics["attacks"] = attacks(outputs, parts.template.frame())
    metrics["usage"] = {"judge": usage_record(judge.usage)} | ({"model": usage_record(model.usage)} if model else {})
    units = {str(index): [float(y), 1.0] for index, y in zip(made.place, made.y, strict=True) if not np.isnan(y)}
    if parts.n_outside:
        metrics["warnings"].append(f"{parts.n_outside} outputs are of instructions outside the set and left out")
    metrics["warnings"] += own_judge(config.judge, config.model)
    write_lines(folder / ANNOTATIONS, _compact(made))
    write_results(folder, {"benchmark": "alpaca", **metrics}, {"win_rate": units})
    return metrics


def planned(config: AlpacaConfig) -> dict[str, int]:
    """Requests that a run will make at most."""
    parts = read_parts(config)
    n = len(parts.keys)
    return {"answers": 0 if parts.outputs is not None else n, "verdicts": n * (2 if config.orders == "both" else 1)}


def _compact(made: Annotations) -> list[dict[str, Any]]:
    """Rows as `--annotations` and comparisons of results take them."""
    columns = (made.place, made.preference, made.length_1, made.length_2)
    return [
        {
            "model": made.model,
            "row": int(place),
            "prompt_index": int(place),
            "preference": None if np.isnan(preference) else float(preference),
            "len_1": int(one),
            "len_2": int(two),
        }
        for place, preference, one, two in zip(*columns, strict=True)
    ]


def _identity(config: AlpacaConfig, parts: Parts) -> dict[str, Any]:
    return {
        "benchmark": "alpaca",
        "name": parts.name,
        "model": judge_identity(config.model) if config.model else {"answers": content_sha(parts.outputs)},
        "judge": judge_identity(config.judge),
        "template": parts.template.version,
        "orders": config.orders,
        "seed": config.seed,
        "questions": content_sha(parts.questions.instructions, parts.questions.baseline),
    }


def _existing(path: Path, questions: EvalSet, whole: EvalSet) -> tuple[dict[str, str], str, int]:
    """Outputs by key, the generator's name, and how many are outside the whole set; every instruction needs one."""
    found: dict[str, str] = {}
    names: dict[str, None] = {}
    known = {instruction: str(index) for index, instruction in enumerate(questions.instructions)}
    strange: list[str] = []
    for where, row in located(path):
        need(row, ("instruction", "output"), where)
        key = known.get(row["instruction"])
        if key is None:
            strange.append(row["instruction"])
        elif key in found:
            raise DataError(f"{where}: the instruction stands more than once: {listed([row['instruction']])}")
        else:
            found[key] = row["output"] or ""
            names[str(row.get("generator", path.stem))] = None
    missing = [questions.instructions[int(key)] for key in known.values() if key not in found]
    if missing:
        unknown = f"; {len(strange)} others are not in the set: {listed(strange, 3)}" if strange else ""
        raise DataError(f"{path}: {len(missing)} instructions have no output: {listed(missing)}{unknown}")
    # What a limited run does not take is left out on purpose.
    outside = set(strange) - set(whole.instructions)
    return found, next(iter(names)), sum(instruction in outside for instruction in strange)


def _pairs(config: AlpacaConfig, parts: Parts, outputs: Mapping[str, str]) -> list[Pair]:
    pairs: list[Pair] = []
    for key in parts.keys:
        if key not in outputs:
            continue
        index = int(key)
        instruction, baseline, output = (
            parts.questions.instructions[index],
            parts.questions.baseline[index],
            outputs[key],
        )
        if output == baseline:
            continue  # A tie that nobody need be asked about.
        for switched in (False, True) if config.orders == "both" else (is_switched(instruction),):
            first, second = (output, baseline) if switched else (baseline, output)
            meta = {"index": index, "switched": switched, "reference_order": is_switched(instruction) == switched}
            pairs.append(
                Pair(f"{key}:{int(switched)}", ({"role": "user", "content": instruction},), first, second, meta)
            )
    return pairs


def _annotations(parts: Parts, outputs: Mapping[str, str], rows: ResultRows, keys: Sequence[str]) -> Annotations:
    preferences: dict[str, list[float]] = {key: [] for key in parts.keys}
    for row_key in keys:
        line = rows.get(row_key)
        value = preference_of(line.data["p_first"], line.data["switched"]) if line else float("nan")
        preferences[row_key.partition(":")[0]].append(value)
    answered = [key for key in parts.keys if key in outputs]
    baseline = parts.questions.baseline
    return Annotations(
        model=parts.name,
        # A missing order leaves the row out: half of a pair would carry the judge's bias for places.
        preference=np.array([float(np.mean(preferences[key])) if preferences[key] else 1.5 for key in answered]),
        length_1=np.array([float(len(baseline[int(key)])) for key in answered]),
        length_2=np.array([float(len(outputs[key])) for key in answered]),
        prompt=np.array([int(key) for key in answered]),
        place=np.array([int(key) for key in answered]),
        is_baseline=all(outputs[key] == baseline[int(key)] for key in answered),
        outputs=tuple(outputs[key] for key in answered),
    )


def _orders(rows: ResultRows, keys: Sequence[str]) -> dict[str, float]:
    """How much the order decides: the mean chance of what stands first, and how often the winner changes with it."""
    first: list[float] = []
    winners: dict[int, list[bool]] = {}
    for key in keys:
        if (line := rows.get(key)) is not None:
            first.append(line.data["p_first"])
            model_wins = (line.data["p_first"] > 0.5) == line.data["switched"]
            winners.setdefault(line.data["index"], []).append(model_wins)
    both = [found for found in winners.values() if len(found) == 2]
    return {
        "p_first": float(np.mean(first)) if first else float("nan"),
        "flip_rate": float(np.mean([found[0] != found[1] for found in both])) if both else float("nan"),
        "n_both": len(both),
    }
