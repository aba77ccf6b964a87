"""What the commands of the client share: the images that a command line names, and what they print."""
