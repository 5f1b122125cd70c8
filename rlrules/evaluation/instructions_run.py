"""IFEval and IFBench from a model: answers, checks, accuracies."""

from pathlib import Path
from typing import Any

from rlrules.data.stage_log import Tell, content_sha
from rlrules.evaluation.config import InstructionsConfig
from rlrules.evaluation.files import asked_for, located, need, refuse_again
from rlrules.evaluation.generation import Chat, answer_all, truncated
from rlrules.evaluation.ifeval import check_responses, instruction_metrics, read_prompts, row_of
from rlrules.evaluation.results import (
    ResultRows,
    check_failures,
    judge_identity,
    open_manifest,
    usage_record,
    write_results,
)
from rlrules.judges import Judge
from rlrules.rewards.instruction_checks import Benchmark, prepare

HUBS: dict[Benchmark, str] = {"ifeval": "google/IFEval", "ifbench": "allenai/IFBench_test"}


async def run_instructions(
    benchmark: Benchmark, config: InstructionsConfig, judge: None, model: Judge | None, folder: Path, tell: Tell
) -> dict[str, Any]:
    """Answer what has no answer yet, and check all.

    Raises:
        DataError: A file cannot be used, or the folder holds another result.
        JudgeError: Too many prompts have no answer.
    """
    prepare(Path(config.nltk_data) if config.nltk_data else None)
    prompts = read_prompts(asked_for(config.prompts, HUBS[benchmark], "train", "`prompts`"))[: config.limit]
    existing: dict[str, str] | None = None
    if config.answers is not None:
        existing = {}
        for where, row in located(Path(config.answers)):
            need(row, ("key", "response"), where)
            refuse_again(str(row["key"]), existing, where, "key")
            existing[str(row["key"])] = row["response"]
    identity = {
        "benchmark": benchmark,
        "name": config.name or (config.model.model if config.model else Path(str(config.answers)).stem),
        "model": judge_identity(config.model) if config.model else {"answers": content_sha(existing)},
        "seed": config.seed,
        "questions": content_sha([[p.key, p.prompt, p.instructions, p.kwargs] for p in prompts]),
    }
    sha = open_manifest(folder, identity)
    counts: dict[str, Any] = {}
    if existing is None:
        assert model is not None
        log = ResultRows(folder / "answers.jsonl", sha)
        chats = [Chat(str(prompt.key), (prompt.prompt,), draw=config.seed) for prompt in prompts]
        existing = {key: turns[0] for key, turns in (await answer_all(chats, model, log, tell)).items()}
        counts["answers"] = check_failures(log, [chat.key for chat in chats], config.max_failed, "answers")
        counts["answers"]["n_truncated"] = truncated(log)
    responses = [existing.get(str(prompt.key)) for prompt in prompts]
    checked = check_responses(benchmark, prompts, responses)
    rows = ResultRows(folder / "rows.jsonl", sha)
    for prompt, response, found in zip(prompts, responses, checked, strict=True):
        if rows.pending([str(prompt.key)]):
            rows.add(str(prompt.key), row_of(prompt, response, found))
    metrics = instruction_metrics(prompts, responses, checked, config.resamples, config.seed) | {"counts": counts}
    if model is not None:
        metrics["usage"] = {"model": usage_record(model.usage)}
    units = {
        str(prompt.key): [float(all(one.strict for one in row)), 1.0]
        for prompt, row in zip(prompts, checked, strict=True)
        if all(one.strict is not None for one in row)
    }
    write_results(folder, {"benchmark": benchmark, **metrics}, {"prompt_strict": units})
    return metrics
