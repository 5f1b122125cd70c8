"""Scoring a group of completions."""
