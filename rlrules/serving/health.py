"""Whether what the server asks of others is answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from rlrules.errors import RlrulesError
from rlrules.judges.loop import on_judge_loop
from rlrules.recipe.build import Rewards
from rlrules.rewards.base import Pings

FRESH_S = 5.0
"""How long a finding holds: probes come from many places, and each costs a question."""
PING_S = 10.0


class Health:
    """Puts a canary to every judge, and to every scorer that asks a service of its own.

    Args:
        rewards: Whom to ask.
        engines: Why engines do not answer, by name.
    """

    def __init__(self, rewards: Rewards, engines: Callable[[], Mapping[str, str]]) -> None:
        self._judges = rewards.judges
        self._pings = {name: scorer for name, scorer in rewards.scorers.items() if isinstance(scorer, Pings)}
        self._engines = engines
        self._looking: asyncio.Task[dict[str, str]] | None = None
        self._found: dict[str, str] = {}
        self._found_at = float("-inf")
        self._answer_s = dict.fromkeys(rewards.judges, 0.0)

    async def problems(self) -> dict[str, str]:
        """Why they do not answer, by name; empty where all do."""
        engines = {f"engine {name}": state for name, state in self._engines().items()}
        if engines:
            return engines  # Whoever asks them is not answered, and would only wait.
        if time.monotonic() - self._found_at < FRESH_S:
            return self._found
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> dict[str, str]:
        try:
            asked = {f"judge {name}": self._ask_judge(name) for name in self._judges}
            asked |= {f"reward {name}": _told(on_judge_loop(scorer.ping())) for name, scorer in self._pings.items()}
            answers = await asyncio.gather(*asked.values())
            self._found = {name: told for name, told in zip(asked, answers, strict=True) if told}
            self._found_at = time.monotonic()
            return self._found
        finally:
            self._looking = None

    async def _ask_judge(self, name: str) -> str:
        judge, before = self._judges[name], self._answer_s[name]
        self._answer_s[name] = judge.usage.seconds
        if judge.usage.seconds > before:
            return ""  # It has answered since; a canary behind a full queue would only say that it is busy.
        return await _told(judge.ping())


async def _told(ping: Awaitable[None]) -> str:
    """Why it failed, in one line; empty where it did not."""
    try:
        await asyncio.wait_for(ping, PING_S)
    except TimeoutError:
        return f"no answer within {PING_S:g} s"
    except RlrulesError as error:
        return str(error).splitlines()[0]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
