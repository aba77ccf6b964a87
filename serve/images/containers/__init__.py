"""TIFF and AVIF: what the header of a file announces, and what its data say, without decoding."""
