"""The HTTP door: a page to try the models, and their API over HTTP. It is a client of the gRPC server, nothing more."""
