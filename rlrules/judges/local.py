"""A judge in this process, on transformers: the same interface for machines without a server."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rlrules.judges.base import Answer, JudgeConfig, JudgeFailure, Question
from rlrules.models import resolve_model

if TYPE_CHECKING:
    import torch

# The generators are the process's, and each judge works in a thread of its own.
_drawing = threading.Lock()


class LocalJudgeConfig(JudgeConfig):
    """A judge that runs in this process."""

    type: Literal["local"] = "local"
    batch_size: int = Field(16, ge=1, description="Questions in one forward pass.")
    device: str = Field("cpu", description="Where it runs, by torch's name.")
    dtype: str = Field("float32", description="Its weights' type, by torch's name.")

    def identity(self) -> tuple[str, ...]:
        """The model, and the type of its weights."""
        return ("local", *super().identity(), self.dtype)


class LocalBackend:
    """Collects the questions that wait and answers them in batches, in a worker thread.

    Args:
        config: Which model, where, in batches of what size.
    """

    def __init__(self, config: LocalJudgeConfig) -> None:
        self._config = config
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def complete(self, question: Question) -> Answer:
        """Answer `question` together with others that wait.

        Raises:
            JudgeFailure: The prompt does not fit the model's context, or the model failed.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def close(self) -> None:
        """Drop the model; questions that still wait fail."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        waiting, self._waiting = self._waiting, []
        _settle(waiting, [self._failure("it was closed")] * len(waiting))
        self.__dict__.pop("_loaded", None)

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # Lets the questions that are being asked at this moment join the batch.
            labelled = bool(self._waiting[0][0].labels)
            batch = [entry for entry in self._waiting if bool(entry[0].labels) == labelled]
            batch = batch[: self._config.batch_size]
            taken = {id(entry) for entry in batch}
            self._waiting = [entry for entry in self._waiting if id(entry) not in taken]
            answers: list[Answer | JudgeFailure] = [self._failure("it was closed")] * len(batch)
            try:
                answers = await asyncio.to_thread(self._answer, [question for question, _ in batch])
            finally:
                _settle(batch, answers)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        path, revision = resolve_model(self._config.model), self._config.revision or "main"
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        dtype = getattr(torch, self._config.dtype)
        model = AutoModelForCausalLM.from_pretrained(path, revision=revision, dtype=dtype)
        return tokenizer, model.to(self._config.device).eval()

    def _answer(self, questions: Sequence[Question]) -> list[Answer | JudgeFailure]:
        started = time.monotonic()
        try:
            tokenizer, model = self._loaded
        except Exception as error:
            return [self._failure(f"it cannot be loaded: {error}")] * len(questions)
        try:
            ids = [_prompt_ids(tokenizer, question) for question in questions]
            limit = getattr(model.config.get_text_config(), "max_position_embeddings", sys.maxsize)
            room = [limit - (question.max_tokens or 1) for question in questions]
            fits = [number for number, tokens in enumerate(ids) if len(tokens) <= room[number]]
            read = _label_answers if questions[0].labels else _text_answers
            answered = read(tokenizer, model, [questions[n] for n in fits], [ids[n] for n in fits]) if fits else []
        except Exception as error:
            if len(questions) > 1:  # One of them may be to blame, or their number: the others need not fail with it.
                return [answer for question in questions for answer in self._answer([question])]
            return [self._failure(f"{type(error).__name__}: {error}")]
        seconds = time.monotonic() - started
        found = dict(zip(fits, answered, strict=True))
        answers: list[Answer | JudgeFailure] = []
        for number, tokens in enumerate(ids):
            if number in found:
                text, logprobs, written, ended = found[number]
                reason = "stop" if ended else "length"
                answers.append(Answer(text, "", reason, logprobs, len(tokens), written, seconds))
            else:
                message = f"the prompt has {len(tokens)} tokens, {room[number]} fit into {self._config.model}"
                answers.append(JudgeFailure("overflow", message, max(0, room[number]), len(tokens)))
        return answers

    def _failure(self, told: str) -> JudgeFailure:
        return JudgeFailure("rejected", f"local judge {self._config.model}: {' '.join(told.split())}")


_Read = tuple[str, dict[str, float], int, bool]
_Asked = tuple[Question, asyncio.Future[Answer]]


def _settle(asked: Sequence[_Asked], answers: Sequence[Answer | JudgeFailure]) -> None:
    for (_, future), answer in zip(asked, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, JudgeFailure):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _prompt_ids(tokenizer: Any, question: Question) -> list[int]:
    prompt = tokenizer.apply_chat_template(list(question.messages), tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return ids


def _label_answers(tokenizer: Any, model: Any, questions: list[Question], ids: list[list[int]]) -> list[_Read]:
    import torch

    # Padded on the right: what comes before a prompt shifts the positions of some models, what comes after it is
    # never looked at.
    width, last = max(map(len, ids)), [len(tokens) - 1 for tokens in ids]
    kept = sorted(set(last))
    tokens = torch.tensor([row + row[-1:] * (width - len(row)) for row in ids], device=model.device)
    shown = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=model.device)
    with torch.inference_mode():
        keep = torch.tensor(kept, device=model.device)
        logits = model(input_ids=tokens, attention_mask=shown, logits_to_keep=keep, use_cache=False).logits
    answers: list[_Read] = []
    for number, question in enumerate(questions):
        row = logits[number, kept.index(last[number])].float().log_softmax(-1)
        first = {label: tokenizer.encode(label, add_special_tokens=False)[0] for label in question.labels}
        if len(set(first.values())) < len(first):
            raise ValueError(f"labels {', '.join(question.labels)} share their first token for this tokenizer")
        chosen = {label: row[token].item() for label, token in first.items()}
        answers.append((max(chosen, key=lambda label: chosen[label]), chosen, 1, True))
    return answers


def _text_answers(tokenizer: Any, model: Any, questions: list[Question], ids: list[list[int]]) -> list[_Read]:
    import torch

    answers: list[_Read] = []
    # Drawn one by one: each has its own temperature, bound and seed, whatever it is batched with.
    for question, prompt in zip(questions, ids, strict=True):
        sampled = bool(question.temperature)
        options = {"do_sample": True, "temperature": question.temperature} if sampled else {"do_sample": False}
        tokens = torch.tensor([prompt], device=model.device)
        with torch.inference_mode(), _seeded(model.device, question.draw) if sampled else contextlib.nullcontext():
            output = model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=question.max_tokens,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
                **options,
            )[0][len(prompt) :]
        ended = len(output) < (question.max_tokens or 0) or int(output[-1]) == tokenizer.eos_token_id
        answers.append((tokenizer.decode(output, skip_special_tokens=True), {}, len(output), ended))
    return answers


@contextlib.contextmanager
def _seeded(device: "torch.device", seed: int) -> Iterator[None]:
    """Draw from `seed` on this device only: the run's own randomness, on every device, goes on as if unasked."""
    import torch

    cuda = device.type == "cuda"
    with _drawing, torch.random.fork_rng(devices=[device] if cuda else []):
        generator = torch.cuda.default_generators[device.index or 0] if cuda else torch.default_generator
        generator.manual_seed(seed)
        yield
