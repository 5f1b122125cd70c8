"""What an extraction will cost, before anything is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlrules.data.preferences import Preferences
from rlrules.rules.candidates import extract_question
from rlrules.rules.config import ExtractionConfig
from rlrules.rules.merge import merge_question
from rlrules.rules.pairs import build_pairs
from rlrules.rules.reasoning import reason_question

CANDIDATES_A_PAIR, TOKENS_A_CANDIDATE = 8, 20


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What a stage will cost at most, before it is run; tokens are a quarter of the characters.

    Attributes:
        stage: Its name.
        calls: Questions, repairs not counted.
        prompt_tokens: Of all its prompts.
        answer_tokens: The bound on all its answers.
    """

    stage: str
    calls: int
    prompt_tokens: int
    answer_tokens: int


def estimate(config: ExtractionConfig, preferences: Preferences) -> list[StageEstimate]:
    """What an extraction will cost, nothing cached; merging as if every pair gave 8 candidates of 20 tokens."""
    pairs = build_pairs(preferences, config.pairs)
    bound = config.judge.max_tokens
    reading = sum(_tokens(reason_question(pair).messages) for pair in pairs)
    frame = _tokens(extract_question("", "A", config.max_candidates).messages)
    candidates = CANDIDATES_A_PAIR * len(pairs)
    lists = -(-candidates // config.chunk)
    # Each round is taken to halve its rules, so all further rounds together cost as much as the first.
    calls = 1 if lists == 1 else 2 * lists
    merging = calls * (_tokens(merge_question(["-"]).messages) + TOKENS_A_CANDIDATE * min(config.chunk, candidates))
    return [
        StageEstimate("reasoning", len(pairs), reading, len(pairs) * bound),
        StageEstimate("candidates", len(pairs), len(pairs) * (frame + bound), len(pairs) * bound),
        StageEstimate("merge", calls, merging, calls * bound),
    ]


def _tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(str(message["content"])) for message in messages) // 4
