"""What a scorer is, how it is configured, and how a recipe's `type` finds it."""

import asyncio
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from rlrules.errors import RecipeError
from rlrules.judges import Judge
from rlrules.types import Completion, Group, Message, Progress, Score, Scored

ENTRY_POINTS = "rlrules.scorers"

# Import paths, so that a recipe pays only for the scorers it names.
_BUILT_IN = {
    "answer": "rlrules.rewards.answer:AnswerConfig",
    "constraints": "rlrules.rewards.constraints:ConstraintsConfig",
    "format": "rlrules.rewards.format:FormatConfig",
    "gui": "rlrules.rewards.gui:GuiConfig",
    "jigsaw": "rlrules.rewards.jigsaw:JigsawConfig",
    "length": "rlrules.rewards.length:LengthConfig",
    "outcome": "rlrules.rewards.outcome:OutcomeConfig",
    "preference": "rlrules.rewards.preference:PreferenceConfig",
    "regex": "rlrules.rewards.format:RegexConfig",
    "remote": "rlrules.rewards.remote:RemoteConfig",
    "reward_model": "rlrules.rewards.reward_model:RewardModelConfig",
    "rules": "rlrules.rewards.rules:RulesConfig",
    "thinking": "rlrules.rewards.thinking:ThinkingConfig",
    "verdict": "rlrules.rewards.verdict:VerdictConfig",
}


class Scorer(Protocol):
    """Scores a group."""

    async def score(self, group: Group) -> Scored:
        """Score the G completions of `group`, in order.

        May raise: the engine turns any exception into unscored scores with its message.
        """
        ...


@runtime_checkable
class Pings(Protocol):
    """A scorer that asks a service of its own, and can tell whether that answers."""

    async def ping(self) -> None:
        """Ask it something small, on the loop that scores; raises where it does not answer."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What all completions of a group share."""

    prompt: tuple[Message, ...]
    row: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def of(cls, group: Group) -> "Context":
        """What the completions of `group` share."""
        return cls(group.prompt, group.row, group.progress)


class PointwiseScorer:
    """A scorer for which one completion does not look at its siblings; subclasses write `score_one`.

    In training a completion is scored as soon as it exists, unless a subclass has a `score` of its own.
    """

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Score one completion; may raise, which leaves this one completion unscored."""
        raise NotImplementedError(f"{type(self).__name__}.score_one")  # pragma: no cover

    async def score(self, group: Group) -> Scored:
        """Score all completions of `group` at once."""
        context = Context.of(group)
        # Of equals one is scored: without a cache, a judge could be asked again about the one that comes later.
        distinct = dict.fromkeys(group.completions)
        answers = await asyncio.gather(*(self.score_one(context, one) for one in distinct), return_exceptions=True)
        scores = dict(zip(distinct, map(_score, answers), strict=True))
        return Scored(tuple(scores[completion] for completion in group.completions))

    async def score_coming(self, context: Context, completions: Sequence[asyncio.Future[Completion]]) -> Scored:
        """The same of G completions that are not there yet, each as soon as it is."""
        scoring: dict[Completion, asyncio.Task[Score]] = {}

        async def score(coming: asyncio.Future[Completion]) -> Score:
            completion = await coming
            if completion not in scoring:
                scoring[completion] = asyncio.create_task(self.score_one(context, completion))
            return await scoring[completion]

        answers = await asyncio.gather(*(score(coming) for coming in completions), return_exceptions=True)
        return Scored(tuple(map(_score, answers)))


def _score(answer: Score | BaseException) -> Score:
    return unscored(answer) if isinstance(answer, BaseException) else answer


def unscored(error: BaseException) -> Score:
    """The score of a completion whose scorer raised."""
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, SystemExit)):
        raise error
    return Score.unscored(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a scorer may need to be built.

    Attributes:
        judges: The recipe's judges, by name.
        max_completion_length: Most tokens of a completion, where the recipe says.
    """

    judges: Mapping[str, Judge] = field(default_factory=dict)
    max_completion_length: int | None = None


class ScorerConfig(BaseModel):
    """A reward's section in a recipe. A scorer's config says what it needs and builds it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    needs_tokens: ClassVar[bool] = False
    """Whether the scorer reads a completion's token count or its truncation."""
    compares: ClassVar[bool] = False
    """Whether the scorer compares completions, as the objective `pairwise` needs."""

    signal_metric: ClassVar[str] = ""
    """Metric of its scores that says from 0 to 1 how right a completion is; empty where their value does."""

    type: str
    required: bool = Field(True, description="An unscored required reward blanks the completion's whole row.")

    def columns(self) -> tuple[str, ...]:
        """Columns of the data that the scorer reads."""
        return ()

    def optional_columns(self) -> tuple[str, ...]:
        """Columns that the scorer reads too where a row has them."""
        return ()

    def row_problem(self, row: Mapping[str, Any]) -> str:
        """Why a row whose columns are all there cannot be scored against, in words; empty where it can."""
        return ""

    def processor_problem(self, processor: Any) -> str:
        """Why the model's processor does not go with the scorer, with the remedy; empty where it does."""
        return ""

    def judge_names(self) -> tuple[str, ...]:
        """The recipe's judges that the scorer asks."""
        return ()

    def seeded_judges(self) -> tuple[str, ...]:
        """Judges whose served chat template must open the thought."""
        return ()

    async def probe(self, judges: Mapping[str, Judge]) -> str:
        """Ask judges what they must get right before anything is trained.

        Args:
            judges: Those of `judge_names`, by name, that answer at all.

        Returns:
            What they got wrong, with the remedy; empty where nothing.
        """
        return ""

    @property
    def in_process(self) -> bool:
        """Whether the scorer computes with torch in this process, its judges aside."""
        return False

    def calls_per_completion(self) -> float:
        """Judge calls for one completion, nothing cached; for estimates."""
        return 0.0

    def calls_per_group(self, size: int) -> float:
        """Judge calls for a group of `size` completions, nothing cached."""
        return size * self.calls_per_completion()

    def group_problem(self, size: int) -> str:
        """Why groups of `size` completions cannot be scored, with the remedy; empty where they can."""
        return ""

    def build(self, resources: Resources) -> Scorer:
        """Make the scorer.

        Raises:
            RlrulesError: A file or a model that the section names cannot be used.
        """
        raise NotImplementedError(f"{type(self).__name__}.build")  # pragma: no cover


def scorer_config(section: object) -> ScorerConfig:
    """The validated config of one reward: its `type` is a built-in name, an entry point's, or `module:Class`.

    Raises:
        ValueError: The section is no mapping with a known type.
        pydantic.ValidationError: A field is wrong.
    """
    if isinstance(section, ScorerConfig):
        return section
    if not isinstance(section, Mapping) or not isinstance(section.get("type"), str):
        raise ValueError(f"a reward is a mapping with a `type`: {', '.join(known_types())}, or module:Class")
    return config_class(section["type"]).model_validate(dict(section))


def known_types() -> list[str]:
    """Names of all scorers that a recipe can use without a dotted path."""
    return sorted(_registered())


@cache
def _registered() -> dict[str, str]:
    return _BUILT_IN | {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


@cache
def config_class(type_: str) -> type[ScorerConfig]:
    """The config class that a `type` names.

    Raises:
        ValueError: No such scorer, or what the path names is none.
    """
    path = _registered().get(type_, type_)
    module, _, name = path.partition(":")
    if not name:
        from difflib import get_close_matches

        close = get_close_matches(type_, known_types(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no scorer {type_!r}{hint} (known: {', '.join(known_types())}; or module:Class)")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"scorer {type_!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, ScorerConfig)):
        raise ValueError(f"scorer {type_!r}: {path} is not a subclass of rlrules.rewards.base.ScorerConfig")
    return found


def unpacked(value: Any) -> Any:
    """What a column's text holds as JSON, in tables whose columns are all text; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def judge_of(resources: Resources, name: str) -> Judge:
    """The recipe's judge `name`.

    Raises:
        RecipeError: The recipe has no such judge.
    """
    try:
        return resources.judges[name]
    except KeyError:
        known = ", ".join(resources.judges) or "none"
        raise RecipeError([f"judge {name!r} is not in `judges:` (there: {known})"]) from None
