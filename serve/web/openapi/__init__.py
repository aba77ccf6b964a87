"""What the door answers, described in OpenAPI 3.1 and as a page to read."""
