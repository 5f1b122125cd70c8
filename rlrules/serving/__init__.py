"""A recipe's rewards as a service."""
