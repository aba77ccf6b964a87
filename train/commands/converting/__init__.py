"""A trained model -> a file that is served: the command, and what it leaves."""
