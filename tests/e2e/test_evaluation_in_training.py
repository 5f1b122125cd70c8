"""Runs of a tiny policy that put the trained model to a benchmark: the result, its numbers, a judge that is down."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.training import ROOT, lines, run, tiny_policy, write_recipe
from tests.evaluation.shared import call
from tests.fakes.openai_server import FakeServer

pytestmark = pytest.mark.e2e

PROMPTS = 3


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("policy"))


def one_rule_of_two(request: dict[str, Any]) -> str:
    """Every answer satisfies the first rule, none the second."""
    return "Yes" if "It is written." in request["messages"][-1]["content"] else "No"


def section(folder: Path, url: str) -> dict[str, Any]:
    """An evaluation by two rules, judged at `url`."""
    rules = [{"id": "one", "text": "It is written."}, {"id": "two", "text": "It is a poem."}]
    (folder / "rules.json").write_text(json.dumps({"rules": rules}))
    (folder / "asked.jsonl").write_text("".join(json.dumps({"prompt": f"Name {n}."}) + "\n" for n in range(8)))
    content = {
        "judge": {"type": "openai", "urls": [url], "model": "fake", "cache": False, "retries": 0, "timeout_s": 2},
        "model": {"type": "openai", "urls": ["http://127.0.0.1:9/v1"], "model": "served", "max_tokens": 6},
        "rules": "rules.json",
        "prompts": "asked.jsonl",
        "resamples": 20,
    }
    (folder / "rules_eval.yaml").write_text(json.dumps(content))
    return {"ours": {"type": "rules", "config": "rules_eval.yaml", "overrides": {"limit": PROMPTS}}}


def test_the_result_its_numbers_and_the_report(tmp_path: Path, policy: Path) -> None:
    with FakeServer(one_rule_of_two) as server:
        recipe = write_recipe(tmp_path, policy, eval=section(tmp_path, server.url), training={"max_steps": 1})
        code, output = run(tmp_path, recipe)
        assert code == 0, output
        assert server.counts["answered"] == 2 * PROMPTS
    result = tmp_path / "runs/run/eval/ours/step-1"
    assert "evaluation 'ours': satisfied 0.5; runs/run/eval/ours/step-1/page.html" in output
    answers = lines(result / "answers.jsonl")
    assert len(answers) == PROMPTS and all(0 < line["data"]["tokens"] <= 6 for line in answers)
    identity = json.loads((result / "manifest.json").read_text())["identity"]
    assert identity["model"]["model"] == "runs/run/model" and identity["judge"]["model"] == "fake"
    logged = [line for line in lines(tmp_path / "runs/run/metrics.jsonl") if "eval/ours/failed" in line]
    expected = {"step": 1, "eval/ours/failed": 0, "eval/ours/satisfied": 0.5, "eval/ours/n": PROMPTS}
    assert logged == [expected]
    page = (tmp_path / "runs/run/report.html").read_text("utf-8")
    shown = re.sub(r"<[^>]*>", " ", page.partition('<h2 id="evaluation">')[2].partition("</section>")[0]).split()
    assert shown[shown.index("satisfied") + 1] == "0.500" and "failed" not in shown
    assert "eval/ours/step-1/page.html" in shown and (result / "page.html").exists()

    # Gone on with: two results, each of its own step.
    with FakeServer(one_rule_of_two) as server:
        section(tmp_path, server.url)
        code, output = run(tmp_path, recipe, "training.max_steps=2", "--resume", "auto")
    assert code == 0, output
    assert sorted(path.name for path in result.parent.iterdir()) == ["step-1", "step-2"]
    page = (tmp_path / "runs/run/report.html").read_text("utf-8")
    assert "after step 2" in page and "after step 1<" not in page


def test_a_judge_that_is_down_fails_the_evaluation_alone(
    tmp_path: Path, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Adapters: what is saved is loaded together with the model that it belongs to.
    model = {"name": str(policy), "peft": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}}
    evaluations = section(tmp_path, "http://127.0.0.1:9/v1")
    recipe = write_recipe(tmp_path, policy, model=model, eval=evaluations, training={"max_steps": 1})
    code, output = run(tmp_path, recipe)
    assert code == 0, output
    [told] = [line for line in output.splitlines() if line.startswith("evaluation 'ours' failed: ")]
    assert "3 of 3 answers have no result" in told and "127.0.0.1:9" in told
    assert "Traceback" not in output and "model: runs/run/model" in output
    assert (tmp_path / "runs/run/model/adapter_model.safetensors").exists()
    assert lines(tmp_path / "runs/run/metrics.jsonl")[-1] == {"step": 1, "eval/ours/failed": 1}
    assert "It failed;" in (tmp_path / "runs/run/report.html").read_text("utf-8")

    command = told.partition("do what is missing: rlrules eval ")[2].split()
    monkeypatch.chdir(tmp_path)
    before = lines(tmp_path / "runs/run/eval/ours/step-1/answers.jsonl")
    with FakeServer(one_rule_of_two) as server:
        found = json.loads(call(*command[:2], f"judge.urls=[{server.url}]", *command[2:], "--json"))
    assert found["satisfied"] == 0.5 and found["usage"]["model"]["asked"] == 0
    assert lines(tmp_path / "runs/run/eval/ours/step-1/answers.jsonl") == before and len(before) == PROMPTS


def test_a_reward_model_of_two_ranks(tmp_path: Path, policy: Path) -> None:
    source = {"type": "jsonl", "path": str(ROOT / "data/preferences.jsonl"), "limit": 8}
    (tmp_path / "held_out.yaml").write_text(json.dumps({"data": source, "resamples": 0}))
    training = {"per_device_train_batch_size": 2, "max_steps": 1, "bf16": False, "gradient_checkpointing": False}
    content = {
        "name": "run",
        "method": "reward_model",
        "model": {"name": str(policy)},
        "data": {"train": source},
        "training": training,
        "eval": {"again": {"type": "preference", "config": "held_out.yaml"}},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(content))
    code, output = run(tmp_path, tmp_path / "recipe.yaml", ranks=2)
    assert code == 0, output
    *_, scored, evaluated = lines(tmp_path / "runs/run/metrics.jsonl")
    # On the pairs it was trained on, in order: what training itself counted of them.
    assert evaluated["eval/again/accuracy"] == pytest.approx(scored["scores/train_accuracy"], abs=1e-6)
    assert output.count("evaluation 'again'") == 1
