"""Recipes: YAML in, one validated object out."""
