"""One epoch: what it shows, what it wants as answers, and how a model is taken through it."""
