"""Rows of answers -> one file: formats, and the shards that an interrupted run goes on from."""
