"""Puzzles: cut and put together to the pixel, drawn alike everywhere, asked about without bias."""

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from PIL import Image
from pydantic import ValidationError
from torch.utils.data import BatchSampler
from trl.trainer.utils import RepeatSampler

from rlrules.data.image_sources import FolderImages, ListedImages, SampleImages, SyntheticImages
from rlrules.data.jigsaw import JigsawPromptsConfig
from rlrules.data.jigsaw_images import arranged, draw_puzzle, masked, pieces, puzzle, trimmed
from rlrules.data.jigsaw_questions import ask, relation, relation_chances, relations, shuffled
from rlrules.errors import DataError
from rlrules.images import open_image, references
from rlrules.rewards.jigsaw import row_problem
from rlrules.rewards.jigsaw_answers import LETTERS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/jigsaw_r1.json").read_text())
DRAWS = 20_000


def config(**fields: Any) -> JigsawPromptsConfig:
    images = {"type": "synthetic", "count": 50, "width": 64, "height": 48}
    return JigsawPromptsConfig(**{"images": images, "stages": [{"m": 2, "n": 1, "prompts": 200}], **fields})


def rows_of(**fields: Any) -> Any:
    return config(**fields).load(len).rows


@pytest.mark.parametrize(
    ("m", "n", "size"),
    [
        (2, 1, (641, 480)),
        (1, 2, (640, 481)),
        (3, 2, (640, 480)),
        (2, 2, (640, 480)),
        (4, 1, (641, 480)),
        (3, 3, (639, 480)),
    ],
)
def test_cut_and_put_together_to_the_pixel(tmp_path: Path, m: int, n: int, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (481, 641, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    arrangement = shuffled(random.Random(3), m * n)
    drawn = draw_puzzle(puzzle(str(tmp_path / "image.png"), m, n, arrangement, 0.0))
    assert drawn.size == size
    whole = trimmed(pixels, m, n)
    assert np.array_equal(whole, pixels[: size[1], : size[0]])
    shown = np.asarray(drawn)
    tall, wide = size[1] // m, size[0] // n
    for cell, piece in enumerate(arrangement):
        top, left = (cell // n) * tall, (cell % n) * wide
        home_top, home_left = ((piece - 1) // n) * tall, ((piece - 1) % n) * wide
        home = whole[home_top : home_top + tall, home_left : home_left + wide]
        assert np.array_equal(shown[top : top + tall, left : left + wide], home)
    inverse = [arrangement.index(piece) + 1 for piece in range(1, m * n + 1)]
    assert np.array_equal(arranged(shown, m, n, inverse), whole)


def test_a_mask_blackens_borders() -> None:
    white = np.full((8, 8, 3), 255, dtype=np.uint8)
    left = {(int(row), int(column)) for row, column in np.argwhere(masked(white, 2, 2, 0.5)[:, :, 0])}
    assert left == {(row, column) for row in (2, 5) for column in (2, 5)}
    assert np.array_equal(masked(white, 2, 2, 0.0), white)
    assert pieces(white, 4, 2).shape == (8, 2, 4, 3)


def test_solved_puzzles_and_turned_grids_are_as_frequent_as_chance() -> None:
    for size, share, bound in ((2, 0.5, 0.015), (4, 1 / 24, 0.006)):
        solved = sum(shuffled(random.Random(seed), size) == list(range(1, size + 1)) for seed in range(DRAWS))
        assert solved / DRAWS == pytest.approx(share, abs=bound)
    rows = rows_of(stages=[{"m": 2, "n": 1, "prompts": DRAWS}])
    found = Counter((row["m"], row["n"]) for row in rows)
    assert found[1, 2] / DRAWS == pytest.approx(0.5, abs=0.015)
    assert sum(row["arrangement"] == [1, 2] for row in rows) / DRAWS == pytest.approx(0.5, abs=0.015)
    assert {(row["m"], row["n"]) for row in rows_of(swap=False)} == {(2, 1)}


def test_a_row_is_the_same_everywhere_and_touches_no_global_generator() -> None:
    made = rows_of(seed=5)[7]
    random.seed(1)
    before, numpy_before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    assert rows_of(seed=5)[7] == made
    pixels = np.asarray(open_image(references(made["prompt"])[0]))
    assert random.getstate() == before and np.random.get_state()[1].tolist() == numpy_before  # type: ignore[index,union-attr]
    code = """
import hashlib, json, sys
from rlrules.data.jigsaw import JigsawPromptsConfig
from rlrules.images import open_image, references
row = JigsawPromptsConfig.model_validate_json(sys.argv[1]).load(len).rows[7]
print(json.dumps(row))
print(hashlib.sha256(open_image(references(row["prompt"])[0]).tobytes()).hexdigest())
"""
    command = [sys.executable, "-c", code, config(seed=5).model_dump_json()]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    assert json.loads(said[0]) == made
    assert said[1] == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert rows_of(seed=6)[7] != made


@pytest.mark.parametrize("case", GOLDEN["relations"]["cases"])
def test_relations(case: dict[str, Any]) -> None:
    first, second = (case["arrangement"][case[cell] - 1] for cell in ("k", "l"))
    assert relation(first, second, case["n"]) == case["relation"]


@pytest.mark.parametrize(("m", "n", "letters"), [(2, 1, 2), (1, 3, 2), (2, 2, 8)])
def test_letters_are_uniform_and_relations_as_the_grid_has_them(m: int, n: int, letters: int) -> None:
    answers: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for seed in range(DRAWS):
        generator = random.Random(seed)
        asked = ask("pair", m, n, shuffled(generator, m * n), generator, 4)
        assert sorted(asked.options) == sorted(relations(m, n))
        answers[str(asked.answer)] += 1
        true[asked.options[LETTERS.index(str(asked.answer))]] += 1
    assert len(answers) == letters
    assert all(count / DRAWS == pytest.approx(1 / letters, abs=0.012) for count in answers.values())
    for name, share in relation_chances(m, n).items():
        assert true[name] / DRAWS == pytest.approx(share, abs=0.01)


def test_chances_of_2x2() -> None:
    chances = relation_chances(2, 2)
    assert [chances[name] for name in ("left", "above", "upper left")] == pytest.approx([1 / 6, 1 / 6, 1 / 12])
    for m, n in ((2, 1), (1, 4), (3, 2), (3, 3)):
        assert sum(relation_chances(m, n).values()) == pytest.approx(1)


def test_solutions_to_choose_from_are_distinct_and_hold_the_right_one() -> None:
    for m, n, count in ((2, 2, 4), (2, 1, 2), (3, 1, 4)):
        for row in rows_of(question="multiple", stages=[{"m": m, "n": n, "prompts": 50}], swap=False):
            assert len(row["options"]) == count == len({tuple(option) for option in row["options"]})
            assert row["options"][LETTERS.index(row["answer"])] == row["arrangement"]


@pytest.mark.parametrize("question", ["full", "pair", "multiple", "single", "box"])
@pytest.mark.parametrize("think", [True, False])
def test_rows_are_small_and_sound_and_say_what_is_asked(question: str, think: bool) -> None:
    for row in rows_of(question=question, think=think, stages=[{"m": 3, "n": 2, "prompts": 20}], mask=0.1):
        assert row_problem(row) == ""
        assert len(json.dumps(row)) < 2500
        [message] = row["prompt"]
        image, text = message["content"]
        assert image["type"] == "image" and ("<think>" in text["text"]) == think
        layout = "1 2\n3 4\n5 6" if row["m"] == 3 else "1 2 3\n4 5 6"
        assert f"```\n{layout}\n```" in text["text"] and "blacked out" in text["text"]


def test_a_boxs_answer_is_where_the_patch_in_its_region_came_from() -> None:
    rows = rows_of(question="box", stages=[{"m": 3, "n": 3, "prompts": 100}])
    for row in rows:
        [reference] = references(row["prompt"])
        assert not isinstance(reference, str)
        whole = trimmed(np.asarray(open_image(reference["source"])), 3, 3)
        shown = np.asarray(open_image(reference))
        height, width = whole.shape[:2]
        home = [round(part * side) for part, side in zip(row["answer"], (width, height) * 2, strict=True)]
        own = reference["boxes"][row["region"] - 1]
        assert home != own and home in reference["boxes"]
        left, top, right, bottom = own
        there = whole[home[1] : home[3], home[0] : home[2]]
        assert np.array_equal(shown[top:bottom, left:right], there)
        # 63x48 is seen at 56x56: 63 and 48 are both nearer to 56 than to 84 or 28.
        assert row["image_size"] == [56, 56]


def test_the_curriculum_is_a_function_of_the_row() -> None:
    stages = [{"m": 3, "n": 1, "prompts": 64_000}, {"m": 4, "n": 1, "prompts": 64_000}]
    rows = rows_of(stages=stages, swap=False)
    assert len(rows) == 128_000
    assert {rows[number]["m"] for number in (0, 1, 63_999)} == {3}
    assert {rows[number]["m"] for number in (64_000, 127_999, -1)} == {4}
    assert [row["id"] for row in rows[95_999:96_001]] == ["95999", "96000"]
    with pytest.raises(IndexError):
        rows[128_000]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_step_takes_the_next_rows_whatever_the_number_of_ranks(ranks: int) -> None:
    prompts, generations, steps = 64, 8, 3
    # One generation a micro-batch of 16 completions a rank; TRL's sampler gives each prompt to its completions.
    size = 16 * ranks
    sampler = RepeatSampler(range(640), generations, size // generations, 1, shuffle=False, seed=0)
    shards = [
        list(BatchSamplerShard(BatchSampler(sampler, 16, drop_last=True), ranks, rank, split_batches=False))
        for rank in range(ranks)
    ]
    accumulated = prompts * generations // size
    fetched: Counter[int] = Counter()
    for step in range(steps):
        taken: Counter[int] = Counter()
        for shard in shards:
            for batch in shard[step * accumulated : (step + 1) * accumulated]:
                taken.update(batch)
        assert sorted(taken) == list(range(64 * step, 64 * step + 64))
        fetched += taken
    assert set(fetched.values()) == {generations}


def test_images_come_in_an_order_of_each_turn() -> None:
    rows = rows_of(stages=[{"m": 2, "n": 1, "prompts": 100}])
    seen = [references(row["prompt"])[0]["source"]["index"] for row in rows]  # type: ignore[index,call-overload]
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50))
    assert seen[:50] != seen[50:] and seen[:50] != list(range(50))


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "deep/a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert FolderImages(path=str(tmp_path)).load() == [str(tmp_path / "b.png"), str(tmp_path / "deep/a.JPG")]
    (tmp_path / "list.json").write_text('["x/1.jpg", "x/2.jpg"]')
    assert ListedImages(path=str(tmp_path / "list.json"), root="/data").load() == ["/data/x/1.jpg", "/data/x/2.jpg"]
    (tmp_path / "list.txt").write_text("1.jpg\n\n2.jpg\n")
    assert ListedImages(path=str(tmp_path / "list.txt")).load() == ["1.jpg", "2.jpg"]
    assert len(SyntheticImages(count=3).load()) == 3
    photographs = [open_image(reference) for reference in SampleImages().load()]
    assert all(photograph.mode == "RGB" and min(photograph.size) >= 300 for photograph in photographs)
    for source, complaint in (
        (FolderImages(path=str(tmp_path / "none")), "is no folder"),
        (ListedImages(path=str(tmp_path / "none")), "cannot be read"),
        (ListedImages(path=str(tmp_path / "notes.txt")), "names none"),
    ):
        with pytest.raises(DataError, match=complaint):
            source.load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds none"):
        FolderImages(path=str(tmp_path / "empty")).load()
    with pytest.raises(DataError, match="skimage"):
        open_image({"type": "sample", "name": "no_such_photograph"})


def test_a_data_set_of_images(tmp_path: Path) -> None:
    from datasets import Dataset
    from datasets import Image as ImageColumn

    made = [Image.new("L", (30, 20), value) for value in (10, 200)]
    folder = tmp_path / "set"
    folder.mkdir()
    Dataset.from_dict({"picture": made}).cast_column("picture", ImageColumn()).to_parquet(folder / "train.parquet")
    rows = rows_of(images={"type": "hub", "path": str(folder), "column": "picture"}, swap=False)
    drawn = open_image(references(rows[0]["prompt"])[0])
    assert drawn.size == (30, 20) and drawn.getpixel((0, 0)) in {(10,) * 3, (200,) * 3}
    with pytest.raises(DataError, match="no column 'image'"):
        rows_of(images={"type": "hub", "path": str(folder)})


def test_scenes_have_their_sky_above() -> None:
    for index in range(20):
        pixels = np.asarray(open_image(SyntheticImages(count=20, width=96, height=96).load()[index])).astype(float)
        blue = pixels[:, :, 2] - pixels[:, :, 1]
        assert blue[:24].mean() > blue[-24:].mean() + 20
        assert pixels[:24, :48].mean() > pixels[:24, 48:].mean()


def test_a_puzzle_of_one_piece_is_refused() -> None:
    with pytest.raises(ValidationError, match="a puzzle of one piece is none"):
        config(stages=[{"m": 1, "n": 1, "prompts": 1}])
