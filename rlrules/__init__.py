"""Post-train language models with reinforcement learning from rules."""

__version__ = "0.1.0"
