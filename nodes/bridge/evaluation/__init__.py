"""Evaluating a personalization on loaded models."""
