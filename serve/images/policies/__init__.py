"""Policies, a file for each version: a decoded image -> the pixels that a model takes."""
