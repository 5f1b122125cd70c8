"""Prompts with constraints: what is drawn, what cannot go together, what is left out, how hard they are."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from rlrules.cli import app
from rlrules.data.constraint_conflicts import contradiction
from rlrules.data.constraint_families import FAMILIES
from rlrules.data.constraint_filters import Contamination, split_of
from rlrules.data.constraint_synthesis import Synthesis, SynthesisConfig
from rlrules.data.constraints import ConstraintPromptsConfig
from rlrules.errors import DataError, JudgeError
from rlrules.judges import Answer, JudgeFailure, Question
from rlrules.rewards.constraint_set import constraints_of
from rlrules.rewards.constraints import ConstraintsConfig
from tests.fakes.judge import Reply, scripted_judge

pytest.importorskip("if_verifiable", reason="if-verifiable is not installed: pip install 'rlrules[ifeval]'")

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "light_if.json").read_text())
COMMA, QUOTES, TITLE = "punctuation:no_comma", "startend:quotation", "detectable_format:title"
WORDS = "length_constraints:number_words"
MODEL = {"type": "openai", "urls": ["http://x/v1"], "model": "policy", "temperature": 1.0, "cache": False}


def seeds(folder: Path, count: int = 12) -> str:
    path = folder / "seeds.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"s{n}", "prompt": f"Tell me about {n} cats."}) + "\n" for n in range(count))
    )
    return str(path)


def rows(folder: Path, count: int = 12, **fields: Any) -> Sequence[Any]:
    return ConstraintPromptsConfig(path=seeds(folder, count), **fields).load(lambda text: 0).rows


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_kind_can_be_drawn_said_and_checked(tmp_path: Path, language: str) -> None:
    names = {name for name, family in FAMILIES.items() if family.language == language}
    made = rows(tmp_path, 12, variants=30, per_prompt=1, language=language)
    assert {name for row in made for name in row["instruction_id_list"]} == names
    for row in made:
        [message], [kwargs] = row["prompt"], row["kwargs"]
        said = message["content"].removeprefix(row["seed_prompt"]).strip()
        assert said and "{" not in said
        # What is asked for is said, and what is said is checked.
        for key, value in kwargs.items():
            if isinstance(value, int) and not isinstance(value, bool) and value:
                assert str(value) in said, (said, kwargs)
            elif key in ("keyword", "end_phrase", "text", "first_word", "letter"):
                assert value in said
        assert constraints_of(row, message["content"])


def test_a_prompt_s_constraints_hang_on_it_alone(tmp_path: Path) -> None:
    whole = {row["id"]: row for row in rows(tmp_path, 12, variants=1, per_prompt=3)}
    assert [row["kwargs"] for row in rows(tmp_path, 5, per_prompt=3)] == [
        row["kwargs"] for row in list(whole.values())[:5]
    ]
    assert rows(tmp_path, 12, per_prompt=3) == list(whole.values())
    assert rows(tmp_path, 12, per_prompt=3, seed=1) != list(whole.values())


def test_values_of_one_s_own(tmp_path: Path) -> None:
    kinds = {WORDS: {"relation": ["less than"], "num_words": [7]}, "count:numbers": {"N": [3]}}
    made = rows(tmp_path, kinds=kinds, per_prompt=2)
    for row in made:
        found = dict(zip(row["instruction_id_list"], row["kwargs"], strict=True))
        assert found == {WORDS: {"relation": "less than", "num_words": 7}, "count:numbers": {"N": 3}}
        assert "fewer than 7 words" in row["prompt"][0]["content"]
        # IFBench's kinds are worded by its library.
        assert "exactly 3 numbers" in row["prompt"][0]["content"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kinds": ["no:such"]}, "kinds: no constraint 'no:such'"),
        ({"kinds": {WORDS: {"words": [3]}, COMMA: {}}}, f"kinds: {WORDS}: got an unexpected keyword"),
        ({"kinds": {WORDS: {"num_words": []}, COMMA: {}}}, f"kinds: {WORDS}: 'num_words' has no values"),
        ({"kinds": {WORDS: {"num_words": [20, -1]}, COMMA: {}}}, f"kinds: {WORDS}: 'num_words': -1 is out of range"),
        ({"kinds": {"count:numbers": {}, COMMA: {}}}, "kinds: count:numbers: 'N' is missing"),
        ({"kinds": [COMMA]}, "per_prompt: 2 constraints of 1 kinds"),
        ({"kinds": [COMMA, "detectable_format:json_format"]}, "no rows left (12 by no constraints go together)"),
    ],
)
def test_kinds_that_cannot_be_drawn(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError) as error:
        rows(tmp_path, **fields)
    assert problem in str(error.value)


Said = tuple[str, dict[str, Any]]
SENTENCES, PARAGRAPHS = "en:sentence_count", "en:paragraph_count"


def less(words: int) -> Said:
    return WORDS, {"relation": "less than", "num_words": words}


def more(words: int) -> Said:
    return WORDS, {"relation": "at least", "num_words": words}


def use(*words: str) -> Said:
    return "keywords:existence", {"keywords": list(words)}


def never(*words: str) -> Said:
    return "keywords:forbidden_words", {"forbidden_words": list(words)}


def zh(keyword: str, **bounds: int) -> Said:
    return "zh:keyword_count", {"keyword": keyword, **bounds}


NTH = ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "so"})
NO_G = ("keywords:letter_frequency", {"letter": "g", "let_relation": "less than", "let_frequency": 1})
FIVE_SENTENCES = ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 5})
HIGHLIGHTS = "detectable_format:number_highlighted_sections"


@pytest.mark.parametrize(
    ("constraints", "why"),
    [
        ([less(20), (COMMA, {})], ""),
        ([more(20), ("count:word_count_range", {"min_words": 5, "max_words": 15})], "20 words or more and 15"),
        ([less(5), use("a b c", "d e")], "longer than the answer may be"),
        ([less(6), use("a b c", "d e")], ""),
        ([less(5), FIVE_SENTENCES], "5 sentences in 4 words"),
        ([less(6), FIVE_SENTENCES], ""),
        ([(SENTENCES, {"low": 2, "high": 2}), (PARAGRAPHS, {"low": 3})], "3 paragraphs in 2"),
        ([(SENTENCES, {"low": 2, "high": 2}), (PARAGRAPHS, {"low": 2})], ""),
        ([NTH], "paragraph 3 of 2"),
        ([never("cat"), use("Cat", "dog")], "'Cat' is required, 'cat' forbidden"),
        # Forbidden as a word only.
        ([never("cat"), use("concatenate")], ""),
        ([NO_G, use("dog")], "'dog' is required, 'g' forbidden"),
        ([(COMMA, {}), ("startend:end_checker", {"end_phrase": "Well, bye."})], "',' forbidden"),
        (
            [("detectable_format:number_bullet_lists", {"num_bullets": 2}), (HIGHLIGHTS, {"num_highlights": 1})],
            HIGHLIGHTS,
        ),
        ([("change_case:english_lowercase", {}), ("change_case:english_capital", {})], "english_capital"),
        ([("detectable_format:json_format", {}), (SENTENCES, {"low": 1})], "json_format"),
        ([("zh:title_style", {"style": "《》"}), ("zh:title_length", {"style": "【】", "high": 5})], "titles in"),
        ([zh("春天", high=0), ("zh:opening", {"text": "春天来了"})], "'春天' forbidden"),
        ([zh("春天", low=3), ("zh:character_count", {"high": 5})], "longer than"),
        ([zh("春天", low=3), zh("春天", high=2)], "3 times"),
        ([zh("春天", low=3), zh("冬天", high=2)], ""),
    ],
)
def test_contradictions(constraints: list[Said], why: str) -> None:
    for order in (constraints, constraints[::-1]):
        found = contradiction(order)
        assert (why in found and found) if why else found == ""


@pytest.mark.parametrize("case", GOLDEN["split"])
def test_splits(case: dict[str, Any]) -> None:
    # Of twenty constraints a prompt, as many as make the mean share of all answers.
    held = round(20 * case["fraction"])
    answers = [[True] * 20] * case["passes"] + [[True] * held + [False] * (20 - held)] * (case["of"] - case["passes"])
    assert split_of(answers) == case["split"]


def test_a_mean_at_the_threshold_is_not_rounded_below_it() -> None:
    # The floats 0.6, 0.7 and 0.8 have a mean below 0.7.
    assert split_of([[True] * held + [False] * (10 - held) for held in (6, 7, 8)]) == "easy"
    assert split_of([[True, False]], threshold=0.51) == "hard"


def test_contamination() -> None:
    benchmark = "Write down a very long list of all the many things that a cat may do at night. Thanks!"
    found = Contamination([benchmark, "Sing a song."], ngram=13)
    assert found.found("So: A VERY LONG list, of all the many things that a cat may — or may not.")  # 13 in a row.
    assert not found.found("very long list of all the many things that a cat may")  # 12.
    assert found.found("sing  a song!") and not found.found("sing a song again")
    assert Contamination(["写一首关于春天的诗，要有四句话。"], ngram=8).found("请写一首关于春天的诗")
    assert not Contamination([]).found("anything") and not Contamination(["..."]).found("...")


def synthesis(folder: Path, **fields: Any) -> Synthesis:
    prompts = {"type": "constraints", "path": seeds(folder, 6), "kinds": [COMMA, QUOTES, TITLE], "variants": 2}
    config = SynthesisConfig.model_validate({"prompts": prompts | fields.pop("prompts", {}), **fields})
    return Synthesis(config, folder / "out")


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / f"{name}.jsonl").read_text().splitlines()]


def whole(folder: Path, counts: Any) -> None:
    """Counts in are counts out."""
    kept = [counts[name] for name in ("hard", "easy", "pass", "trivial", "prompts") if name in counts]
    assert counts["rows"] == sum(kept) + sum(v for k, v in counts.items() if k.startswith("left out"))
    assert json.loads((folder / "out" / "manifest.json").read_text())["counts"] == counts


def test_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "bench.jsonl").write_text('{"prompt": "tell me about 3 cats"}\n')
    made = synthesis(tmp_path, decontaminate=[str(tmp_path / "bench.jsonl")], prompts={"limit": 4})
    counts = made.write().counts
    assert counts["prompts"] == 4 and counts["left out: in a benchmark"] in (1, 2)
    whole(tmp_path, counts)
    for row in read(tmp_path, "prompts"):
        assert ConstraintsConfig().row_problem(row) == "" and len(row["instruction_id_list"]) == 2
    assert "split" not in json.loads((tmp_path / "out" / "manifest.json").read_text())


def answering(texts: dict[str, list[str]]) -> Callable[[Question], Reply]:
    """Answers by seed prompt and draw."""

    def reply(question: Question) -> Reply:
        [message] = question.messages
        found = next(given for seed, given in texts.items() if str(message["content"]).startswith(seed))
        return found[question.draw % len(found)]

    return reply


GOOD, HALF, BAD = '"<<T>> fine"', '"fine"', ", "
ANSWERS = {
    "Tell me about 0": [GOOD],  # trivial
    "Tell me about 1": [BAD, GOOD],  # pass
    "Tell me about 2": [BAD],  # hard
    "Tell me about 3": [f"<think>{BAD}</think>{GOOD}"],
    "Tell me about 4": ["<think>never ends"],
    "Tell me about 5": [GOOD],
}


def test_splits_by_a_model_s_answers(tmp_path: Path) -> None:
    kinds = {"kinds": [QUOTES, COMMA], "variants": 1}
    made = synthesis(tmp_path, model=MODEL, samples=2, prompts=kinds)
    model, backend = scripted_judge(answering(ANSWERS))
    asyncio.run(made.sample(model))
    counts = made.write().counts
    assert len(backend.questions) == 12
    whole(tmp_path, counts)
    found = [row for name in ("trivial", "pass", "easy", "hard") for row in read(tmp_path, name)]
    by = {row["id"]: (row["split"], row["passes"], row["fraction"]) for row in found}
    assert by["s0"] == by["s3"] == by["s5"] == ("trivial", 2, 1.0)
    assert by["s1"] == ("pass", 1, 0.5)
    assert by["s2"] == by["s4"] == ("hard", 0, 0.0)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    told = {"model": "policy", "revision": "", "temperature": 1.0, "n": 2, "threshold": 0.7}
    assert manifest["split"] == told
    # The same folder asks nothing again; more samples ask only for those.
    again, backend = scripted_judge(answering(ANSWERS))
    asyncio.run(synthesis(tmp_path, model=MODEL, samples=3, prompts=kinds).sample(again))
    assert [question.draw for question in backend.questions] == [2] * 6


def test_unanswered_prompts_are_left_out_and_asked_again(tmp_path: Path) -> None:
    def broken(question: Question) -> Reply:
        if "about 1" in str(question.messages[0]["content"]) and question.draw:
            return JudgeFailure("timeout", "too slow")
        return GOOD

    made = synthesis(tmp_path, model=MODEL, samples=2, prompts={"kinds": [QUOTES, COMMA], "variants": 1})
    asyncio.run(made.sample(scripted_judge(broken)[0]))
    counts = made.write().counts
    assert counts["left out: unanswered"] == 1 and counts["trivial"] == 5
    whole(tmp_path, counts)
    made = synthesis(tmp_path, model=MODEL, samples=2, prompts={"kinds": [QUOTES, COMMA], "variants": 1})
    model, backend = scripted_judge(lambda question: GOOD)
    asyncio.run(made.sample(model))
    assert len(backend.questions) == 1 and made.write().counts["trivial"] == 6


def test_a_model_that_answers_nothing(tmp_path: Path) -> None:
    made = synthesis(tmp_path, model=MODEL, samples=1, prompts={"variants": 1})
    with pytest.raises(JudgeError, match="none of 6 questions was answered; the first: verifier: too slow"):
        asyncio.run(made.sample(scripted_judge(lambda question: JudgeFailure("timeout", "too slow"))[0]))


def test_a_judge_leaves_out_what_makes_no_sense(tmp_path: Path) -> None:
    def judge(question: Question) -> Reply:
        assert question.labels == ("Yes", "No")
        text = str(question.messages[0]["content"])
        if "about 3" in text:
            return JudgeFailure("timeout", "too slow")
        return Answer("No" if "about 2" in text else "Perhaps" if "about 4" in text else "Yes")

    made = synthesis(tmp_path, judge=MODEL, prompts={"kinds": [QUOTES, COMMA], "variants": 1})
    asyncio.run(made.judge(scripted_judge(judge)[0]))
    counts = made.write().counts
    reasons = Counter(row["reason"] for row in read(tmp_path, "dropped"))
    assert reasons == {"makes no sense": 1, "unjudged": 1, "the judge's answer is no verdict": 1}
    assert counts["prompts"] == 3
    whole(tmp_path, counts)


def test_settings_without_an_effect_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"at model\.temperature 0 all are the same"):
        synthesis(tmp_path, model=MODEL | {"temperature": 0})
    with pytest.raises(ValidationError, match="are of training"):
        synthesis(tmp_path, prompts={"shuffle": 1})
    with pytest.raises(DataError, match="`prompt`: expected text"):
        (tmp_path / "bench.jsonl").write_text('{"prompt": ["a"]}\n')
        synthesis(tmp_path, decontaminate=[str(tmp_path / "bench.jsonl")])


def test_the_command(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    prompts = {"type": "constraints", "path": seeds(tmp_path, 6), "kinds": [COMMA, QUOTES]}
    config.write_text(json.dumps({"prompts": prompts}))
    out = tmp_path / "out"
    command = ["data", "constraints", str(config), "-o", str(out)]
    told = CliRunner().invoke(app, [*command, "--dry-run"])
    assert told.exit_code == 0 and not out.exists(), told.output
    told = CliRunner().invoke(
        app, ["data", "constraints", str(config), "prompts.seed=3", "-o", str(out), "--limit", "4"]
    )
    assert told.exit_code == 0, told.output
    assert len(read(tmp_path, "prompts")) == 4 and len(read(tmp_path, "dropped")) == 2
    told = CliRunner().invoke(app, [*command, "prompts.path=nowhere.jsonl"])
    assert told.exit_code == 2 and "nowhere.jsonl does not exist" in told.stderr
