"""The name of a Python package -> its installed version, by whichever distribution it came.

Enters: a package's name. Leaves: its version. Does not know: what the package is for. It imports none.
"""

OTHER_NAMES = {"onnxruntime": ("onnxruntime-gpu",)}
"""Other distributions that bring the same package, by its name."""
UNKNOWN = "unknown"
"""The version of a package that no known distribution brought, such as a folder of code."""


def find_version(package: str) -> str:
    """The version of an installed package; UNKNOWN if no distribution of it is found."""
    from importlib import metadata  # here: it costs a start more than all else that a supervisor imports

    for name in (package, *OTHER_NAMES.get(package, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return UNKNOWN
