"""Scoring beside the rest of a rollout: from the first completion that a generator tells of, or from the last."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from trl.chat_template_utils import parse_response
from trl.data_utils import is_conversational

from rlrules.data.messages import completion_text
from rlrules.rewards.ahead import Ahead
from rlrules.training.scoring import Batch, BatchScorer


@runtime_checkable
class Telling(Protocol):
    """What stands in a trainer's `vllm_generation` and tells of completions one by one."""

    finished: Callable[[int, list[int]], None] | None
    """Set while it generates: called with a row of this rank's prompts and its completion's token ids, as `generate`
    will return them, in any order and from any thread. It need not tell of all."""


class Overlap:
    """Tells a scorer of completions as soon as a trainer has them.

    Early texts are decoded as TRL will decode them; should TRL end up with others, those groups are scored afresh.

    Args:
        trainer: The trainer.
        scorer: Its scorer.
    """

    def __init__(self, trainer: Any, scorer: BatchScorer) -> None:
        self._trainer = trainer
        self._scorer = scorer
        self._batch: Batch | None = None
        self._ahead: Ahead | None = None
        self._decoding = threading.Lock()

    @contextlib.contextmanager
    def rollout(self, batch: Batch) -> Iterator[None]:
        """Score `batch`, which has no completions yet, as they come; where this ends before, nothing goes on."""
        self._batch, self._ahead = batch, self._scorer.begin(batch)
        try:
            yield
        finally:
            self._batch = self._ahead = None
            self._scorer.give_up()

    @contextlib.contextmanager
    def listening(self, prompt_ids: Sequence[list[int]]) -> Iterator[None]:
        """Score what the trainer's generator tells of in the meantime.

        Args:
            prompt_ids: What it generates from, one a row.
        """
        generator = getattr(self._trainer, "vllm_generation", None)
        batch, ahead = self._batch, self._ahead
        # With tools a completion is not over when a turn is.
        if batch is None or ahead is None or self._trainer.tools or not isinstance(generator, Telling):
            yield
            return

        def finished(row: int, ids: list[int]) -> None:
            with self._decoding:
                text = decoded(self._trainer, batch.inputs[row], prompt_ids[row], ids)
            ahead.finished(row, batch.completion(text, ids))

        generator.finished = finished
        try:
            yield
        finally:
            generator.finished = None

    def generated(self, ids: Sequence[list[int]], completions: Sequence[Any]) -> None:
        """All completions are there.

        Args:
            ids: Their token ids.
            completions: As TRL has decoded them.
        """
        if self._batch is not None and self._ahead is not None:
            self._ahead.generated(replace(self._batch, texts=texts_of(completions), ids=ids).groups())


def texts_of(completions: Sequence[Any]) -> list[str]:
    """TRL's completions as texts."""
    return [completion_text(completion, "generated") for completion in completions]


def decoded(trainer: Any, row: Mapping[str, Any], prompt_ids: list[int], ids: list[int]) -> str:
    """One completion's text as TRL's `_generate` will decode it."""
    tokenizer = trainer._tokenizer
    parses = any(getattr(tokenizer, name, None) is not None for name in ("response_template", "response_schema"))
    if parses and is_conversational({"prompt": row["prompt"]}):
        message = parse_response(tokenizer, ids, prefix=prompt_ids, tools=trainer.tools)
        return completion_text([message], "generated")
    text: str = trainer.processing_class.batch_decode([ids], skip_special_tokens=True)[0]
    return text
