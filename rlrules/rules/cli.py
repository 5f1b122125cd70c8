"""`rlrules rules extract|merge|report`: preferences -> rules -> agreement report."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlrules.data.asking import asking
from rlrules.errors import RecipeError
from rlrules.terminal import print_table, told

if TYPE_CHECKING:
    from rlrules.rules.config import ExtractionConfig

app = typer.Typer(no_args_is_help=True, help=__doc__)

Config = Annotated[str, typer.Argument(help="YAML file: {judge, data, pairs, source, chunk, report}.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Dotted assignments: data.limit=24 source=explanation")]
Folder = Annotated[Path, typer.Option("-o", "--out", help="Folder of all files; the same one goes on where it was.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many preferences.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count prompts and estimate tokens; asks nothing.")]


@app.command()
def extract(
    config: Config,
    overrides: Overrides = None,
    out: Folder = Path("rules"),
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    """Preferences to rules.json: explain every pair, take rules from the explanations, merge them."""
    with told():
        settings = _settings(config, [*(overrides or ()), *([f"data.limit={limit}"] if limit else [])])
        preferences = settings.data.load()
        if dry_run:
            from rlrules.rules.estimate import estimate

            rows = {
                stage.stage: f"{stage.calls:,} prompts, about {stage.prompt_tokens:,} tokens; "
                f"answers at most {stage.answer_tokens:,} tokens"
                for stage in estimate(settings, preferences)
            }
            print_table(f"{config}: {len(preferences)} preferences, nothing asked", rows)
            return
        from rlrules.rules.pipeline import run_extraction

        made = asking(settings.judge, lambda judge, tell: run_extraction(settings, preferences, judge, out, tell))
    print_table(f"{len(made.rules)} rules -> {out / 'rules.json'}", made.parent_counts)
    unanswered = [made.parent_counts[name] for name in ("not_explained", "pairs_unanswered", "failed_calls")]
    if any(unanswered):
        print(
            "{} explanations, {} extractions and {} merges got no usable answer; the same command asks again for "
            "those that the judge did not answer at all".format(*unanswered),
            file=sys.stderr,
        )


@app.command()
def merge(
    config: Config,
    overrides: Overrides = None,
    inputs: Annotated[
        list[Path] | None, typer.Option("--from", help="A candidates.jsonl or a rules.json; may be repeated.")
    ] = None,
    out: Folder = Path("rules"),
    dry_run: DryRun = False,
) -> None:
    """Merge candidates or rules files into one rules.json; of the configuration `judge` and `chunk` count."""
    with told():
        settings = _settings(config, overrides or ())
        if not inputs:
            raise RecipeError(["--from is missing: name a candidates.jsonl or a rules.json, once for each file"])
        if dry_run:
            from rlrules.rules.inputs import read_candidates

            count = len(read_candidates(inputs))
            calls = -(-count // settings.chunk)
            print_table(f"{count} candidates, nothing asked", {"merge, round 1": f"{calls} prompts"})
            return
        from rlrules.rules.pipeline import run_merge

        files = inputs
        made = asking(settings.judge, lambda judge, tell: run_merge(settings, files, judge, out, tell))
    print_table(f"{len(made.rules)} rules -> {out / 'rules.json'}", made.parent_counts)


@app.command()
def report(
    config: Config,
    rules: Annotated[Path, typer.Argument(help="The rules file.")],
    overrides: Overrides = None,
    out: Folder = Path("rules"),
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    """How far rules agree with preferences: report.json and report.html."""
    with told():
        settings = _settings(config, overrides or ())
        data = settings.report.data or settings.data
        if limit:
            data = data.model_copy(update={"limit": limit})
        from rlrules.rewards.rule_set import load_rules

        loaded, preferences = load_rules(rules), data.load()
        verdicts = 2 * len(preferences) * len(loaded) * settings.report.repeats
        if dry_run:
            print_table(f"{len(loaded)} rules, {len(preferences)} preferences, nothing asked", {"verdicts": verdicts})
            return
        from rlrules.rules.report import run_report

        made = asking(
            settings.report.judge or settings.judge,
            lambda judge, tell: run_report(settings.report, loaded, preferences, judge, out, tell),
        )
    shares = {name: _percent(share) for name, share in made["set_accuracy"].items()}
    rows = {f"set accuracy, {name.replace('_', ' ')}": share for name, share in shares.items()} | made["counts"]
    print_table(f"{out / 'report.html'}, {out / 'report.json'}", rows)


def _percent(share: Mapping[str, Any]) -> str:
    if not share["n"]:
        return "no pair with verdicts on both answers"
    return f"{share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%}, n = {share['n']})"


def _settings(path: str, overrides: Sequence[str]) -> "ExtractionConfig":
    from rlrules.recipe.load import load_config
    from rlrules.rules.config import ExtractionConfig

    return load_config(path, overrides, ExtractionConfig)
