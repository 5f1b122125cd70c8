"""Run directories as HTML pages."""
