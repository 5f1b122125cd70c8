"""The rows of a recipe's data as its method's trainer takes them, and what is wrong with their images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrules.data.conversations import Conversations
from rlrules.data.rows import Rows
from rlrules.data.tokenizers import counter_of
from rlrules.data.tokens import conversation_rows, preference_rows
from rlrules.data.vision_rows import holds_images, vision_rows
from rlrules.errors import DataError
from rlrules.images import open_image, references
from rlrules.processors import sees
from rlrules.recipe.load import LoadedRecipe
from rlrules.recipe.schema import GrpoRecipe, Recipe, RewardModelRecipe

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from trl import SFTConfig


def read_parts(
    loaded: LoadedRecipe[Recipe], tokenizer: Any, arguments: "TrainingArguments | None"
) -> tuple[Rows | None, Rows | None, list[str]]:
    """The rows of `data.train` and of `data.eval`, None where there are none or none can be made; and why not.

    Args:
        loaded: The recipe.
        tokenizer: Of its model; None where it cannot be had, so that what shows without it is found.
        arguments: TRL's; None where they cannot be made.
    """
    data = loaded.recipe.data
    sources = {part: getattr(data, part, None) for part in ("train", "eval")}
    problems: list[str] = []
    read: dict[str, Any] = {}
    rows: dict[str, Rows | None] = {"train": None, "eval": None}
    for part, source in sources.items():
        try:
            read[part] = None if source is None else _read(loaded.recipe, source, tokenizer)
        except DataError as error:
            problems.append(loaded.problem(("data", part), str(error)))
    seen = [part for part, found in read.items() if isinstance(found, Conversations) and holds_images(found)]
    if seen and arguments is not None:
        told = image_conflicts(arguments)
        problems += [loaded.problem(("training", field), message) for field, message in told.items()]
    if seen and tokenizer is not None and not sees(tokenizer):
        return None, None, [*problems, _blind(loaded, seen[0])]
    for part, found in read.items():
        try:
            # TRL takes all rows in one form, held-out ones too.
            rows[part] = None if found is None else _made(loaded.recipe, found, tokenizer, arguments, bool(seen))
        except DataError as error:
            problems.append(loaded.problem(("data", part), str(error)))
    return rows["train"], rows["eval"], problems


def image_conflicts(arguments: "SFTConfig") -> dict[str, str]:
    """What TRL cannot do on rows with images, by its field."""
    told = {
        "packing": "rows with images cannot be packed: set it to false",
        "eval_packing": "rows with images cannot be packed: leave it out",
        "padding_free": "rows with images are padded: set it to false",
        "pad_to_multiple_of": "rows with images are padded to the longest: leave it out",
        "shuffle_dataset": "rows with images are drawn in random order anyway: leave it out",
    }
    conflicts = {field: message for field, message in told.items() if getattr(arguments, field)}
    if arguments.train_sampling_strategy not in ("random", "sequential"):
        conflicts["train_sampling_strategy"] = "the lengths of rows with images are not known to TRL: set it to random"
    return conflicts


def image_problems(loaded: LoadedRecipe, part: str, rows: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[str]:
    """A line where the model cannot see, or a prompt's image cannot be had: files must be there, the first must open.

    Args:
        loaded: The recipe.
        part: Of its data.
        rows: Prompts.
        tokenizer: Of its model; None where it cannot be had.
    """
    try:
        held = [(number, found) for number, row in enumerate(rows, 1) for found in references(row["prompt"])]
        if held and tokenizer is not None and not sees(tokenizer):
            return [_blind(loaded, part)]
        if held and loaded.recipe.rollouts is not None:
            return [loaded.problem(("rollouts",), f"data.{part} holds images, which it cannot send: leave it out")]
        for number, found in held:
            if isinstance(found, str) and not Path(found).is_file():
                return [loaded.problem(("data", part), f"row {number}: image {found} does not exist")]
        if held:
            open_image(held[0][1])
    except DataError as error:
        return [loaded.problem(("data", part), str(error))]
    return []


def _blind(loaded: LoadedRecipe[Any], part: str) -> str:
    return loaded.problem(("model", "name"), f"data.{part} holds images, and this model sees none")


def _read(recipe: Recipe, source: Any, tokenizer: Any) -> Any:
    if isinstance(recipe, RewardModelRecipe):
        return source.load()
    # Nothing is too long where nothing can be counted; all else that is wrong with the data shows.
    return source.load(counter_of(tokenizer) if tokenizer is not None else lambda text: 0)


def _made(
    recipe: Recipe, found: Any, tokenizer: Any, arguments: "TrainingArguments | None", seeing: bool
) -> Rows | None:
    """The rows; None where only the recipe's tokenizer could make them."""
    if isinstance(recipe, GrpoRecipe):
        prompts: Rows = found
        return prompts
    if tokenizer is None:
        return None
    bound = getattr(arguments, "max_length", None)
    if isinstance(recipe, RewardModelRecipe):
        return preference_rows(tokenizer, found, bound, recipe.data.margin)
    return (vision_rows if seeing else conversation_rows)(tokenizer, found, bound)
