"""The version of the compiler: what `--version` prints and what results carry in their metadata."""

__version__ = "0.1.0"
