"""Stubs generated from the .proto files under proto/ by `make proto`. Not edited by hand."""
