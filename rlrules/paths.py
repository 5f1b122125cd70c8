"""Where files go that outlive a run: converted models, judges' answers, servers' logs."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The user's cache folder of this package, made if missing.

    Environment variable `RLRULES_CACHE` replaces it: by a shared disk on a cluster, by a test's own folder.
    """
    override = os.environ.get("RLRULES_CACHE")
    path = Path(override).expanduser().absolute() if override else platformdirs.user_cache_path("rlrules")
    path.mkdir(parents=True, exist_ok=True)
    return path
