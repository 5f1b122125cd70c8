"""Whether the installed packages are the ones this package was built against."""

from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

# The packages that move together and break each other in ways that do not name the cause.
_COUPLED = ("accelerate", "datasets", "peft", "torch", "transformers", "trl")


def version_problems() -> list[str]:
    """One line for every coupled package that is missing or of a wrong version, with the command that mends it."""
    problems: list[str] = []
    for text in requires("rlrules") or []:
        wanted = Requirement(text)
        if wanted.name not in _COUPLED or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = "none"
        if found == "none" or not wanted.specifier.contains(found, prereleases=True):
            problems.append(
                f"{wanted.name} {found} is installed, {wanted.name}{wanted.specifier} is needed: "
                f"pip install '{wanted.name}{wanted.specifier}'"
            )
    return problems
