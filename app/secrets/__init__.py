"""Secrets: a type that never shows itself, and the places in which one is kept."""
