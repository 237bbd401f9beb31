"""Verifying a pair of files that exist, for continuous integration: `verify_pair`.

`Verification.passed` tells whether all is well, `Verification.failures` what is not, `Verification.exit_code` what
`reptran-verify` ends with.
"""

from reptran_compiler.gate.verifying import verify_pair
from reptran_compiler.reporting import Check, Verification

__all__ = ["Check", "Verification", "verify_pair"]
