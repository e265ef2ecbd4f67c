"""Whom a step asks about a person."""
