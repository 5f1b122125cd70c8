"""A script for a launcher: scores given completions, each rank its share of the groups, into one log."""

import json
import sys
from pathlib import Path

from accelerate import PartialState

from rlrules.ending import without_finalization
from rlrules.rewards.base import Resources, scorer_config
from rlrules.rewards.engine import RewardEngine
from rlrules.rewards.objective import WeightedSumConfig
from rlrules.training.log import RunLog
from rlrules.training.scoring import Batch, BatchScorer
from rlrules.types import Progress

END = 7


def main(asked: Path, folder: Path) -> None:
    """Score `{reward, groups: [{row, texts, lengths}]}`; the log goes to `folder`."""
    state = PartialState(cpu=True)
    given = json.loads(asked.read_text())
    share = len(given["groups"]) // state.num_processes
    groups = given["groups"][state.process_index * share :][:share]
    scorer = scorer_config(given["reward"]).build(Resources())
    engine = RewardEngine({"reward": scorer}, WeightedSumConfig(weights={"reward": 1}).build(), ["reward"], 60)
    folder.mkdir(exist_ok=True)
    log = RunLog(folder) if state.is_main_process else None
    lengths = [length for group in groups for length in group["lengths"]]
    # As TRL hands them over: each without its padding.
    batch = Batch(
        inputs=[{"prompt": "?", **group["row"]} for group in groups for _ in group["texts"]],
        texts=[text for group in groups for text in group["texts"]],
        ids=[[1] * (length - 1) + [END] for length in lengths],
        group_size=len(groups[0]["texts"]),
        progress=Progress(),
        mode="train",
        ends=frozenset({END}),
    )
    BatchScorer(engine, {}, log, 0.0, "group").score(batch, lambda name, value: None)
    state.destroy_process_group()


if __name__ == "__main__":
    with without_finalization():
        main(Path(sys.argv[1]), Path(sys.argv[2]))
