"""Images -> images as cameras, files and screens leave them: a module for each family of changes."""
