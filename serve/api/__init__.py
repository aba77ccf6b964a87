"""gRPC: the services, and the gate that every call passes. What an answer is comes from inference."""
