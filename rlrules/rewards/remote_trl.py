"""A reward server for TRL's own trainer, without a recipe."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rlrules.errors import DataError
from rlrules.judges import JudgeFailure
from rlrules.judges.loop import on_judge_loop
from rlrules.judges.templates import plain_text
from rlrules.rewards.remote import RemoteConfig, RemoteScorer
from rlrules.types import Completion, Group, Message, Progress


class RemoteReward:
    """A server's rewards as an async reward function of TRL's own trainer.

    `GRPOTrainer(reward_funcs=[RemoteReward(urls=["http://rewards:8080"])], …)`. Completions of one prompt stand next
    to each other there; those with an equal prompt and equal `row` columns are sent as one group. An unscored
    completion is None, which TRL leaves out.

    Args:
        fields: Of `RemoteConfig`.
    """

    def __init__(self, **fields: Any) -> None:
        self.config = RemoteConfig(**fields)
        self.__name__ = "remote"
        self._scorer = RemoteScorer(self.config)

    async def __call__(
        self,
        prompts: Sequence[str | Sequence[Message]],
        completions: Sequence[str | Sequence[Message]],
        completion_ids: Sequence[Sequence[int]] | None = None,
        trainer_state: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score one batch, as TRL calls it."""
        progress = Progress()
        if trainer_state is not None:
            step = int(trainer_state.global_step) + 1
            progress = Progress(step, max(step, int(trainer_state.max_steps)))
        groups = self._groups(prompts, completions, completion_ids, columns, progress)
        answers = await asyncio.gather(*(self._of(group) for group in groups))
        return [value for values in answers for value in values]

    async def _of(self, group: Group) -> list[float | None]:
        try:
            return [score.value for score in (await on_judge_loop(self._scorer.score(group))).scores]
        except (JudgeFailure, DataError):
            return [None] * len(group.completions)

    def _groups(
        self,
        prompts: Sequence[str | Sequence[Message]],
        completions: Sequence[str | Sequence[Message]],
        ids: Sequence[Sequence[int]] | None,
        columns: Mapping[str, Any],
        progress: Progress,
    ) -> list[Group]:
        groups: list[tuple[tuple[Message, ...], dict[str, Any], list[Completion]]] = []
        for index, (prompt, said) in enumerate(zip(prompts, completions, strict=True)):
            messages = _messages(prompt)
            row = {name: columns[name][index] for name in self.config.row}
            if not groups or groups[-1][:2] != (messages, row):
                groups.append((messages, row, []))
            text = said if isinstance(said, str) else "".join(plain_text(message) for message in said)
            groups[-1][2].append(Completion(text, len(ids[index]) if ids is not None else 0))
        return [Group(messages, tuple(said), row, progress) for messages, row, said in groups]


def _messages(prompt: str | Sequence[Message]) -> tuple[Message, ...]:
    return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)
