"""What a rule from elsewhere does to its process while it is called is kept from the compilation, or put back."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def shielded() -> Iterator[None]:
    """Within the block, what is printed goes to standard error (standard output may be the model's), and standard input
    is at its end; behind it, these, the working folder and NumPy's handling of errors are as they were."""
    streams, folder = (sys.stdin, sys.stdout), os.getcwd()
    sys.stdin, sys.stdout = io.StringIO(), sys.stderr
    try:
        with np.errstate():
            yield
    finally:
        sys.stdin, sys.stdout = streams
        if os.getcwd() != folder:
            os.chdir(folder)
