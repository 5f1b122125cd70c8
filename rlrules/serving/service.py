"""From requests to groups, through the engine, to what is answered: everything but HTTP."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic import JsonValue

from rlrules.errors import DataError
from rlrules.judges import templates
from rlrules.recipe.build import Rewards
from rlrules.recipe.load import LoadedRecipe
from rlrules.recipe.scoring import TokenCounts, group_problem, row_problem, settled
from rlrules.recipe.served import served
from rlrules.rewards.engine import ScoredGroup
from rlrules.serving import wire
from rlrules.types import Completion, Group, Message, Progress

Place = tuple[str | int, ...]
"""Where a field stands in a request."""
Answered = tuple[ScoredGroup, list[float]]
"""A scored group and its advantages."""

# Of the time that is left, what is kept for writing the answer.
_MARGIN, _LONGEST_MARGIN_S = 0.1, 0.25


class Invalid(Exception):
    """A request that is well formed and yet cannot be scored; `place` is the field, `told` what is wrong with it."""

    def __init__(self, place: Place, told: str) -> None:
        super().__init__(place, told)
        self.place, self.told = place, told


class Service:
    """A recipe's rewards, asked by requests.

    Args:
        loaded: The recipe.
        rewards: Made of it.
    """

    def __init__(self, loaded: LoadedRecipe, rewards: Rewards) -> None:
        self.loaded, self.rewards = loaded, rewards
        self._recipe, self._server = loaded.recipe, served(loaded)
        self._counts = TokenCounts(loaded.recipe)
        self.groups_only = group_problem(loaded.recipe, 1) or loaded.recipe.objective.group_problem(1)
        needed = {column for reward in loaded.recipe.rewards.values() for column in reward.columns()}
        self._label_column = self._server.label_column or (needed.pop() if len(needed) == 1 else "label")

    async def groups(self, request: wire.ScoreRequest) -> list[Group]:
        """The groups that a request asks about.

        Raises:
            Invalid: A row lacks a column, a group has the wrong size, or a length that is needed is missing.
        """
        progress = Progress(request.step, max(request.step, request.total_steps))
        # Counting tokens takes milliseconds, in which other requests would wait.
        if self._counts.needed:
            return await asyncio.to_thread(self._groups, request.groups, progress)
        return self._groups(request.groups, progress)

    async def items(self, request: wire.OpenRlhfRequest) -> list[Group]:
        """A group of one for each query of OpenRLHF's.

        Raises:
            Invalid: The lists differ in length, or a query does not begin with its prompt.
        """
        labels = request.labels if request.labels is not None else [None] * len(request.query)
        for name, values in (("prompts", request.prompts), ("labels", labels)):
            if len(values) != len(request.query):
                raise Invalid(("body", name), f"{len(values)} entries for {len(request.query)} queries")
        texts: list[str] = []
        for number, (query, prompt) in enumerate(zip(request.query, request.prompts, strict=True)):
            if not query.startswith(prompt):
                told = f"does not begin with prompts.{number}, so that the completion cannot be told from it"
                raise Invalid(("body", "query", number), told)
            texts.append(self._without_end(query[len(prompt) :]))
        prompts = [_messages(prompt, ("body", "prompts", number)) for number, prompt in enumerate(request.prompts)]
        places: list[Place] = [("body", "labels", number) for number in range(len(texts))]
        return await self._singles(prompts, texts, labels, places)

    async def item(self, request: wire.SingleRequest) -> list[Group]:
        """One group of one.

        Raises:
            Invalid: The label is not what the rewards read.
        """
        prompt = _messages(request.prompt, ("body", "prompt"))
        return await self._singles([prompt], [request.response], [request.label], [("body", "label")])

    async def score(self, groups: Sequence[Group], seconds: float) -> list[Answered]:
        """Score groups; what is missing after `seconds`, less a margin to answer in, is unscored."""
        bound = max(0.0, seconds - min(_LONGEST_MARGIN_S, _MARGIN * seconds))
        scored = await self.rewards.engine.score_async(groups, bound)
        finished, made = settled(self.loaded, self.rewards, scored)
        return [(group, advantages.tolist()) for group, advantages in zip(finished, made, strict=True)]

    def info(self) -> wire.Info:
        """What is served."""
        recipe = self._recipe
        content = recipe.model_dump_json(include={"judges", "rewards", "objective"}, serialize_as_any=True)
        canonical = json.dumps(json.loads(content), sort_keys=True, separators=(",", ":"))
        return wire.Info(
            name=recipe.name,
            version=version("rlrules"),
            recipe_hash=hashlib.sha256(canonical.encode()).hexdigest()[:16],
            template_hashes=templates.versions(),
            judges={
                name: wire.JudgeInfo(model=config.model, revision=config.revision)
                for name, config in recipe.judges.items()
            },
            rewards={
                name: wire.RewardInfo(
                    type=reward.type,
                    required=reward.required,
                    columns=list(reward.columns()),
                    model=getattr(reward, "model", None),
                )
                for name, reward in recipe.rewards.items()
            },
            objective=recipe.objective.type,
            advantages=recipe.objective.makes_advantages,
            groups_only=self.groups_only,
        )

    def _groups(self, groups: Sequence[wire.GroupIn], progress: Progress) -> list[Group]:
        return [self._group(group, progress, ("body", "groups", number)) for number, group in enumerate(groups)]

    def _group(self, group: wire.GroupIn, progress: Progress, place: Place) -> Group:
        self._check_row(group.row, (*place, "row"))
        if problem := group_problem(self._recipe, len(group.completions)):
            raise Invalid((*place, "completions"), f"{problem}; this one has {len(group.completions)}")
        completions: list[Completion] = []
        for number, given in enumerate(group.completions):
            whole = wire.CompletionIn(text=given) if isinstance(given, str) else given
            counted = whole.tokens
            if counted is None:
                counted = self._count(whole.text, (*place, "completions", number, "tokens"))
            completions.append(Completion(whole.text, counted, whole.truncated))
        return Group(_messages(group.prompt, (*place, "prompt")), tuple(completions), group.row, progress)

    async def _singles(
        self,
        prompts: Sequence[tuple[Message, ...]],
        texts: Sequence[str],
        labels: Sequence[JsonValue],
        places: Sequence[Place],
    ) -> list[Group]:
        if self.groups_only:
            told = f"one item alone cannot be scored here, post groups to /v1/score: {self.groups_only}"
            raise Invalid(("body",), told)
        rows = [self._row(label) for label in labels]
        for row, place in zip(rows, places, strict=True):
            self._check_row(row, place, named=False)
        counts = [0] * len(texts)
        if self._counts.needed:
            counts = await asyncio.to_thread(lambda: [self._count(text, ("body",)) for text in texts])
        given = zip(prompts, texts, counts, rows, strict=True)
        return [Group(prompt, (Completion(text, tokens),), row) for prompt, text, tokens, row in given]

    def _row(self, label: JsonValue) -> dict[str, Any]:
        if isinstance(label, dict):
            return dict(label)
        return {} if label is None else {self._label_column: label}

    def _check_row(self, row: dict[str, Any], place: Place, named: bool = True) -> None:
        if problem := row_problem(self._recipe, row):
            column, told = problem
            raise Invalid((*place, column) if column and named else place, told)

    def _count(self, text: str, place: Place) -> int:
        try:
            return self._counts.of(text)
        except DataError as error:
            raise Invalid(place, str(error)) from error

    def _without_end(self, text: str) -> str:
        while marker := next((known for known in self._server.end_markers if known and text.endswith(known)), ""):
            text = text.removesuffix(marker)
        return text


def _messages(prompt: str | list[wire.ChatMessage], place: Place) -> tuple[Message, ...]:
    """A prompt as chat messages; text is one of the user.

    Raises:
        Invalid: An image does not come with its pixels. Nothing is read or fetched for a request: a path would be one
            of this machine, and a URL one that only its network reaches.
    """
    if isinstance(prompt, str):
        return ({"role": "user", "content": prompt},)
    for number, message in enumerate(prompt):
        for part_number, part in enumerate([] if isinstance(message.content, str) else message.content):
            url = part.get("image_url")
            url = url.get("url") if isinstance(url, dict) else None
            text = part.get("type") == "text" and isinstance(part.get("text"), str)
            image = part.get("type") == "image_url" and isinstance(url, str) and url.startswith("data:image/")
            if not (text or image):
                told = "a part is {type: text, text}, or {type: image_url, image_url: {url}} with a data:image/ URL"
                raise Invalid((*place, number, "content", part_number), told)
    return tuple({"role": message.role, "content": message.content} for message in prompt)
