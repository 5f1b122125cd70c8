"""A learned reward: a sequence classifier, in this process or on a vLLM server."""

import asyncio
import json
import math
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

from pydantic import Field

from rlrules.errors import ModelError
from rlrules.judges.base import JudgeFailure, Usage
from rlrules.judges.connection import HttpClient
from rlrules.judges.http import ServerFields, Servers
from rlrules.judges.templates import encodable
from rlrules.models import resolve_model
from rlrules.rewards.base import Resources, ScorerConfig, unscored
from rlrules.types import Completion, Group, Message, Score, Scored


class RewardModelConfig(ScorerConfig, ServerFields):
    """The value is the classifier's logit; with `normalize`, (logit - mean) / std.

    With `urls` it is asked on vLLM servers, otherwise it runs in this process.
    """

    type: Literal["reward_model"] = "reward_model"
    model: str = Field(description="Classifier with one output; its own tokenizer and chat template are used.")
    normalize: bool = Field(False, description="Subtract the mean and divide by the deviation over preference data.")
    mean: float | None = Field(None, description="Default: `mean` in the model's config, written when it was trained.")
    std: float | None = Field(None, gt=0, description="Default: `std` in the model's config.")
    max_length: int = Field(4096, ge=1, description="Longer conversations, in its tokens, are unscored, never cut.")
    batch_size: int = Field(8, ge=1, description="Conversations in one forward pass, in this process.")
    device: str = Field(
        "auto", description="Where it runs in this process, by torch's name; auto: a GPU if there is one."
    )
    dtype: str = Field("auto", description="Its weights' type in this process, by torch's name.")

    @property
    def in_process(self) -> bool:
        """Without servers."""
        return not self.urls

    def build(self, resources: Resources) -> "RewardModelScorer":
        """Make the scorer.

        Raises:
            ModelError: The model cannot be found, or is to be normalised and no mean and deviation are known.
        """
        path = resolve_model(self.model)
        mean, std = (self._moments(path)) if self.normalize else (0.0, 1.0)
        tokenize = Conversations(path, self.max_length)
        if self.urls:
            return RewardModelScorer(tokenize, ServedClassifier(self), mean, std)
        return RewardModelScorer(tokenize, LocalClassifier(path, self.batch_size, self.device, self.dtype), mean, std)

    def _moments(self, path: str) -> tuple[float, float]:
        mean, std = self.mean, self.std
        if mean is None or std is None:
            from transformers import AutoConfig

            try:
                stored = AutoConfig.from_pretrained(path)
            except (OSError, ValueError) as error:
                raise ModelError(f"reward model {self.model!r}: {str(error).splitlines()[0]}") from error
            mean = getattr(stored, "mean", None) if mean is None else mean
            std = getattr(stored, "std", None) if std is None else std
        if mean is None or std is None:
            raise ModelError(f"reward model {self.model!r} stores no mean and std; give them, or set normalize: false")
        return float(mean), float(std)


_HELLO = Group(({"role": "user", "content": "Hello"},), (Completion("Hello.", 1),))


class Classifier(Protocol):
    """Gives a logit to each of N tokenised conversations."""

    async def logits(self, ids: Sequence[list[int]]) -> Sequence[float | BaseException]:
        """N logits, in order; what went wrong in place of one that could not be had."""
        ...


class RewardModelScorer:
    """Scores the completions of a group in one go.

    Args:
        conversations: Makes token ids of messages.
        classifier: Makes logits of token ids.
        mean: Subtracted from a logit.
        std: What the difference is divided by.
    """

    def __init__(self, conversations: "Conversations", classifier: Classifier, mean: float, std: float) -> None:
        self._conversations = conversations
        self._classifier = classifier
        self._mean, self._std = mean, std

    async def score(self, group: Group) -> Scored:
        """Score a group; a conversation that is too long or has no finite logit is unscored."""
        texts = [completion.text for completion in group.completions]
        tokenised = await asyncio.to_thread(self._conversations.ids, group.prompt, texts)
        fitting = [ids for ids in tokenised if len(ids) <= self._conversations.max_length]
        logits = iter(await self._classifier.logits(fitting) if fitting else [])
        return Scored(tuple(self._score(ids, logits.__next__) for ids in tokenised))

    async def ping(self) -> None:
        """Score a conversation of a few words; raises where the classifier does not answer."""
        [score] = (await self.score(_HELLO)).scores
        if score.value is None:
            raise ModelError(f"the reward model does not answer: {score.reason}")

    def _score(self, ids: list[int], next_logit: Callable[[], float | BaseException]) -> Score:
        if len(ids) > self._conversations.max_length:
            return Score.unscored(f"{len(ids)} tokens, max_length is {self._conversations.max_length}")
        logit = next_logit()
        if isinstance(logit, BaseException):
            return unscored(logit)
        if not math.isfinite(logit):
            return Score.unscored(f"the classifier's logit is {logit}")
        return Score((logit - self._mean) / self._std, metrics={"logit": logit}, details={"logit": logit})


class Conversations:
    """Token ids of conversations, by the reward model's own tokenizer: never the policy's ids.

    Args:
        path: Hub id or folder.
        max_length: Bound, in tokens.
    """

    def __init__(self, path: str, max_length: int) -> None:
        self._path = path
        self.max_length = max_length
        self._lock = threading.Lock()

    def ids(self, prompt: Sequence[Message], texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text as the answer to `prompt`, with no second BOS."""
        with self._lock:  # Fast tokenizers complain of being used by two threads at once.
            answers = [[*prompt, {"role": "assistant", "content": text}] for text in texts]
            templated = [encodable(self._tokenizer.apply_chat_template(chat, tokenize=False)) for chat in answers]
            ids: list[list[int]] = self._tokenizer(templated, add_special_tokens=False)["input_ids"]
        return ids

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._path)


class LocalClassifier:
    """The classifier in this process, loaded when it is first asked.

    Args:
        path: Hub id or folder.
        batch_size: Conversations in one forward pass.
        device: By torch's name, or "auto".
        dtype: By torch's name, or "auto".
    """

    def __init__(self, path: str, batch_size: int, device: str, dtype: str) -> None:
        self._path, self._batch_size, self._device, self._dtype = path, batch_size, device, dtype
        self._lock = threading.Lock()

    async def logits(self, ids: Sequence[list[int]]) -> list[float]:
        """N logits, in order."""
        return await asyncio.to_thread(self._logits, ids)

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        device = ("cuda" if torch.cuda.is_available() else "cpu") if self._device == "auto" else self._device
        model = AutoModelForSequenceClassification.from_pretrained(self._path, num_labels=1, dtype=self._dtype)
        if model.config.pad_token_id is None:
            model.config.pad_token_id = 0  # Without one it refuses batches; the mask says what is padding.
        return model.to(device).eval()

    def _logits(self, ids: Sequence[list[int]]) -> list[float]:
        import torch

        logits: list[float] = []
        with self._lock, torch.inference_mode():
            model = self._model
            for start in range(0, len(ids), self._batch_size):
                batch = ids[start : start + self._batch_size]
                width = max(map(len, batch))
                # Padded on the right: the classifier reads the last token that the mask shows.
                padding = model.config.pad_token_id
                tokens = torch.tensor([row + [padding] * (width - len(row)) for row in batch], device=model.device)
                shown = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=model.device)
                logits += model(input_ids=tokens, attention_mask=shown).logits[:, 0].float().tolist()
        return logits


class ServedClassifier:
    """The classifier behind vLLM's `/classify`, its activation off.

    Args:
        config: Where it is served.
    """

    def __init__(self, config: RewardModelConfig) -> None:
        self._model = config.model
        self._servers = Servers(config, Usage())

    async def logits(self, ids: Sequence[list[int]]) -> list[float | BaseException]:
        """N logits, in order; a `JudgeFailure` where the servers do not answer, or not with one number."""
        return list(await asyncio.gather(*(self._logit(row) for row in ids), return_exceptions=True))

    async def _logit(self, ids: list[int]) -> float:
        body = {"model": self._model, "input": [ids], "use_activation": False}

        async def send(client: HttpClient) -> Any:
            return json.loads(await client.post(f"{client.root}/classify", body))

        reply, _ = await self._servers.request(send)
        try:
            [entry] = reply["data"]
            [logit] = entry["probs"]
            return float(logit)
        except (KeyError, TypeError, ValueError) as error:
            raise JudgeFailure("empty", f"/classify gave no single number: {str(reply)[:200]}") from error
