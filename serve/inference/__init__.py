"""One loaded model, many callers; and the set of models that are live."""
