"""What a user names -> images in a fixed order: folders, lists, archives and tables."""
