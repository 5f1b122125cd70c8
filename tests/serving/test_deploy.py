"""Profiles and deployment files: what can be held to something without a cluster."""

import ast
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from rlrules.recipe.load import load_recipe
from rlrules.recipe.schema import GrpoRecipe
from rlrules.recipe.served import serving_problems
from rlrules.serving.app import OTHERS
from rlrules.serving.metrics import Metrics
from tests.serving.shared import ROOT, application, group, judged, rewards_of

DEPLOY = ROOT / "reward_servers/deploy"
PROFILES = sorted((ROOT / "reward_servers").glob("*.yaml"))
KUBERNETES = "1.37"


def documents(path: Path) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text()))


MANIFESTS = [(path.name, one) for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for one in documents(path)]


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def profile(name: str, *overrides: str) -> GrpoRecipe:
    loaded = load_recipe(f"reward_servers/{name}.yaml", overrides).of(GrpoRecipe)
    assert serving_problems(loaded) == []
    return loaded.recipe


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_can_be_served(path: Path) -> None:
    assert profile(path.stem).server is not None


def test_all_profiles_are_there_and_in_the_readme() -> None:
    names = {path.stem for path in PROFILES}
    assert names == {"autorule", "think_rm", "thinking", "reward_model", "composite", "cpu"}
    readme = (ROOT / "reward_servers/README.md").read_text()
    assert all(f"`{name}.yaml`" in readme for name in names)


@pytest.mark.parametrize(
    ("name", "single"),
    [("autorule", True), ("composite", True), ("cpu", True), ("think_rm", False), ("thinking", False)],
)
def test_which_profiles_take_single_items(tmp_path: Path, name: str, single: bool) -> None:
    app = application(tmp_path, f"base: {ROOT}/reward_servers/{name}.yaml\nengines: null\n")
    assert (app.state.service.groups_only == "") == single


@pytest.mark.parametrize(("name", "document"), MANIFESTS, ids=[f"{name}-{one['kind']}" for name, one in MANIFESTS])
def test_manifests_are_valid(name: str, document: Any) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_wrong_manifest_would_be_found() -> None:
    [service] = [one for _, one in MANIFESTS if one["kind"] == "Service" and one["metadata"]["name"] == "rlrules-judge"]
    wrong = {**service, "spec": {**service["spec"], "selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_manifests_fit_the_server_and_each_other(tmp_path: Path) -> None:
    by_kind = {(one["kind"], one["metadata"]["name"]): one for _, one in MANIFESTS}
    deployment = by_kind["Deployment", "rlrules-rewards"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    recipe, *overrides = container["args"]
    served = profile(Path(recipe).stem, *overrides)
    assert served.server is not None and served.server.host == "0.0.0.0" and served.server.token_env == "RLRULES_TOKEN"
    assert [entry["name"] for entry in container["env"]] == [served.server.token_env]
    port = served.server.port
    assert (
        container["ports"][0]["containerPort"]
        == by_kind["Service", "rlrules-rewards"]["spec"]["ports"][0]["port"]
        == port
    )
    assert served.judges["verifier"].urls == ["http://rlrules-judge:8000/v1"]  # type: ignore[union-attr]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in OTHERS
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > served.server.drain_s + 5
    scaler = by_kind["HorizontalPodAutoscaler", "rlrules-rewards"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    metrics: Metrics = application(tmp_path, judged(tmp_path, "http://x/v1")).state.metrics
    assert f"\n{scaler['metrics'][0]['pods']['metric']['name']} " in metrics.text().decode()


def test_compose_names_what_exists() -> None:
    [compose] = documents(DEPLOY / "compose.yaml")
    services = compose["services"]
    for service in services.values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists()
    recipe, *overrides = services["rewards"]["command"]
    served = profile(Path(recipe).stem, *overrides)
    assert served.judges["verifier"].urls == ["http://judge:8000/v1"]  # type: ignore[union-attr]
    assert served.judges["verifier"].model in services["judge"]["command"]
    assert all(port.startswith("127.0.0.1:") for port in services["rewards"]["ports"])


@pytest.mark.parametrize("name", ["Dockerfile.serve", "Dockerfile.train"])
def test_dockerfiles_copy_what_exists(name: str) -> None:
    lines = (DEPLOY / name).read_text().splitlines()
    copied = [part for line in lines if line.startswith("COPY") for part in line.split()[1:-1]]
    assert copied and all((ROOT / part).exists() for part in copied)
    assert f"torch=={_torch()}" in (DEPLOY / name).read_text()


def _torch() -> str:
    return next(
        line.split("==")[1].strip('",')
        for line in (ROOT / "pyproject.toml").read_text().splitlines()
        if '"torch==' in line
    )


def test_the_slurm_script_parses_and_refuses_too_few_nodes(tmp_path: Path) -> None:
    script = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    fake = tmp_path / "scontrol"
    fake.write_text("#!/bin/sh\necho node1\necho node2\n")
    fake.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "node[1-2]"}
    done = subprocess.run(
        ["bash", str(script), "recipes/autorule.yaml"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "leaves none of 2 nodes to train" in done.stderr


def test_the_overrides_of_the_slurm_script_make_a_recipe() -> None:
    given = [
        "rewards={rules: null, preference: null, "
        "served: {type: remote, urls: [http://n1:8080], api_key_env: RLRULES_TOKEN}}",
        "objective.weights={rules: null, preference: null, served: 1}",
    ]
    script = (DEPLOY / "slurm.sh").read_text()
    assert all(part.replace("http://n1:8080", "$REWARDS") in script for part in given)
    recipe = load_recipe("recipes/autorule.yaml", given).of(GrpoRecipe).recipe
    assert list(recipe.rewards) == ["served"] and recipe.objective.rewards_used() == {"served": 1}


def test_the_ray_application_is_python_that_uses_what_exists() -> None:
    tree = ast.parse((DEPLOY / "ray_serve.py").read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert any(node.module == "rlrules.serving.run" and node.names[0].name == "application" for node in imported)


def test_the_thinking_profile_scores(tmp_path: Path) -> None:
    # All right or all wrong: nobody is asked, and the reward is the outcome.
    from fastapi.testclient import TestClient

    app = TestClient(application(tmp_path, f"base: {ROOT}/reward_servers/thinking.yaml\n"))
    text = "<think>Two and two.</think><answer>{}</answer>"
    row = {"problem_type": "numerical", "answer": "4"}
    groups = [
        group("2+2?", text.format(4), text.format("4.0"), row=row),
        group("2+2?", text.format(5), "five", row=row),
    ]
    reply = app.post("/v1/score", json={"groups": groups, "step": 3, "total_steps": 10})
    assert rewards_of(reply) == [[1.0, 1.0], [0.0, 0.0]]
