"""Judging a personalization on loaded models."""
