"""The flags of each door -> the whole way from data to files."""
