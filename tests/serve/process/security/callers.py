"""The secrets of two callers."""

ALICES, BOBS = "alices-secret-of-many-letters", "bobs-secret-of-many-letters"
SECRETS = (ALICES.encode(), BOBS.encode())
