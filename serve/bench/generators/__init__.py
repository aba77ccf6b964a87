"""Load generators, a file for each: serialized requests at a set concurrency or rate -> a `Measurement`."""
