"""Rules files: {"rules": [{"id", "text", "weight"?, …}]}."""

import json
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlrules.errors import DataError


class Rule(BaseModel):
    """One rule about an answer.

    Keys beyond these (provenance, tags) are kept and written back.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    id: str = Field(min_length=1)
    text: str = Field(min_length=1)
    weight: float = Field(1.0, ge=0)


def load_rules(path: str | Path) -> tuple[Rule, ...]:
    """Read a rules file.

    Raises:
        DataError: No such file, one that cannot be read, not JSON of this form, no rules, an empty text, a weight
            that is no finite number, or an id that stands twice.
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"rules file {path} does not exist (looked in {Path.cwd()})") from None
    except OSError as error:
        raise DataError(f"rules file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"rules file {path} is not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise DataError(f"rules file {path} is not JSON: {error}") from error
    except RecursionError as error:
        raise DataError(f"rules file {path} is nested too deeply to be read") from error
    entries = content.get("rules") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(f'rules file {path} has no rules; expected {{"rules": [{{"id": …, "text": …}}, …]}}')
    rules: list[Rule] = []
    for number, entry in enumerate(entries, 1):
        try:
            rules.append(Rule.model_validate(entry))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "entry"
            raise DataError(f"rules file {path}, rule {number}, {where}: {first['msg']}") from error
    twice = [id_ for id_, count in Counter(rule.id for rule in rules).items() if count > 1]
    if twice:
        raise DataError(f"rules file {path}: the id {twice[0]!r} stands more than once; ids must differ")
    return tuple(rules)
