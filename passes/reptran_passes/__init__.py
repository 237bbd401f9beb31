"""The built-in rules: canonicalisation and RepTran, written against the public pass API only."""
