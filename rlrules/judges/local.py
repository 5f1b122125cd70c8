"""A judge in this process, on transformers: the same interface for machines without a server."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from rlrules.judges.base import Answer, JudgeConfig, JudgeFailure, Question
from rlrules.models import resolve_model
from rlrules.types import Message

if TYPE_CHECKING:
    import torch

# The generators are the process's, and each judge works in a thread of its own.
_drawing = threading.Lock()


class LocalJudgeConfig(JudgeConfig):
    """A judge that runs in this process."""

    in_process: ClassVar[bool] = True

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
            JudgeFailure: The prompt does not fit the model's context or is not text alone, or the model failed.
        """
        if any(not isinstance(message["content"], str) for message in question.messages):
            raise self._failure("it reads text only; ask about images through a server")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def prompt_end(self, messages: Sequence[Message]) -> str | None:
        """The prompt that the model's own template makes.

        Raises:
            JudgeFailure: The model cannot be loaded, or its template refuses the messages.
        """
        try:
            tokenizer, _ = await asyncio.to_thread(lambda: self._loaded)
            return _prompt_text(tokenizer, Question(tuple(messages), ""))
        except Exception as error:
            raise self._failure(f"{type(error).__name__}: {error}") from error

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
            ids = [_ids(tokenizer, _prompt_text(tokenizer, question)) for question in questions]
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


def _prompt_text(tokenizer: Any, question: Question) -> str:
    how = {"continue_final_message": True} if question.continues else {"add_generation_prompt": True}
    text: str = tokenizer.apply_chat_template(list(question.messages), tokenize=False, **how)
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _label_answers(tokenizer: Any, model: Any, questions: list[Question], ids: list[list[int]]) -> list[_Read]:
    first = [[_ids(tokenizer, label)[0] for label in question.labels] for question in questions]
    alone = [len(set(tokens)) == len(tokens) for tokens in first]
    rows = iter(_next_logprobs(model, [ids[n] for n in range(len(ids)) if alone[n]]))
    answers: list[_Read] = []
    for question, tokens, told in zip(questions, first, alone, strict=True):
        if told:
            row = next(rows)
            chosen = {label: row[token].item() for label, token in zip(question.labels, tokens, strict=True)}
        else:
            chosen = _whole_labels(tokenizer, model, _prompt_text(tokenizer, question), question.labels)
        answers.append((max(chosen, key=lambda label: chosen[label]), chosen, 1, True))
    return answers


def _padded(model: Any, rows: list[list[int]]) -> dict[str, "torch.Tensor"]:
    import torch

    # On the right: what comes before a prompt shifts the positions of some models, what comes after it is never
    # looked at.
    width = max(map(len, rows))
    tokens = torch.tensor([row + row[-1:] * (width - len(row)) for row in rows], device=model.device)
    shown = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
    return {"input_ids": tokens, "attention_mask": shown}


def _next_logprobs(model: Any, rows: list[list[int]]) -> list["torch.Tensor"]:
    """For each of N prompts the log-probabilities of its next token, shape (vocabulary,)."""
    import torch

    if not rows:
        return []
    last = [len(row) - 1 for row in rows]
    kept = sorted(set(last))
    with torch.inference_mode():
        keep = torch.tensor(kept, device=model.device)
        logits = model(**_padded(model, rows), logits_to_keep=keep, use_cache=False).logits
    return [logits[n, kept.index(last[n])].float().log_softmax(-1) for n in range(len(rows))]


def _whole_labels(tokenizer: Any, model: Any, text: str, labels: Sequence[str]) -> dict[str, float]:
    """Log-probability of each whole label after `text`, up to what is common to all, as the tokenizer cuts them."""
    import torch

    rows = [_ids(tokenizer, text + label) for label in labels]
    if any(one != other and other[: len(one)] == one for one in rows for other in rows):
        raise ValueError(f"labels {', '.join(labels)} share their first token, and one of them begins another")
    shared = next(n for n, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1)
    with torch.inference_mode():
        # Only from the last shared token on, whose logits are the first that tell the labels apart.
        keep = torch.arange(shared - 1, max(map(len, rows)) - 1, device=model.device)
        logits = model(**_padded(model, rows), logits_to_keep=keep, use_cache=False).logits.float().log_softmax(-1)
    return {
        label: sum(logits[n, place, token].item() for place, token in enumerate(rows[n][shared:]))
        for n, label in enumerate(labels)
    }


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
