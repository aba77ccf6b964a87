"""What a folder of pictures holds: one rule for every command that reads one.

Enters: names of files. Leaves: which of them are images, by their suffix. Does not know: what is in a file.
"""

import os

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"}


def has_image_suffix(name: str) -> bool:
    """Whether a name ends as those of images do."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  # names of archives are no paths
