"""The benchmarks of a recipe's `eval` section, run on the model that was just trained and saved."""

from rlrules.evaluation.benchmarks import BENCHMARKS, run_benchmark
from rlrules.evaluation.record import as_jsonable
from rlrules.recipe.evaluations import evaluation_config
from rlrules.recipe.load import LoadedRecipe, dump_resolved
from rlrules.recipe.schema import Recipe
from rlrules.terminal import progress_bars
from rlrules.training.log import RunLog, result_folder

CONFIG = "config.yaml"


def evaluate(loaded: LoadedRecipe[Recipe], log: RunLog, step: int, device: str) -> None:
    """Run every evaluation of the recipe; one that fails is said and logged, and fails nothing else.

    Args:
        loaded: The recipe.
        log: The run's log, beside the saved model.
        step: The last step.
        device: Where the trained model runs, by torch's name.
    """
    for name, section in loaded.recipe.eval.items():
        folder = result_folder(log.folder, name, step)
        again = f"rlrules eval {section.type} {folder / CONFIG} -o {folder}"
        try:
            config = evaluation_config(loaded, name, str(log.folder / "model"), device)
            dump_resolved(config, folder / CONFIG)
            with progress_bars() as tell:
                metrics = as_jsonable(run_benchmark(section.type, config, folder, tell))
        except Exception as error:  # The model is trained and saved; a judge that is down must not make it a failure.
            log.metrics(step, {f"eval/{name}/failed": 1})
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"evaluation {name!r} failed: {reason}; do what is missing: {again}", flush=True)
            continue
        numbers = {key: value for key, value in metrics.items() if type(value) in (int, float)}
        log.metrics(step, {f"eval/{name}/failed": 0} | {f"eval/{name}/{key}": value for key, value in numbers.items()})
        told = [f"{key} {numbers[key]:.4g}" for key in BENCHMARKS[section.type].headline if key in numbers]
        print(f"evaluation {name!r}: {', '.join(told)}; {folder / 'page.html'}", flush=True)
