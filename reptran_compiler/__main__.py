"""`python -m reptran_compiler`: the same as `reptran-compile`."""

import sys

from reptran_compiler.cli.main import main

sys.exit(main())
