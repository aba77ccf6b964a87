"""Parts of the commands of the client: flags, the images that a command line names, and what is printed."""
