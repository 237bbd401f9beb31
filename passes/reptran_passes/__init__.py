"""The built-in rules: canonicalisation and RepTran, one idea a file, written against the public pass API only.

Each is registered by an entry point of the group `reptran_compiler.passes`, as anyone's rules are.
"""
