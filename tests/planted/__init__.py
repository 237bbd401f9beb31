"""Planted bugs: a catalogue of miscompilations, planted by code, that the judge must see.

`catalogue.THEMES` lists them, `subjects` the networks that they are planted in, `gate.try_kind` plants one and asks the
compiler's gate, `harmless.HARMLESS` are changes that the gate must let pass.
"""
