"""Stubs generated from proto/inkling/v1 by `make proto`. Not edited by hand."""
