"""One self-contained HTML page of a run: curves, rules, the judges' health, completions, the recipe.

The page loads nothing and runs no script; what the policy wrote is data, escaped by the template engine and kept
harmless by the page's own content security policy.
"""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from rlrules import __version__
from rlrules.errors import DataError
from rlrules.reporting.domains import domain_rows
from rlrules.reporting.run_data import read_run
from rlrules.reporting.samples import read_completions
from rlrules.reporting.text import duration, number, percent, share, signed
from rlrules.reporting.views import page
from rlrules.training.log import COMPLETIONS

REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run directory.

    Args:
        folder: The run directory, of a finished, a running or a crashed run.

    Returns:
        The page's path.

    Raises:
        DataError: `folder` is no run directory, or cannot be written to.
    """
    run = read_run(folder)
    completions = read_completions(folder / COMPLETIONS)
    shown = {"page": page(run, completions, folder), "domains": domain_rows(run)}
    template = _environment().get_template("run_report.html.jinja")
    html = template.render(**shown, run=run, completions=completions, version=__version__)
    path = folder / REPORT
    # A reader of the page during training sees the old one or the new one, never half of it.
    draft = path.with_suffix(".draft")
    try:
        draft.write_text(html, "utf-8")
        draft.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}): free space or allow writing there") from error
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rlrules.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"num": number, "signed": signed, "share": share, "percent": percent, "duration": duration}
    return environment
