"""The prompts of a completion's verdicts share their beginning, and a real server makes use of it."""

import asyncio
import json
from pathlib import Path

import pytest

from rlrules.engines.vllm import VllmServer
from rlrules.judges import OpenAIJudgeConfig, build_judge
from rlrules.rewards.base import Resources
from rlrules.rewards.rules import RulesConfig
from rlrules.types import Completion, Group, Message
from tests.e2e.serving import counted
from tests.e2e.training import ROOT

pytestmark = pytest.mark.e2e


def test_twenty_five_verdicts_read_the_conversation_once(vllm_server: VllmServer, tmp_path: Path) -> None:
    rules = ROOT / "data/rules/ultrafeedback.json"
    judge = OpenAIJudgeConfig(urls=[vllm_server.url], model=vllm_server.served_model_name, cache=str(tmp_path / "c"))
    built = build_judge("verifier", judge)
    scorer = RulesConfig(judge="verifier", rules=str(rules)).build(Resources({"verifier": built}))
    row = json.loads((ROOT / "data/preferences.jsonl").read_text().splitlines()[0])
    # About a thousand tokens: a common prompt with an answer at the paper's bound.
    question: Message = {"role": "user", "content": f"{row['prompt']}\n" + f"{row['rejected']}\n" * 6}
    group = Group((question,), (Completion(row["chosen"] * 2, 200),))
    names = ("prefix_cache_queries_total", "prefix_cache_hits_total", "request_success_total")
    before = [counted(vllm_server, name) for name in names]
    [score] = asyncio.run(scorer.score(group)).scores
    asked, hit, requests = (counted(vllm_server, name) - was for name, was in zip(names, before, strict=True))
    assert score.value is not None and requests == 25
    print(f"{asked / 25:.0f} tokens a prompt, {hit / asked:.1%} of them from the prefix cache")
    assert hit / asked > 0.8
