"""Judge prompts from templates, safe against what a policy may write into them.

Data is substituted in one pass, so braces in it mean nothing. Untrusted text stands between delimiters made from a
keyed hash of that text: a policy cannot foresee them, yet the same text gives the same prompt, so that the answer
cache and the server's prefix cache still hit.
"""

import hashlib
import hmac
import os
import re
import secrets
from functools import cache
from importlib import resources

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from rlrules.paths import cache_dir
from rlrules.types import Message

# Chat templates turn these into control tokens wherever they stand, so a completion that holds one could end its
# own turn. A zero-width space inside keeps the text readable and the token inert.
_CHAT_MARKER = re.compile(
    # ChatML, Llama 3 and 4, Phi, GLM, gpt-oss; DeepSeek's full-width bars; Gemma 4's <|turn> and <turn|>.
    r"<[|｜][^<>\[\]\s\u200b]{1,40}>|<[^<>\[\]\s\u200b]{1,40}[|｜]>"
    # Llama 2, Mistral, GLM.
    r"|<</?SYS>>|\[gMASK\]|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|MODEL_SETTINGS|TOOL_(?:CALLS|RESULTS|CONTENT)"
    r"|CALL_ID|ARGS|THINK|(?:BEGIN_)?AUDIO|IMG(?:_BREAK|_END)?)\]"
    # Words in angle brackets: ends of texts, turns, thoughts, tool calls, placeholders.
    r"|</?(?:s|bos|eos|pad|unk|mask|sop|eop|think|video|audio|[a-z]+_token|(?:start|end|begin)_of_\w{1,40}"
    r"|(?:tool|arg|image|extra_id|unused|special)_?\w{0,40}|seed:[^<>\n]{1,40})>",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def encodable(text: str) -> str:
    """`text` with lone surrogates replaced, which can neither be sent nor tokenised."""
    return text.encode("utf-8", "replace").decode("utf-8")


def inert(text: str) -> str:
    """`text` with chat markers broken, and what cannot be sent (lone surrogates, control characters) replaced."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", encodable(text))
    return _CHAT_MARKER.sub(lambda match: match[0][0] + "\N{ZERO WIDTH SPACE}" + match[0][1:], text)


def fenced(text: str) -> str:
    """Untrusted text between delimiters that its writer could not know."""
    mark = hmac.new(_delimiter_key(), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:12]
    return f"<<{mark}>>\n{inert(text)}\n<</{mark}>>"


def conversation(messages: tuple[Message, ...]) -> str:
    """A chat as plain text, a block per message, each fenced; image parts become a placeholder."""
    return "\n".join(f"{message['role'].capitalize()}:\n{fenced(plain_text(message))}" for message in messages)


def plain_text(message: Message) -> str:
    """A message's text; each part that is not text is named in brackets."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]" for part in content)


def render(name: str, **values: object) -> tuple[str, str]:
    """Fill the template `prompts/NAME.jinja`.

    Returns:
        The prompt, and "NAME@HASH" for the cache key: a changed template never meets an old answer.
    """
    template, version = _load(name)
    return template.render(values), version


def versions() -> dict[str, str]:
    """The hash of every template, by name."""
    files = (resources.files(__package__) / "prompts").iterdir()
    names = sorted(file.name.removesuffix(".jinja") for file in files if file.name.endswith(".jinja"))
    return {name: _load(name)[1].partition("@")[2] for name in names}


@cache
def _load(name: str) -> tuple[Template, str]:
    source = (resources.files(__package__) / "prompts" / f"{name}.jinja").read_text("utf-8")
    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    version = hashlib.sha256(source.encode()).hexdigest()[:12]
    return environment.from_string(source), f"{name}@{version}"


@cache
def _delimiter_key() -> bytes:
    path = cache_dir() / "delimiter.key"
    if path.exists():
        return path.read_bytes()
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(secrets.token_bytes(32))
    try:
        os.link(draft, path)  # Fails when another process was first, whose key then holds.
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_bytes()
