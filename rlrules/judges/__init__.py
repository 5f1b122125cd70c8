"""Asking a language model, cached and counted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rlrules.judges.base import Answer, JudgeFailure, Question, Usage
from rlrules.judges.cache import AnswerCache
from rlrules.judges.client import OpenAIBackend, OpenAIJudgeConfig
from rlrules.judges.judge import Judge
from rlrules.judges.local import LocalBackend, LocalJudgeConfig
from rlrules.paths import cache_dir

AnyJudgeConfig = Annotated[OpenAIJudgeConfig | LocalJudgeConfig, Field(discriminator="type")]

__all__ = [
    "Answer",
    "AnyJudgeConfig",
    "Judge",
    "JudgeFailure",
    "LocalJudgeConfig",
    "OpenAIJudgeConfig",
    "Question",
    "Usage",
    "build_judge",
    "build_judges",
]


def build_judge(name: str, config: OpenAIJudgeConfig | LocalJudgeConfig) -> Judge:
    """Make the judge that `config` describes; nothing is asked or loaded yet.

    Raises:
        JudgeError: The cache file or the key's variable cannot be used.
    """
    cache: AnswerCache | None = None
    if config.cache:
        cache = AnswerCache(cache_dir() / "answers.sqlite" if config.cache is True else Path(config.cache).expanduser())
    usage = Usage()
    if isinstance(config, OpenAIJudgeConfig):
        return Judge(name, config, OpenAIBackend(config, usage), cache, usage)
    return Judge(name, config, LocalBackend(config), cache, usage)


def build_judges(configs: Mapping[str, OpenAIJudgeConfig | LocalJudgeConfig]) -> dict[str, Judge]:
    """Make all judges of a recipe, by name."""
    return {name: build_judge(name, config) for name, config in configs.items()}
