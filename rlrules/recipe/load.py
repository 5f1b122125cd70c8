"""From YAML files and dotted overrides to one validated recipe, with every error at its line."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from typing_extensions import TypeVar

from rlrules.errors import RecipeError
from rlrules.recipe.schema import RECIPES, GrpoRecipe, Recipe
from rlrules.rewards.base import ScorerConfig, config_class, scorer_config
from rlrules.rewards.objective import AnyObjectiveConfig
from rlrules.rewards.objective_base import ObjectiveConfig

Keys = tuple[str | int, ...]
Problem = Callable[[Keys, str], str]
"""Makes a line of a dotted path and a message."""
Layer = tuple[str, Mapping[str, Any]]
"""Where it comes from, for messages, and keys."""
Further = Callable[[Mapping[str, Any], Problem], list[str]]
M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=Recipe)
R_co = TypeVar("R_co", bound=Recipe, covariant=True, default=GrpoRecipe)
BASE = "base"


@dataclass(slots=True)
class Sources:
    """Where each key of a merged mapping came from: "file:line" or "override"."""

    by_path: dict[Keys, str] = field(default_factory=dict)
    file: str = ""

    def locate(self, path: Keys) -> str:
        """The place of `path`, or of its nearest ancestor that stands in a file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.by_path:
                return self.by_path[path[:length]]
        return self.file

    def forget(self, path: Keys) -> None:
        """Drop `path` and all below it."""
        self.by_path = {key: at for key, at in self.by_path.items() if key[: len(path)] != path}


@dataclass(frozen=True, slots=True)
class LoadedRecipe(Generic[R_co]):
    """A validated recipe and where its parts came from."""

    recipe: R_co
    path: Path
    sources: Sources

    def problem(self, path: Keys, message: str) -> str:
        """One line: place, dotted path, message."""
        return _problem(self.sources, path, message)

    def of(self, kind: type[R]) -> "LoadedRecipe[R]":
        """This recipe as one of another method.

        Raises:
            RecipeError: It is none.
        """
        if isinstance(self.recipe, kind):
            return cast("LoadedRecipe[R]", self)
        wanted = next(method for method, other in RECIPES.items() if other is kind)
        raise RecipeError([self.problem(("method",), f"is {self.recipe.method}; this needs a recipe of {wanted}")])


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), further: Further | None = None
) -> LoadedRecipe[Recipe]:
    """Load a recipe with its bases and overrides.

    Args:
        path: The YAML file.
        overrides: Dotted assignments such as `training.learning_rate=1e-6`; values are YAML, `null` removes.
        further: Finds more problems in the merged mapping, to be told together with all others.

    Raises:
        RecipeError: All problems found, a line each.
    """
    merged, sources = _merge_files(Path(path), overrides)
    merged.setdefault("name", Path(path).stem)
    method = merged.setdefault("method", "grpo")
    if not isinstance(method, str) or method not in RECIPES:
        hint = did_you_mean(str(method), RECIPES)
        raise RecipeError([_problem(sources, ("method",), f"no method {method!r}{hint}")])
    kind = RECIPES[method]
    problems = _foreign_sections(merged, kind, sources)
    rewards = merged.get("rewards")
    if isinstance(rewards, dict):
        merged["rewards"] = {name: _reward(name, section, sources, problems) for name, section in rewards.items()}
    try:
        recipe = kind.model_validate(merged)
    except ValidationError as error:
        problems += validation_problems(error, kind, merged, sources)
    problems += _reference_problems(merged, sources)
    if further is not None:
        problems += further(merged, lambda keys, message: _problem(sources, keys, message))
    if problems:
        raise RecipeError(problems)
    return LoadedRecipe(recipe, Path(path), sources)


def load_mapping(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Load any YAML mapping by the same rules of inheritance and overriding, unvalidated.

    Raises:
        RecipeError: A file is missing or not a YAML mapping, the bases form a cycle, an override is malformed.
    """
    return _merge_files(Path(path), overrides)[0]


def load_config(path: str | Path, overrides: Sequence[str], model: type[M], layers: Sequence[Layer] = ()) -> M:
    """Load any YAML file by the same rules and validate it.

    Args:
        path: The YAML file.
        overrides: Dotted assignments.
        model: What it is validated against.
        layers: Mappings that go over both, in order.

    Raises:
        RecipeError: All problems found, a line each.
    """
    content, sources = _merge_files(Path(path), overrides, layers)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise RecipeError(validation_problems(error, model, content, sources)) from error


def dump_resolved(config: BaseModel, path: Path) -> None:
    """Write a recipe or configuration with everything merged and defaulted, so that it loads to the same."""
    content = json.loads(config.model_dump_json(exclude_none=True, serialize_as_any=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`: mappings merge, lists and scalars replace, null removes.

    A mapping whose `type` differs from the inherited one's replaces it whole: its other fields belong to another
    kind of thing.
    """
    merged = dict(below)
    for key, value in above.items():
        inherited = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(inherited, Mapping) and not _other_type(inherited, value):
            merged[key] = merge(inherited, value)
        else:
            merged[key] = merge({}, value) if isinstance(value, Mapping) else value
    return merged


def validation_problems(
    error: ValidationError, model: type[BaseModel], content: object, sources: Sources, at: Keys = ()
) -> list[str]:
    """One line per problem pydantic found: place, dotted path, message, and the key that was probably meant.

    Args:
        error: What pydantic raised for `content`.
        model: The model that `content` was validated against.
        content: The merged mapping.
        sources: Where its keys came from.
        at: Path of `content` in the whole recipe.
    """
    problems: list[str] = []
    for entry in error.errors():
        message = entry["msg"].removeprefix("Value error, ")
        if entry["type"] == "extra_forbidden":
            message = "unknown key" + did_you_mean(str(entry["loc"][-1]), _fields_at(model, entry["loc"][:-1]))
        elif entry["type"] == "missing":
            message = "is missing"
        keys = at + _without_tags(entry["loc"], content)
        problems += [_problem(sources, keys, part) for part in message.split("\n")]
    return problems


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the known words where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f" (known: {', '.join(known)})" if 0 < len(known) <= 20 else ""


def _foreign_sections(merged: dict[str, Any], kind: type[Recipe], sources: Sources) -> list[str]:
    """Take out the sections that only other methods have; a line for each."""
    problems: list[str] = []
    for section in [key for key in merged if key not in kind.model_fields]:
        having = [method for method, other in RECIPES.items() if section in other.model_fields]
        if having:
            message = f"belongs to method {' or '.join(having)}; remove it from a recipe of {merged['method']}"
            problems.append(_problem(sources, (section,), message))
            del merged[section]
    return problems


def _reward(name: str, section: object, sources: Sources, problems: list[str]) -> ScorerConfig:
    try:
        return scorer_config(section)
    except ValidationError as error:
        model = config_class(section["type"])  # type: ignore[index]
        problems += validation_problems(error, model, section, sources, ("rewards", name))
    except ValueError as error:
        problems.append(_problem(sources, ("rewards", name), str(error)))
    # Stands in, so that the rest of the recipe is checked as well and names of rewards are known.
    return ScorerConfig(type="invalid")


def _reference_problems(merged: Mapping[str, Any], sources: Sources) -> list[str]:
    problems: list[str] = []
    rewards, judges = merged.get("rewards"), merged.get("judges") or {}
    if not isinstance(rewards, dict) or not isinstance(judges, Mapping):
        return problems
    for name, reward in rewards.items():
        for judge in reward.judge_names():
            if judge not in judges:
                message = f"no judge {judge!r} in `judges`{did_you_mean(judge, judges)}"
                problems.append(_problem(sources, ("rewards", name, "judge"), message))
    sampling = merged.get("sampling")
    signal = sampling.get("signal") if isinstance(sampling, Mapping) else None
    if isinstance(signal, str) and signal not in rewards:
        message = f"no reward {signal!r} in `rewards`{did_you_mean(signal, rewards)}"
        problems.append(_problem(sources, ("sampling", "signal"), message))
    try:
        objective = TypeAdapter[ObjectiveConfig](AnyObjectiveConfig).validate_python(merged.get("objective"))
    except ValidationError:
        return problems  # Said already.
    for used in objective.rewards_used():
        if used not in rewards:
            message = f"no reward {used!r} in `rewards`{did_you_mean(used, rewards)}"
            problems.append(_problem(sources, ("objective",), message))
    return problems


def _merge_files(path: Path, overrides: Sequence[str], layers: Sequence[Layer] = ()) -> tuple[dict[str, Any], Sources]:
    chain = _chain(path)
    sources = Sources(file=str(path))
    merged: dict[str, Any] = {}
    for file, content in reversed(chain):
        content.pop(BASE, None)
        _record(content, (), str(file), merged, sources)
        merged = merge(merged, _plain(content))
    assigned = [(f"override {override.partition('=')[0]}", _override(override)) for override in overrides]
    for origin, layer in [*assigned, *layers]:
        _record(layer, (), origin, merged, sources)
        merged = merge(merged, layer)
    return merged, sources


def _chain(path: Path) -> list[tuple[Path, CommentedMap]]:
    chain: list[tuple[Path, CommentedMap]] = []
    seen: list[Path] = []
    file = path
    while True:
        if file.resolve() in seen:
            names = " -> ".join(str(entry) for entry, _ in chain)
            raise RecipeError([f"{chain[-1][0]}: base: {names} -> {file} is a cycle; remove one `base:`"])
        seen.append(file.resolve())
        content = _read(file)
        chain.append((file, content))
        base = content.get(BASE)
        if base is None:
            return chain
        if not isinstance(base, str):
            raise RecipeError([f"{file}: base: expected one file name, got {type(base).__name__}"])
        file = file.parent / base


def _read(path: Path) -> CommentedMap:
    try:
        content = YAML().load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RecipeError([f"{path} does not exist (looked in {Path.cwd()})"]) from None
    except IsADirectoryError:
        raise RecipeError([f"{path} is a folder, not a YAML file"]) from None
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecipeError([f"{path}{line}: not valid YAML: {error.problem or error.context}"]) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise RecipeError([f"{path}: not valid YAML: {str(error).splitlines()[0]}"]) from error
    if not isinstance(content, CommentedMap):
        raise RecipeError([f"{path}: expected a mapping of keys at the top"])
    return content


def _plain(value: Any) -> Any:
    # The loader's own number and text types remember how they were written, and would end up pickled in checkpoints.
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise RecipeError([f"override {text!r}: expected dotted.path=value"])
    try:
        parsed = YAML(typ="safe", pure=True).load(value) if value.strip() else ""
    except YAMLError as error:
        raise RecipeError([f"override {key}: not a YAML value: {value!r}"]) from error
    *above, last = key.split(".")
    layer: dict[str, Any] = {last: parsed}
    for part in reversed(above):
        layer = {part: layer}
    return layer


def _record(content: Any, path: Keys, file: str, merged: Any, sources: Sources) -> None:
    for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
        here = (*path, key)
        inherited = merged.get(key) if isinstance(merged, Mapping) else None
        merges = isinstance(value, Mapping) and isinstance(inherited, Mapping) and not _other_type(inherited, value)
        if not merges:
            sources.forget(here)
            line = ""
            if isinstance(content, CommentedMap):
                line = f":{content.lc.key(key)[0] + 1}"
            elif isinstance(content, CommentedSeq):
                line = f":{content.lc.item(key)[0] + 1}"
            sources.by_path[here] = f"{file}{line}"
        if isinstance(value, (Mapping, list)):
            _record(value, here, file, inherited if merges else None, sources)


def _other_type(inherited: Any, value: Any) -> bool:
    return "type" in value and "type" in inherited and value["type"] != inherited["type"]


def _problem(sources: Sources, path: Keys, message: str) -> str:
    dotted = ".".join(str(part) for part in path)
    return f"{sources.locate(path)}: {dotted}: {message}" if dotted else f"{sources.file}: {message}"


def _without_tags(loc: Keys, content: object) -> Keys:
    # pydantic puts the member that `type` chose from a union into the location; it is no key of the file.
    keys: list[str | int] = []
    for part in loc:
        if isinstance(content, Mapping) and part not in content and content.get("type") == part:
            continue
        keys.append(part)
        if isinstance(content, Mapping):
            content = content.get(part)
        elif isinstance(content, list) and isinstance(part, int) and part < len(content):
            content = content[part]
        else:
            content = None
    return tuple(keys)


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    known: list[type[BaseModel]] = [model]
    for part in loc:
        below: list[type[BaseModel]] = []
        for candidate in known:
            if part in candidate.model_fields:
                below += _models_in(candidate.model_fields[str(part)].annotation)
        tagged = [m for m in known + below if "type" in m.model_fields and m.model_fields["type"].default == part]
        known = tagged or below or known
    return sorted({name for candidate in known for name in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
