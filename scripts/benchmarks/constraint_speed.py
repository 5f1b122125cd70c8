"""Completions whose constraints are checked in a second, on one core."""

import asyncio
import gzip
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Row = Mapping[str, Any]
IFEVAL, IFBENCH = Path("../shared/data/ifeval"), Path("../shared/data/ifbench/IFBench_test.jsonl.gz")
GROUP = 8


def constraint_speed(
    ifeval: Annotated[
        Path, typer.Option(help="Folder with input_data and gpt4_responses (.jsonl.gz), and NLTK's data.")
    ] = IFEVAL,
    ifbench: Annotated[Path, typer.Option(help="IFBench's prompts (.jsonl.gz): arguments of its kinds.")] = IFBENCH,
    rounds: Annotated[int, typer.Option(help="Rounds in which all take turns.")] = 3,
) -> None:
    """Completions a CPU second of the `constraints` reward on GPT-4's answers to IFEval, nothing known from before.

    Groups are of 8: the answer to the prompt, which follows four of five constraints, and seven to others, which follow
    fewer and take a loose check longer. Every round makes its checkers anew, and no group knows of another's texts.
    """
    questions = {row["prompt"]: row for row in _read(ifeval / "input_data.jsonl.gz")}
    answers = _read(ifeval / "gpt4_responses_20231107.jsonl.gz")
    texts = [row["response"] for row in answers]
    own = [questions[row["prompt"]] for row in answers]
    mixed = _two_of_all_kinds(len(own), [*own, *_read(ifbench)])
    contenders: dict[str, Sequence[Row]] = {
        "IFEval": own,
        "two of all kinds": mixed,
        "IFEval, no language kinds": _without_languages(own),
        "two of all kinds, no language kinds": _without_languages(mixed),
    }
    words = statistics.mean(len(text.split()) for text in texts)
    print(f"{len(texts)} answers of {words:.0f} words in the mean")
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, rows in contenders.items():
            for mode in ("strict", "loose"):
                rates.setdefault((name, mode), []).append(_rate(rows, texts, mode, str(ifeval / "nltk_data")))
    for (name, mode), found in rates.items():
        told = f"median {statistics.median(found):7,.0f}/s  ({min(found):,.0f} to {max(found):,.0f})"
        print(f"{name:37} {mode:7} {told}")


def _rate(rows: Sequence[Row], texts: Sequence[str], mode: str, nltk_data: str) -> float:
    from rlrules.rewards import constraint_set, instruction_mending
    from rlrules.rewards.base import Resources, scorer_config
    from rlrules.types import Completion, Group

    scorer = scorer_config({"type": "constraints", "mode": mode, "nltk_data": nltk_data}).build(Resources())
    constraint_set._made.cache_clear()
    groups = []
    for number, row in enumerate(rows):
        # Far apart in the data, so that the others are of other kinds of prompts.
        places = [(number + other * len(texts) // GROUP) % len(texts) for other in range(GROUP)]
        if row["instruction_id_list"]:
            answers = tuple(Completion(texts[place], 1) for place in places)
            groups.append(Group(({"role": "user", "content": row["prompt"]},), answers, row))

    async def all_of_them() -> None:
        for group in groups:
            # Each answer stands in eight groups, as those of a policy do not.
            instruction_mending.forget()
            for score in (await scorer.score(group)).scores:
                assert score.status != "unscored", score.reason

    # What is loaded once, such as NLTK's tokenizer, is no completion's cost.
    asyncio.run(scorer.score(groups[0]))
    started = time.process_time()
    asyncio.run(all_of_them())
    return GROUP * len(groups) / (time.process_time() - started)


def _two_of_all_kinds(count: int, rows: Sequence[Row]) -> list[Row]:
    """Rows with two constraints, of all kinds of both benchmarks that can be checked here equally often."""
    from rlrules.rewards.constraint_set import constraints_of, missing_data

    arguments: dict[str, Any] = {}
    for row in rows:
        for name, given in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            arguments.setdefault(name, given)
    kinds = [
        name
        for name, given in sorted(arguments.items())
        if not missing_data(constraints_of({"instruction_id_list": [name], "kwargs": [given]}, ""))
    ]
    random.Random(0).shuffle(kinds)
    print(f"{len(kinds)} kinds of {len(arguments)} can be checked")
    drawn = [(kinds[2 * n % len(kinds)], kinds[(2 * n + 1) % len(kinds)]) for n in range(count)]
    return [
        {"prompt": "Say something.", "instruction_id_list": list(two), "kwargs": [arguments[name] for name in two]}
        for two in drawn
    ]


def _without_languages(rows: Sequence[Row]) -> list[Row]:
    from rlrules.rewards.instruction_mending import DETECTING

    return [row | _kept(row, DETECTING) for row in map(dict, rows)]


def _kept(row: Row, without: Sequence[str]) -> dict[str, Any]:
    both = zip(row["instruction_id_list"], row["kwargs"], strict=True)
    kept = [(name, given) for name, given in both if name not in without]
    return {"instruction_id_list": [name for name, _ in kept], "kwargs": [given for _, given in kept]}


def _read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]
