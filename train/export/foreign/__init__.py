"""A trained model from elsewhere -> a graph from uint8 images to probabilities, compared with the model itself."""
