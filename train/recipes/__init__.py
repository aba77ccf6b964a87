"""What a run is, as data. No Keras comes in with this room."""
