"""What a puzzle's image is asked about, in words."""

from collections.abc import Sequence
from typing import Any

from rlrules.data.jigsaw_questions import Asked
from rlrules.rewards.jigsaw_answers import LETTERS

_SIDES = {
    "left": "directly left of",
    "right": "directly right of",
    "above": "directly above",
    "below": "directly below",
}


def puzzle_text(asked: Asked, rows: int, columns: int, think: bool, masked: bool) -> str:
    """The text after the image: the task, the numbering of the places, the question, the form of the answer."""
    size = rows * columns
    task = f"The picture was cut into {size} equal pieces ({_grid(rows, columns)}), and the pieces were shuffled."
    if masked:
        task += " The pieces' borders are blacked out."
    told = [f"{task} Put it together again in your mind.", _numbering(rows, columns), _question(asked, rows, columns)]
    return "\n".join([*told, _form(think, _ANSWERS[asked.question](rows, columns))])


def patches_text(region: int, rows: int, columns: int, think: bool, masked: bool) -> str:
    """The text of a question for a box."""
    task = (
        f"The picture is divided into {rows * columns} equal regions ({_grid(rows, columns)}). A patch of one size was"
    )
    task += " cut out of each, and some of the patches have changed places."
    if masked:
        task += " The regions' borders are blacked out."
    asked = f"The patch that region {region} shows now comes from another region. Which box did it fill there?"
    form = "the box in pixels: its left, top, right and bottom edge, as whole numbers with commas between"
    return "\n".join([task, _numbering(rows, columns), asked, _form(think, form)])


def _grid(rows: int, columns: int) -> str:
    return f"{rows} row{'s' * (rows > 1)}, {columns} column{'s' * (columns > 1)}"


def _numbering(rows: int, columns: int) -> str:
    size = rows * columns
    if rows == 1:
        ends = f"1 is the left one and {size} the right one"
    elif columns == 1:
        ends = f"1 is the top one and {size} the bottom one"
    else:
        ends = f"1 is the top left one and {size} the bottom right one"
    return f"The places are numbered so that {ends}:\n```\n{laid_out(range(1, size + 1), columns)}\n```"


def laid_out(numbers: Sequence[int], columns: int) -> str:
    """Numbers in rows, as a grid has them."""
    rows = [numbers[start : start + columns] for start in range(0, len(numbers), columns)]
    return "\n".join(" ".join(map(str, row)) for row in rows)


def _question(asked: Asked, rows: int, columns: int) -> str:
    if asked.question == "pair":
        first, second = asked.cells
        listed = [f"{first} is {_SIDES.get(name, f'{name} of')} {second}" for name in asked.options]
        told = f"Take the pieces now at places {first} and {second}. Which of these {len(listed)} statements is true of"
        return "\n".join([f"{told} them in the original picture?", *_lettered(listed)])
    rule = "if the piece now at place X belongs at place Y, Y stands at place X"
    if asked.question == "multiple":
        grids = [f"\n{laid_out(option, columns)}" for option in asked.options]
        return "\n".join([f"Which of these {len(grids)} solutions is right? In each, {rule}.", *_lettered(grids)])
    if asked.question == "single":
        return f"At which place does the piece belong that is now at place {asked.cells[0]}?"
    return f"Where does each piece belong? Fill the layout anew: {rule}."


def _lettered(texts: Sequence[str]) -> list[str]:
    # A grid begins on a line of its own.
    return [f"({letter}) {text}".replace(" \n", "\n", 1) for letter, text in zip(LETTERS, texts, strict=False)]


def _form(think: bool, answer: str) -> str:
    if think:
        return (
            "First think it through between <think> and </think>. Then give the answer between <answer> and "
            f"</answer>: {answer}."
        )
    return f"Answer at once and write nothing else than {answer}."


def _whole(rows: int, columns: int) -> str:
    return f"the {rows * columns} numbers in {_grid(rows, columns)}"


def _letter(rows: int, columns: int) -> str:
    return "the letter of one option"


def _number(rows: int, columns: int) -> str:
    return "one number"


_ANSWERS: dict[str, Any] = {"full": _whole, "pair": _letter, "multiple": _letter, "single": _number}
