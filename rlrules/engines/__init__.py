"""Servers of models: starting, watching and stopping them."""
