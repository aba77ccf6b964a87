"""What the process asks of the machine: cores, priorities, memory, an event loop. It knows nothing of models."""
