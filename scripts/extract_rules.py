"""AutoRule's rules from preferences: python scripts/extract_rules.py extract|merge|report CONFIG.yaml."""

from rlrules.environment import prepare_environment
from rlrules.rules.cli import app

if __name__ == "__main__":
    prepare_environment()
    app()
